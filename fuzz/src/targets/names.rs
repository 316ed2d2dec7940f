//! Messages of DNS.

use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType};
use isthmus_tailbox::fuzzing as tailbox;
use isthmus_tailnet::fuzzing::{answer_question, is_answer, name_servers};
use isthmus_tailnet_core::dns::Answer;

/// Bytes of a message's header.
const HEADER: usize = 12;

/// Every question is answered under its number, with the question in it, within what the asker takes.
pub(super) fn question_to_the_node(input: &[u8]) {
    let many = (0..200).map(|last| IpAddr::from([100, 64, 1, last])).collect();
    let answers = [
        Answer::Addresses(Vec::new()),
        Answer::Addresses(many),
        Answer::Name("two.tail.internal.".to_owned()),
        Answer::NoSuchName,
        Answer::Unable,
    ];
    for answer in &answers {
        let Some((asked, Some(bytes))) = answer_question(input, answer, true) else {
            continue;
        };
        let message = check(input, &bytes);
        if asked.is_some() {
            let limit = Message::from_vec(input)
                .map_or(512, |question| question.max_payload())
                .max(512);
            assert!(
                bytes.len() <= limit.into(),
                "{} bytes of an answer, of {limit}",
                bytes.len()
            );
            assert_eq!(message.queries.len(), 1);
        }
    }
}

/// The same of tailbox.
pub(super) fn question_to_tailbox(input: &[u8]) {
    for limit in [512, 65535] {
        if let Some(bytes) = tailbox::answer_question(input, limit) {
            check(input, &bytes);
            assert!(bytes.len() <= limit, "{} bytes of an answer, of {limit}", bytes.len());
        }
    }
}

fn check(question: &[u8], answer: &[u8]) -> Message {
    assert_eq!(answer[..2], question[..2], "the number of the question");
    let message = Message::from_vec(answer).expect("an answer can be read");
    assert_eq!(message.metadata.message_type, MessageType::Response);
    message
}

/// Of two messages, the first of which begins with its length, the second answers the first or not; then it is passed on
/// under the first one's number and otherwise unchanged.
pub(super) fn forwarded_answer(input: &[u8]) {
    let _ = name_servers(&String::from_utf8_lossy(input));
    let Some((length, rest)) = input.split_first() else {
        return;
    };
    let (question, answer) = rest.split_at(usize::from(*length).min(rest.len()));
    if let Some(passed) = is_answer(answer, question) {
        assert_eq!((&passed[..2], &passed[2..]), (&question[..2], &answer[2..]));
        assert!(question.len() >= HEADER && passed[2] & 0x80 != 0);
    }
    assert_eq!(
        is_answer(question, question).is_some(),
        question.len() >= HEADER && question[2] & 0x80 != 0 && asks(question)
    );
}

/// Whether a message holds the question that it counts, if it counts any.
fn asks(message: &[u8]) -> bool {
    if message[4..6] == [0, 0] {
        return true;
    }
    let mut at = HEADER;
    while let Some(length) = message
        .get(at)
        .map(|length| usize::from(*length))
        .filter(|length| *length <= 63)
    {
        at += length + 1;
        if length == 0 {
            return message.len() >= at + 4;
        }
    }
    false
}
