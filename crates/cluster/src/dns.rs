//! One question to the cluster's DNS server, to see that it answers.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// The identifier of the query; answers carry it as well.
const ID: [u8; 2] = [0x15, 0x7a];
/// Length of a message's header.
const HEADER: usize = 12;

/// Asks for the first IPv4 address of a name; nothing when there is no such answer within the time.
pub(crate) fn query_address(server: Ipv4Addr, name: &str, patience: Duration) -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.set_read_timeout(Some(patience)).ok()?;
    socket
        .send_to(&build_query(name), SocketAddr::from((server, 53)))
        .ok()?;
    let mut answer = [0_u8; 1500];
    let (length, from) = socket.recv_from(&mut answer).ok()?;
    (from.ip() == server).then(|| parse_address(&answer[..length]))?
}

/// A query for the A record of a name, recursion wanted (RFC 1035, 4.1).
fn build_query(name: &str) -> Vec<u8> {
    let mut query = vec![ID[0], ID[1], 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.trim_end_matches('.').split('.') {
        query.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    query
}

/// The data of the last record when it is an A record, which ends the message of a server that adds nothing.
fn parse_address(answer: &[u8]) -> Option<Ipv4Addr> {
    let header = answer.get(..HEADER)?;
    let answered = header[..2] == ID && header[3] % 16 == 0 && header[6..8] != [0, 0];
    let additional = u16::from_be_bytes([header[10], header[11]]);
    let record: [u8; 14] = answer.get(HEADER..)?.last_chunk().copied()?;
    // Type A, class IN, four bytes of time to live, length 4, the address.
    let is_address = record[..4] == [0, 1, 0, 1] && record[8..10] == [0, 4];
    (answered && additional == 0 && is_address).then(|| Ipv4Addr::new(record[10], record[11], record[12], record[13]))
}

#[cfg(test)]
mod tests;
