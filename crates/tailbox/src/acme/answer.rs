//! One question, one answer.

use hickory_proto::op::{Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{SOA, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use isthmus_tailnet_wire::dns::has_room_for_what_it_counts;

/// What is known of the names of a tailnet.
pub(crate) trait Zone {
    /// The tailnet's domain.
    fn domain(&self) -> &str;
    /// The values of the TXT records of a name.
    fn values(&self, name: &str) -> Vec<String>;
    /// Whether there is such a name, without or with records.
    fn is_name(&self, name: &str) -> bool;
}

/// The longest answer over UDP; whoever wants more asks again over TCP.
pub(super) const UDP_LIMIT: usize = 512;
/// Seconds that an answer may be kept: a name gets new values at any time.
const TTL: u32 = 1;
/// Seconds between looks of secondary servers, of which there are none.
const REFRESH: i32 = 3600;

/// The answer to a question; nothing for what is none.
pub(crate) fn to(zone: &impl Zone, question: &[u8], limit: usize) -> Option<Vec<u8>> {
    if !has_room_for_what_it_counts(question) {
        return None;
    }
    let question = Message::from_vec(question).ok()?;
    if question.metadata.message_type != MessageType::Query {
        return None;
    }
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata = Metadata::response_from_request(&question.metadata);
    answer.metadata.response_code = match (question.metadata.op_code, question.queries.as_slice()) {
        (OpCode::Query, [query]) => {
            answer.add_query(query.clone());
            look_up(zone, query, &mut answer)
        }
        (OpCode::Query, _) => ResponseCode::FormErr,
        _ => ResponseCode::NotImp,
    };
    let bytes = answer.to_vec().ok()?;
    if bytes.len() <= limit {
        Some(bytes)
    } else {
        answer.truncate().to_vec().ok()
    }
}

fn look_up(zone: &impl Zone, query: &Query, answer: &mut Message) -> ResponseCode {
    let name = query.name().to_lowercase().to_ascii();
    let name = name.trim_end_matches('.');
    let domain = zone.domain();
    let is_own = name == domain || name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    if !is_own || query.query_class() != DNSClass::IN {
        return ResponseCode::Refused;
    }
    answer.metadata.authoritative = true;
    let values = zone.values(name);
    if matches!(query.query_type(), RecordType::TXT | RecordType::ANY) {
        let records = values.iter().map(|value| {
            let data = RData::TXT(TXT::new(vec![value.clone()]));
            Record::from_rdata(query.name().clone(), TTL, data)
        });
        answer.add_answers(records);
    }
    if answer.answers.is_empty()
        && let Some(authority) = authority(domain)
    {
        answer.add_authority(authority);
    }
    // A name above one with records exists as well, although it has none.
    let exists = !values.is_empty() || zone.is_name(name);
    if exists {
        ResponseCode::NoError
    } else {
        ResponseCode::NXDomain
    }
}

/// The start of the tailnet's zone, by which askers know how long "no" holds.
fn authority(domain: &str) -> Option<Record> {
    let zone = Name::from_ascii(format!("{domain}.")).ok()?;
    let person = Name::from_ascii(format!("hostmaster.{domain}.")).ok()?;
    let start = SOA::new(zone.clone(), person, 1, REFRESH, REFRESH, REFRESH, TTL);
    Some(Record::from_rdata(zone, TTL, RData::SOA(start)))
}
