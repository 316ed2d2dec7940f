//! What happens in a story.

use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;

use super::SLOTS;
use super::chance::wish;
use super::wish::{TagWish, Wish};

/// The name of the one proxy class.
pub(crate) const CLASS: &str = "shared";

/// What happens, one after the other.
#[derive(Clone, Debug)]
pub struct Story {
    /// The events.
    pub beats: Vec<Beat>,
    /// Whether the operator's credentials are refused at the end, for good.
    pub refused_at_the_end: bool,
}

impl fmt::Display for Story {
    /// One event a line.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Beat { step, rounds } in &self.beats {
            writeln!(formatter, "{step:?}, then {rounds} rounds")?;
        }
        writeln!(formatter, "refused at the end: {}", self.refused_at_the_end)
    }
}

/// One event, and how much everybody gets done before the next.
#[derive(Clone, Debug)]
pub struct Beat {
    /// The event.
    pub step: Step,
    /// Rounds of work.
    pub rounds: u8,
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The owner writes a Service, new or over the one there is.
    Put(u8, Wish),
    /// The owner deletes a Service.
    Delete(u8),
    /// The proxy class changes.
    Class(ClassState),
    /// The device that comes and goes comes or goes.
    Fickle(bool),
    /// Somebody lays hands on a part of a Service's proxy.
    Tamper(u8, Part, Hand),
    /// Somebody takes the finalizer off a Service.
    Unhold(u8),
    /// Somebody removes the device of a Service's proxy in the tailnet's admin pages.
    RemoveDevice(u8),
    /// Somebody revokes all auth keys in the tailnet's admin pages.
    RevokeKeys,
    /// So many calls to the tailnet's API meet trouble.
    Calls(Trouble, u8),
    /// So many writes to the API server meet trouble.
    Writes(Refusal, u8),
    /// The operator is stopped and started.
    Restart,
    /// The operator dies after so many actions of its next look, and another one takes over.
    Crash(u8),
    /// The operator's caches stand still until the next settling.
    Lag,
    /// The proxy of a Service sleeps until the next settling.
    Sleep(u8),
    /// Minutes pass.
    Wait(u8),
    /// All troubles end, and everybody works until there is nothing to do.
    Settle,
}

/// How the proxy class is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClassState {
    /// It does not exist.
    Gone,
    /// It can be used.
    Good,
    /// It can be used and says something else.
    Other,
    /// It can be used, but its image cannot be had.
    NoImage,
    /// It is impossible.
    Invalid,
}

/// A part of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The headless Service.
    HeadlessService,
    /// The Secret.
    Secret,
    /// The ServiceAccount.
    ServiceAccount,
    /// The Role.
    Role,
    /// The RoleBinding.
    RoleBinding,
    /// The StatefulSet.
    StatefulSet,
    /// The Pod.
    Pod,
}

/// What a hand does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    /// Deletes.
    Delete,
    /// Edits.
    Edit,
}

/// Trouble with the tailnet's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// 404, but never for what is to be deleted: that would be a lie nobody can see through.
    NotFound,
    /// 5xx before anything was done.
    Server,
    /// 5xx after all was done.
    Lost,
    /// 429
    TooMany,
    /// 401
    Credentials,
}

/// Trouble with the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 409
    Conflict,
    /// 403
    Forbidden,
    /// 5xx before anything was done.
    Server,
    /// 5xx after all was done.
    Lost,
}

fn slot() -> impl Strategy<Value = u8> {
    0..SLOTS
}

fn class() -> impl Strategy<Value = ClassState> {
    prop_oneof![
        1 => Just(ClassState::Gone), 3 => Just(ClassState::Good), 2 => Just(ClassState::Other),
        1 => Just(ClassState::NoImage), 1 => Just(ClassState::Invalid)
    ]
}

fn part() -> impl Strategy<Value = Part> {
    prop_oneof![
        Just(Part::HeadlessService),
        Just(Part::Secret),
        Just(Part::ServiceAccount),
        Just(Part::Role),
        Just(Part::RoleBinding),
        Just(Part::StatefulSet),
        Just(Part::Pod)
    ]
}

fn hand() -> impl Strategy<Value = Hand> {
    prop_oneof![Just(Hand::Delete), Just(Hand::Edit)]
}

fn edit() -> impl Strategy<Value = Step> {
    prop_oneof![
        7 => (slot(), wish()).prop_map(|(slot, wish)| Step::Put(slot, wish)),
        2 => slot().prop_map(Step::Delete),
        2 => class().prop_map(Step::Class),
    ]
}

fn fault() -> impl Strategy<Value = Step> {
    let trouble = prop_oneof![
        Just(Trouble::NotFound),
        Just(Trouble::Server),
        Just(Trouble::Lost),
        Just(Trouble::TooMany),
        Just(Trouble::Credentials)
    ];
    let refusal = prop_oneof![
        Just(Refusal::Conflict),
        Just(Refusal::Forbidden),
        Just(Refusal::Server),
        Just(Refusal::Lost)
    ];
    prop_oneof![
        2 => any::<bool>().prop_map(Step::Fickle),
        4 => (slot(), part(), hand()).prop_map(|(slot, part, hand)| Step::Tamper(slot, part, hand)),
        1 => slot().prop_map(Step::Unhold),
        1 => slot().prop_map(Step::RemoveDevice),
        1 => Just(Step::RevokeKeys),
        2 => (trouble, 1..6_u8).prop_map(|(trouble, count)| Step::Calls(trouble, count)),
        2 => (refusal, 1..6_u8).prop_map(|(refusal, count)| Step::Writes(refusal, count)),
        1 => Just(Step::Restart),
        2 => (0..10_u8).prop_map(Step::Crash),
        2 => Just(Step::Lag),
        1 => slot().prop_map(Step::Sleep),
        1 => (1..90_u8).prop_map(Step::Wait),
    ]
}

/// Any story.
pub fn story() -> impl Strategy<Value = Story> {
    let step = prop_oneof![5 => edit(), 4 => fault(), 2 => Just(Step::Settle)];
    let beat = (step, prop_oneof![Just(0_u8), Just(1), Just(2), Just(4)]);
    let beats = vec(beat.prop_map(|(step, rounds)| Beat { step, rounds }), 1..11);
    let end = prop_oneof![15 => Just(false), 1 => Just(true)];
    (beats, end).prop_map(|(beats, refused_at_the_end)| Story {
        beats,
        refused_at_the_end,
    })
}

/// A story that can be told to a cluster in half a minute, and that settles after every event. What the API server refuses
/// by itself, and tags of which a control server must have heard, are for [`story`] alone.
pub fn on_a_cluster() -> impl Strategy<Value = Story> {
    let edit = edit().prop_map(|mut step| {
        if step == Step::Class(ClassState::Invalid) {
            step = Step::Class(ClassState::Good);
        }
        if let Step::Put(_, wish) = &mut step
            && matches!(wish.tags, TagWish::Web | TagWish::Both)
        {
            wish.tags = TagWish::Default;
        }
        step
    });
    let fault = prop_oneof![
        4 => (slot(), part(), hand()).prop_map(|(slot, part, hand)| Step::Tamper(slot, part, hand)),
        1 => Just(Step::Restart),
    ];
    let step = prop_oneof![6 => edit, 2 => fault];
    let beats = vec(step.prop_map(|step| Beat { step, rounds: 0 }), 3..7);
    beats.prop_map(|beats| Story {
        beats,
        refused_at_the_end: false,
    })
}
