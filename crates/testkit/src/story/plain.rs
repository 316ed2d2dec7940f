//! The plain model: what should be there when all is quiet.

use super::SLOTS;
use super::steps::{ClassState, Part};
use super::wish::{Address, Asked, Carry, TagWish, Wish};

/// A name that leads nowhere while its device is not there.
const NOWHERE: Carry = Carry::Device(Address::Fickle, true);

/// What is known of a story so far.
#[derive(Clone, Debug)]
pub struct Plain {
    /// The Services by number.
    pub slots: Vec<Slot>,
    /// The proxy class.
    pub class: ClassState,
    /// Whether the device that comes and goes is there.
    pub fickle: bool,
}

/// What is known of one Service.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    /// What its owner wishes; nothing when there is no such Service.
    pub wish: Option<Wish>,
    /// What its proxy carried when all was quiet last.
    carried: Option<Carry>,
    /// What it may have carried since.
    since: Vec<Carry>,
    /// Whether something since may have stopped its proxy, or made another of it.
    disturbed: bool,
}

/// Why a condition is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// All is well.
    Created,
    /// Something is waited for.
    Pending,
    /// Somebody refuses.
    Failed,
    /// The wish is impossible.
    Invalid,
}

/// Whether something is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It must be.
    Must,
    /// It may be.
    May,
    /// It must not be.
    MustNot,
}

/// What should be there of one Service when all is quiet.
#[derive(Clone, Debug)]
pub struct Expected {
    /// What its proxy carries: one of these. A name that no device has leads nowhere.
    pub carries: Vec<Option<Carry>>,
    /// The condition's reason; nothing for a Service that has none.
    pub reason: Option<Reason>,
    /// Fields of which the message names one at its beginning, when the wish is impossible.
    pub fields: Vec<String>,
    /// The device.
    pub device: Presence,
}

impl Default for Plain {
    fn default() -> Self {
        Self {
            slots: vec![Slot::default(); usize::from(SLOTS)],
            class: ClassState::Gone,
            fickle: false,
        }
    }
}

impl Plain {
    /// What one Service should have come to.
    pub fn expected(&self, slot: u8) -> Expected {
        let slot = &self.slots[usize::from(slot)];
        let nothing = Expected {
            carries: vec![None],
            reason: None,
            fields: Vec::new(),
            device: Presence::MustNot,
        };
        let Some(wish) = &slot.wish else { return nothing };
        match wish.asked() {
            Asked::Nothing => nothing,
            // What worked stays.
            Asked::Impossible(fields) => Expected {
                carries: slot.history(),
                reason: Some(Reason::Invalid),
                fields,
                device: Presence::May,
            },
            Asked::Carry(carry) => self.carried(slot, wish, carry),
        }
    }

    fn carried(&self, slot: &Slot, wish: &Wish, carry: Carry) -> Expected {
        let class = wish.class.map(|_| self.class);
        let runs = slot.runs();
        let state = |carries: Vec<Option<Carry>>, reason, device| Expected {
            carries,
            reason: Some(reason),
            fields: Vec::new(),
            device,
        };
        match class {
            Some(ClassState::Gone | ClassState::Invalid) if runs => {
                state(vec![Some(carry)], Reason::Pending, Presence::Must)
            }
            Some(ClassState::Gone | ClassState::Invalid) => {
                let mut carries = slot.history();
                carries.push(Some(carry));
                state(carries, Reason::Pending, Presence::May)
            }
            Some(ClassState::NoImage) if wish.tags == TagWish::Forbidden => {
                state(vec![None], Reason::Failed, Presence::May)
            }
            Some(ClassState::NoImage) => state(vec![None], Reason::Pending, Presence::May),
            _ if wish.tags == TagWish::Forbidden => {
                let carries = if runs {
                    vec![Some(carry)]
                } else {
                    vec![Some(carry), None]
                };
                state(carries, Reason::Failed, Presence::May)
            }
            _ if carry == NOWHERE && !self.fickle => state(vec![Some(carry)], Reason::Pending, Presence::Must),
            _ => state(vec![Some(carry)], Reason::Created, Presence::Must),
        }
    }

    /// The owner wrote a Service.
    pub fn put(&mut self, slot: u8, wish: &Wish) {
        let class = self.class;
        let slot = &mut self.slots[usize::from(slot)];
        // The wish of before may have come true meanwhile, when its class or its device came.
        for wish in slot.wish.iter().chain([wish]) {
            if let Asked::Carry(carry) = wish.asked() {
                slot.since.push(carry);
            }
        }
        let ends = wish.asked() == Asked::Nothing;
        let breaks = wish.class.is_some() && class == ClassState::NoImage;
        slot.disturbed |= ends || breaks || wish.tags == TagWish::Forbidden;
        slot.wish = Some(wish.clone());
    }

    /// A Service is gone, or its owner deleted it.
    pub fn gone(&mut self, slot: u8) {
        self.slots[usize::from(slot)] = Slot {
            disturbed: true,
            ..Slot::default()
        };
    }

    /// The proxy class is another.
    pub fn class(&mut self, state: ClassState) {
        self.class = state;
        for slot in &mut self.slots {
            slot.disturbed |= state == ClassState::NoImage;
        }
    }

    /// Somebody laid hands on a part of a proxy.
    pub fn tampered(&mut self, slot: u8, part: Part) {
        let slot = &mut self.slots[usize::from(slot)];
        slot.disturbed |= matches!(part, Part::StatefulSet | Part::Pod | Part::Secret);
    }

    /// Something happened to the proxy of a Service that a class or a policy may keep from being mended.
    pub fn disturbed(&mut self, slot: u8) {
        self.slots[usize::from(slot)].disturbed = true;
    }

    /// All is quiet, and the proxy of a Service was seen to carry this.
    pub fn settled(&mut self, slot: u8, carried: Option<Carry>) {
        let slot = &mut self.slots[usize::from(slot)];
        slot.carried = carried;
        slot.since.clear();
        slot.disturbed = false;
    }
}

impl Slot {
    /// Whether its proxy was seen to carry, and nothing has happened to it since. That a name led nowhere says nothing.
    fn runs(&self) -> bool {
        !self.disturbed && self.carried.as_ref().is_some_and(|carried| *carried != NOWHERE)
    }

    /// Everything that the proxy may carry when nothing newer is possible.
    fn history(&self) -> Vec<Option<Carry>> {
        let mut all: Vec<Option<Carry>> = self.since.iter().cloned().map(Some).collect();
        all.push(self.carried.clone());
        if !self.runs() {
            all.push(None);
        }
        all
    }
}
