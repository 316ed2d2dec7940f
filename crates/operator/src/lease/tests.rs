use std::time::{Duration, Instant};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};

use kube::Client;
use serde_json::json;

use super::{Candidate, Term, Timing, may_take};
use crate::fake::{Answer, Fake, refusal};

const GET: &str = "GET /apis/coordination.k8s.io/v1/namespaces/isthmus/leases/the-lease";
const PUT: &str = "PUT /apis/coordination.k8s.io/v1/namespaces/isthmus/leases/the-lease";

fn candidate(fake: &Fake) -> Candidate {
    let client = Client::try_from(kube::Config::new(fake.url.parse().unwrap())).unwrap();
    let timing = Timing {
        duration: Duration::from_mins(2),
        renew_within: Duration::from_secs(1),
        renew_every: Duration::from_millis(20),
        look_every: Duration::from_millis(20),
        request: Duration::from_mins(1),
    };
    Candidate::new(&client, "isthmus", "the-lease", "me", timing)
}

fn held_by(holder: &str) -> Answer {
    Answer::Json(200, json!(lease(holder, 1)))
}

fn lease(holder: &str, renewed_second: i64) -> Lease {
    let spec = LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(15),
        renew_time: Some(MicroTime(Timestamp::from_second(renewed_second).unwrap())),
        ..LeaseSpec::default()
    };
    Lease {
        spec: Some(spec),
        ..Lease::default()
    }
}

#[test]
fn own_lease_and_free_lease_are_taken_at_once() {
    let now = Instant::now();
    assert!(may_take(&lease("me", 1), "me", &mut None, now));
    assert!(may_take(&lease("", 1), "me", &mut None, now));
    assert!(may_take(&Lease::default(), "me", &mut None, now));
}

#[test]
fn lease_of_another_is_taken_only_after_it_stood_still_for_its_duration() {
    let start = Instant::now();
    let mut seen = None;
    assert!(!may_take(&lease("other", 1), "me", &mut seen, start));
    assert!(!may_take(
        &lease("other", 1),
        "me",
        &mut seen,
        start + Duration::from_secs(14)
    ));
    assert!(may_take(
        &lease("other", 1),
        "me",
        &mut seen,
        start + Duration::from_secs(15)
    ));
}

#[test]
fn renewal_and_change_of_holder_start_the_wait_anew() {
    let start = Instant::now();
    let mut seen = None;
    assert!(!may_take(&lease("other", 1), "me", &mut seen, start));
    assert!(!may_take(
        &lease("other", 2),
        "me",
        &mut seen,
        start + Duration::from_secs(14)
    ));
    assert!(!may_take(
        &lease("third", 2),
        "me",
        &mut seen,
        start + Duration::from_secs(28)
    ));
    assert!(!may_take(
        &lease("third", 2),
        "me",
        &mut seen,
        start + Duration::from_secs(42)
    ));
    assert!(may_take(
        &lease("third", 2),
        "me",
        &mut seen,
        start + Duration::from_secs(43)
    ));
}

#[tokio::test]
async fn leader_stops_before_its_lease_is_over_when_nobody_answers_its_renewal() {
    let fake = Fake::start().await;
    let candidate = candidate(&fake);
    fake.expect([
        (GET, held_by("me")),
        (PUT, held_by("me")),
        (GET, held_by("me")),
        (PUT, Answer::Silence),
    ]);
    let begun = Instant::now();
    let term = Term::until(begun + candidate.timing.renew_within);
    candidate.hold(&term).await;
    assert!(!term.is_on());
    assert!(
        begun.elapsed() < candidate.timing.request,
        "the request that hangs decided how long this replica acted"
    );
    fake.finish();
}

#[tokio::test]
async fn leader_stops_at_once_when_another_holds_the_lease() {
    let fake = Fake::start().await;
    let candidate = candidate(&fake);
    fake.expect([(GET, held_by("other"))]);
    let term = Term::until(Instant::now() + Duration::from_hours(1));
    candidate.hold(&term).await;
    assert!(!term.is_on());
    fake.finish();
}

#[tokio::test]
async fn renewal_that_raced_is_looked_at_again() {
    let fake = Fake::start().await;
    let candidate = candidate(&fake);
    fake.expect([
        (GET, held_by("me")),
        (PUT, refusal(409, "Conflict", "the object has been modified")),
        (GET, held_by("me")),
        (PUT, held_by("me")),
    ]);
    assert!(candidate.renew().await.is_some());
    fake.finish();
}

#[test]
fn term_that_was_ended_cannot_be_extended() {
    let later = Instant::now() + Duration::from_hours(1);
    let term = Term::until(Instant::now());
    assert!(!term.is_on());
    term.extend(later);
    assert!(term.is_on());
    term.end();
    term.extend(later);
    assert!(!term.is_on());
}
