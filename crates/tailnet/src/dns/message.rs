//! Questions and answers as DNS writes them.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use isthmus_tailnet_core::dns::{Answer, Question};
use isthmus_tailnet_wire::dns::has_room_for_what_it_counts;

/// Seconds that an answer holds: names move seldom, and nobody is told when they do.
const TTL: u32 = 60;

/// The largest answer that this node offers to take itself (RFC 9715).
const MAX_PAYLOAD: u16 = 1232;

/// A message that asks something.
pub(super) struct Query(Message);

impl Query {
    /// Reads a message; nothing for what is none, and for answers.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        if !has_room_for_what_it_counts(bytes) {
            return None;
        }
        let message = Message::from_vec(bytes).ok()?;
        (message.metadata.message_type == MessageType::Query).then_some(Self(message))
    }

    /// The one name that it asks about; nothing for other kinds of messages.
    pub(super) fn asked(&self) -> Option<(String, Question)> {
        let [query] = self.0.queries.as_slice() else {
            return None;
        };
        let is_plain = self.0.metadata.op_code == OpCode::Query && query.query_class == DNSClass::IN;
        let known = [
            (RecordType::A, Question::A),
            (RecordType::AAAA, Question::Aaaa),
            (RecordType::PTR, Question::Ptr),
        ];
        let question = known.into_iter().find(|(kind, _)| *kind == query.query_type);
        let question = question.map_or(Question::Other, |(_, question)| question);
        is_plain.then(|| (query.name.to_ascii(), question))
    }

    /// The answer to what this node does not do.
    pub(super) fn refused(&self) -> Option<Vec<u8>> {
        self.response(ResponseCode::NotImp).to_vec().ok()
    }

    /// The answer that the node knows itself; cut off when it is to go in a datagram and does not fit.
    pub(super) fn answered(&self, answer: &Answer, in_datagram: bool) -> Option<Vec<u8>> {
        let (code, data) = match answer {
            Answer::Addresses(addresses) => (ResponseCode::NoError, addresses.iter().map(address).collect()),
            Answer::Name(name) => (
                ResponseCode::NoError,
                vec![RData::PTR(PTR(Name::from_ascii(name).ok()?))],
            ),
            Answer::NoSuchName => (ResponseCode::NXDomain, Vec::new()),
            Answer::Ask(_) | Answer::AskMachine | Answer::Unable => (ResponseCode::ServFail, Vec::new()),
        };
        let mut response = self.response(code);
        response.metadata.authoritative = code != ResponseCode::ServFail;
        let name = self.0.queries.first()?.name.clone();
        let records = data.into_iter().map(|data| Record::from_rdata(name.clone(), TTL, data));
        response.add_answers(records);
        let bytes = response.to_vec().ok()?;
        if in_datagram && bytes.len() > self.0.max_payload().into() {
            return response.truncate().to_vec().ok();
        }
        Some(bytes)
    }

    fn response(&self, code: ResponseCode) -> Message {
        let asked = &self.0.metadata;
        let mut response = Message::error_msg(asked.id, asked.op_code, code);
        response.metadata.recursion_desired = asked.recursion_desired;
        response.metadata.recursion_available = true;
        response.add_queries(self.0.queries.iter().cloned());
        if self.0.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_PAYLOAD);
            response.set_edns(edns);
        }
        response
    }
}

fn address(address: &IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(*address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(*address)),
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query as Asked;

    use super::*;

    fn query(kind: RecordType, edns: bool) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Asked::query(Name::from_ascii("Two.tail.internal.").unwrap(), kind));
        if edns {
            message.set_edns(Edns::new());
        }
        message
    }

    fn answered(message: &Message, answer: &Answer) -> Message {
        let query = Query::parse(&message.to_vec().unwrap()).unwrap();
        Message::from_vec(&query.answered(answer, true).unwrap()).unwrap()
    }

    #[test]
    fn answer_carries_the_question_its_number_and_the_records() {
        let asked = query(RecordType::A, true);
        let parsed = Query::parse(&asked.to_vec().unwrap()).unwrap();
        assert_eq!(parsed.asked(), Some(("Two.tail.internal.".to_owned(), Question::A)));
        let answer = answered(&asked, &Answer::Addresses(vec!["100.64.0.2".parse().unwrap()]));
        assert_eq!((answer.metadata.id, answer.queries.clone()), (7, asked.queries));
        assert!(answer.metadata.authoritative && answer.metadata.recursion_desired && answer.edns.is_some());
        assert_eq!(answer.answers.len(), 1);
        assert_eq!(answer.answers[0].data, RData::A(A("100.64.0.2".parse().unwrap())));
    }

    #[test]
    fn name_that_exists_without_a_record_differs_from_one_that_does_not_exist() {
        let asked = query(RecordType::AAAA, false);
        let empty = answered(&asked, &Answer::Addresses(Vec::new()));
        assert_eq!(
            (empty.metadata.response_code, empty.answers.len()),
            (ResponseCode::NoError, 0)
        );
        let none = answered(&asked, &Answer::NoSuchName);
        assert_eq!(none.metadata.response_code, ResponseCode::NXDomain);
        let unable = answered(&asked, &Answer::Unable);
        assert_eq!(unable.metadata.response_code, ResponseCode::ServFail);
        assert!(none.edns.is_none(), "who knows no EDNS gets none");
    }

    #[test]
    fn answer_that_does_not_fit_a_datagram_is_cut_off() {
        let asked = query(RecordType::A, false);
        let many = (0..100).map(|last| IpAddr::from([100, 64, 1, last])).collect();
        let answer = answered(&asked, &Answer::Addresses(many));
        assert!(answer.metadata.truncation && answer.answers.is_empty());
        assert_eq!(answer.metadata.id, 7);
    }

    #[test]
    fn answers_and_garbage_are_no_questions_and_updates_are_refused() {
        let mut message = query(RecordType::A, false);
        message.metadata.op_code = OpCode::Update;
        let update = Query::parse(&message.to_vec().unwrap());
        if let Some(update) = update {
            assert_eq!(update.asked(), None);
        }
        message.metadata.op_code = OpCode::Query;
        message.metadata.message_type = MessageType::Response;
        assert!(Query::parse(&message.to_vec().unwrap()).is_none());
        assert!(Query::parse(b"garbage").is_none());
    }
}
