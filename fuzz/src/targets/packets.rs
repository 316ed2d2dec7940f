//! IP packets: what the filter reads of them, its verdicts, and what is cut out of them.

mod slow;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use isthmus_tailnet::fuzzing::{complete_checksum, cut};
use isthmus_tailnet_core::filter::{Body, Filter, Header, PacketFilter, Verdict, protocol};
use isthmus_tailnet_core::packet_io::SegmentProtocol;
use isthmus_tailnet_core::tsmp;

use slow::Seen;

/// What is read of a packet is what a slow reader sees in it; bytes behind the packet's own length change nothing, and a
/// packet that is cut off within it cannot be read.
pub(super) fn header(input: &[u8]) {
    let header = Header::parse(input);
    let seen = slow::read(input);
    assert_eq!(header.ok().map(Seen::from), seen);
    let Some(length) = slow::length(input).filter(|_| seen.is_some()) else {
        return;
    };
    let padded = [input, &[0xff; 8]].concat();
    assert_eq!(Header::parse(&padded), header, "padding");
    assert!(Header::parse(&input[..length - 1]).is_err(), "cut off");
    assert_eq!(
        Header::parse(&input[..length]),
        header,
        "nothing beyond its length is read"
    );
}

/// Packets, each with what happens to it and its length before it: verdicts are those of the slow model.
pub(super) fn filter(input: &[u8]) {
    let mut model = slow::Model::default();
    let filter = Filter::new(slow::plan());
    let start = Instant::now();
    let mut now = Duration::ZERO;
    let mut rest = input;
    while let Some((&[what, length], after)) = rest.split_first_chunk::<2>() {
        let (packet, after) = after.split_at(usize::from(length).min(after.len()));
        rest = after;
        let (verdict, expected) = match what % 4 {
            0 | 1 => {
                let peer = usize::from(what % 4);
                (
                    filter.inbound(&slow::PEERS[peer], packet, start + now),
                    model.inbound(peer, packet, now),
                )
            }
            2 => (filter.outbound(packet, start + now), model.outbound(packet, now)),
            _ => {
                now += Duration::from_secs(length.into());
                continue;
            }
        };
        let verdict = match verdict {
            Verdict::Accept => slow::Outcome::Accept,
            Verdict::Consume => slow::Outcome::Consume,
            Verdict::Drop(_) => slow::Outcome::Drop,
        };
        assert_eq!(verdict, expected, "{packet:02x?} after {now:?}");
    }
}

/// An answer to a ping inside the tunnel goes back to who asked, with his data, and is a pong.
pub(super) fn tsmp(input: &[u8]) {
    assert!(
        tsmp::pong(input).is_none() || tsmp::answer(input).is_none(),
        "a ping is no pong"
    );
    let Some(answer) = tsmp::answer(input) else { return };
    let (asked, answered) = (Header::parse(input), Header::parse(&answer));
    let (Ok(asked), Ok(answered)) = (asked, answered) else {
        unreachable!("both are packets")
    };
    assert_eq!(
        (answered.source, answered.destination),
        (asked.destination, asked.source)
    );
    assert_eq!(
        (answered.protocol, answered.body, asked.body),
        (protocol::TSMP, Body::Opaque, Body::Opaque)
    );
    let data = tsmp::pong(&answer).expect("an answer is a pong");
    assert!(
        input.windows(data.len()).any(|window| window == data),
        "the data of the ping"
    );
    assert!(tsmp::answer(&answer).is_none());
}

/// A checksum that was completed adds up; nothing else of the packet changes.
pub(super) fn checksum(input: &[u8]) {
    let Some((&[start, offset], packet)) = input.split_first_chunk::<2>() else {
        return;
    };
    let mut done = packet.to_vec();
    let field = usize::from(start) + usize::from(offset);
    let fits = complete_checksum(&mut done, start.into(), offset.into());
    assert_eq!(fits, field + 2 <= packet.len());
    if !fits {
        assert_eq!(done, packet);
        return;
    }
    assert_eq!(
        (&done[..field], &done[field + 2..]),
        (&packet[..field], &packet[field + 2..])
    );
    let begin = [u16::from_be_bytes([packet[field], packet[field + 1]])];
    let mut zeroed = packet[start.into()..].to_vec();
    zeroed[offset.into()..usize::from(offset) + 2].fill(0);
    let expected = !slow::sum(&zeroed, &begin);
    let written = u16::from_be_bytes([done[field], done[field + 1]]);
    // Both forms of zero mean the same.
    assert!(
        written == expected || [written, expected].iter().all(|sum| [0, 0xffff].contains(sum)),
        "{written:x} {expected:x}"
    );
}

/// The packets that a super-packet is cut into carry its payload and nothing else, in order, and each is a packet from and
/// to the same addresses.
pub(super) fn segments(input: &[u8]) {
    let Some((&[kind, high, low, start, mtu], packet)) = input.split_first_chunk::<5>() else {
        return;
    };
    let protocol = [
        SegmentProtocol::Udp,
        SegmentProtocol::Tcp { ecn: false },
        SegmentProtocol::Tcp { ecn: true },
    ][usize::from(kind % 3)];
    let size = u16::from_be_bytes([high, low]).max(1);
    let mtu = 576 + usize::from(mtu) * 8;
    let Ok(parts) = cut(&mut packet.to_vec(), (protocol, size, start.into()), mtu) else {
        return;
    };
    assert!(!parts.is_empty());
    let Some(length) = slow::length(packet).filter(|length| *length == packet.len()) else {
        return;
    };
    let header = Header::parse(packet);
    let Ok(Header {
        source, destination, ..
    }) = header
    else {
        return;
    };
    if usize::from(start) != slow::transport(packet) || length <= 40 {
        return;
    }
    for part in &parts {
        let part = Header::parse(part);
        let ends = part.map(|part| (part.source, part.destination));
        assert_eq!(ends, Ok::<(IpAddr, IpAddr), _>((source, destination)));
    }
}
