use std::time::Duration;

use isthmus_tailnet_api as tailnet;
use kube::core::Status;

use super::{Class, Error};

fn answered(code: u16, reason: &str) -> Error {
    let status = Status::failure("the words", reason).with_code(code);
    Error::kubernetes("apply Secret x", kube::Error::Api(status.boxed()))
}

#[test]
fn answers_are_classed_by_what_to_do() {
    assert_eq!(answered(409, "Conflict").class(), Class::Conflict);
    assert_eq!(answered(403, "Forbidden").class(), Class::Refused);
    assert_eq!(answered(422, "Invalid").class(), Class::Refused);
    assert_eq!(answered(503, "ServiceUnavailable").class(), Class::ApiServer);
}

#[test]
fn message_says_action_and_answer() {
    assert_eq!(
        answered(403, "Forbidden").to_string(),
        "cannot apply Secret x: the API server answers 403 Forbidden: the words"
    );
}

#[test]
fn pauses_grow_to_a_limit_of_their_class() {
    let classes = [
        (Class::Conflict, 200, 5_000),
        (Class::ApiServer, 1_000, 30_000),
        (Class::Refused, 10_000, 300_000),
        (Class::Tailnet(tailnet::Class::Unavailable), 2_000, 60_000),
        (Class::Tailnet(tailnet::Class::Credentials), 15_000, 120_000),
    ];
    for (class, first, most) in classes {
        assert_eq!(class.pause(0), Duration::from_millis(first));
        assert_eq!(class.pause(1), Duration::from_millis(2 * first));
        assert_eq!(class.pause(u32::MAX), Duration::from_millis(most));
    }
}
