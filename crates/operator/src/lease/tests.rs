use std::time::{Duration, Instant};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};

use super::may_take;

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
