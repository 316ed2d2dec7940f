use isthmus_contract::condition::{PROXY_READY, ProxyReason};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::Verdict;

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(second).unwrap())
}

fn pending(message: &str) -> Verdict {
    Verdict::new(ProxyReason::Pending, message)
}

#[test]
fn first_verdict_is_written_with_the_time() {
    let condition = pending("waiting")
        .condition(PROXY_READY, None, Some(3), &at(10))
        .unwrap();
    assert_eq!(
        (condition.status.as_str(), condition.reason.as_str()),
        ("False", "ProxyPending")
    );
    assert_eq!(
        (condition.observed_generation, condition.last_transition_time),
        (Some(3), at(10))
    );
}

#[test]
fn same_verdict_is_not_written_again() {
    let first = pending("waiting").condition(PROXY_READY, None, None, &at(10));
    assert_eq!(
        pending("waiting").condition(PROXY_READY, first.as_ref(), None, &at(20)),
        None
    );
}

#[test]
fn other_words_keep_the_transition_time() {
    let first = pending("for the Pod").condition(PROXY_READY, None, None, &at(10));
    let second = Verdict::new(ProxyReason::Failed, "no image").condition(PROXY_READY, first.as_ref(), Some(2), &at(20));
    let second = second.unwrap();
    assert_eq!(
        (second.reason.as_str(), second.message.as_str()),
        ("ProxyFailed", "no image")
    );
    assert_eq!(
        (second.last_transition_time, second.observed_generation),
        (at(10), Some(2))
    );
}

#[test]
fn other_status_moves_the_transition_time() {
    let first = pending("waiting").condition(PROXY_READY, None, None, &at(10));
    let second = Verdict::new(ProxyReason::Created, "up").condition(PROXY_READY, first.as_ref(), None, &at(20));
    assert_eq!(second.unwrap().last_transition_time, at(20));
}

#[test]
fn people_hear_of_faults_and_of_success_once() {
    let fault = Verdict::new(ProxyReason::Invalid, "bad address");
    assert!(fault.is_news(None));
    let written = fault.condition(PROXY_READY, None, None, &at(1));
    assert!(!fault.is_news(written.as_ref()));
    assert!(Verdict::new(ProxyReason::Invalid, "bad name").is_news(written.as_ref()));
    assert!(!pending("waiting").is_news(written.as_ref()));
    assert!(Verdict::new(ProxyReason::Created, "up").is_news(written.as_ref()));
}

#[test]
fn long_message_is_cut_between_letters() {
    assert_eq!(pending(&"ä".repeat(5000)).message.chars().count(), 1024);
}
