//! See `crate::fuzzing`.

use std::net::SocketAddr;

use isthmus_tailnet_core::dns::{Answer, Question};

use super::forward;
use super::message::Query;

/// The name that a message asks about, if it is one, and the message that answers it.
pub type Answered = (Option<(String, Question)>, Option<Vec<u8>>);

/// What a message asks about, and its answer; nothing for what asks nothing.
pub fn answer_question(message: &[u8], answer: &Answer, in_datagram: bool) -> Option<Answered> {
    let query = Query::parse(message)?;
    let asked = query.asked();
    let answer = match &asked {
        Some(_) => query.answered(answer, in_datagram),
        None => query.refused(),
    };
    Some((asked, answer))
}

/// Whether a message answers a question, and the message with the question's number where it does.
pub fn is_answer(message: &[u8], question: &[u8]) -> Option<Vec<u8>> {
    let number = *question.first_chunk()?;
    forward::answers(message, question).then(|| forward::renumbered(message, number).ok())?
}

/// The servers that a `resolv.conf` names.
pub fn name_servers(text: &str) -> Vec<SocketAddr> {
    forward::name_servers(text)
}
