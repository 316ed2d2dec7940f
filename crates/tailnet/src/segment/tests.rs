use isthmus_tailnet_core::packet_io::{Offload, SegmentProtocol};
use isthmus_tailnet_core::wireguard::{DATA_HEADER, DATA_OVERHEAD};

use super::{Cut, complete_checksum, cut, padded};

const TCP: SegmentProtocol = SegmentProtocol::Tcp { ecn: false };

/// The ones' complement sum of RFC 1071 over pseudo header and segment: 0xffff when the checksum is right.
fn transport_sum(packet: &[u8]) -> u16 {
    let (v4, length) = (packet[0] >> 4 == 4, packet.len());
    let (start, addresses, protocol) = if v4 {
        (20, &packet[12..20], packet[9])
    } else {
        (40, &packet[8..40], packet[6])
    };
    let tail = u16::try_from(length - start).unwrap().to_be_bytes();
    let covered = [
        addresses,
        &[0, protocol],
        &tail,
        &packet[start..],
        &[0][..(length - start) % 2],
    ]
    .concat();
    let mut sum: u32 = covered
        .chunks(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// A TCP super-packet with `payload` bytes that count up from 0, PSH set.
fn super_packet(v6: bool, payload: usize) -> Vec<u8> {
    let ip = if v6 { 40 } else { 20 };
    let mut packet = vec![0; ip + 20];
    if v6 {
        (packet[0], packet[6], packet[23], packet[39]) = (0x60, 6, 1, 2);
    } else {
        (packet[0], packet[9], packet[15], packet[19]) = (0x45, 6, 1, 2);
    }
    (packet[ip + 12], packet[ip + 13]) = (0x50, 0x18);
    packet.extend((0..payload).map(|n| u8::try_from(n % 251).unwrap()));
    packet
}

fn segments(batch: &[u8], cut: Cut) -> Vec<Vec<u8>> {
    let length = |packet: &[u8]| match packet[0] >> 4 {
        4 => usize::from(u16::from_be_bytes([packet[2], packet[3]])),
        _ => 40 + usize::from(u16::from_be_bytes([packet[4], packet[5]])),
    };
    let inner = |datagram: &[u8]| datagram[DATA_HEADER..][..length(&datagram[DATA_HEADER..])].to_vec();
    batch[..cut.length].chunks(cut.stride).map(inner).collect()
}

#[test]
fn super_packet_is_cut_into_segments_with_right_checksums() {
    for (v6, start) in [(false, 20), (true, 40)] {
        let mut packet = super_packet(v6, 2500);
        let payload = packet[usize::from(start) + 20..].to_vec();
        let mut batch = Vec::new();
        let cut = cut(&mut packet, (TCP, 1000, start), 1280, &mut batch).unwrap();
        assert_eq!((cut.packets, cut.stride % 16), (3, 0));
        let segments = segments(&batch, cut);
        let bodies: Vec<u8> = segments
            .iter()
            .flat_map(|s| s[usize::from(start) + 20..].to_vec())
            .collect();
        assert_eq!(bodies, payload);
        assert!(segments.iter().all(|segment| transport_sum(segment) == 0xffff));
        let pushed: Vec<bool> = segments.iter().map(|s| s[usize::from(start) + 13] & 8 != 0).collect();
        assert_eq!(pushed, [false, false, true]);
    }
}

#[test]
fn padding_is_zero_when_the_buffer_was_used_before() {
    let mut batch = vec![0xff; 8000];
    let cut = cut(&mut super_packet(false, 1001), (TCP, 500, 20), 1280, &mut batch).unwrap();
    let last = &batch[(cut.packets - 1) * cut.stride..cut.length];
    let padding = &last[DATA_HEADER + 41..last.len() - 16];
    assert_eq!((padding.len(), padding.iter().all(|byte| *byte == 0)), (7, true));
}

#[test]
fn super_packet_is_refused_when_its_headers_do_not_fit() {
    let mut batch = Vec::new();
    for (length, start) in [(30, 20), (60, 60), (40, 20), (100, 90)] {
        let mut packet = super_packet(false, 1000);
        packet.truncate(length);
        assert!(
            cut(&mut packet, (TCP, 500, start), 1280, &mut batch).is_err(),
            "{length} {start}"
        );
    }
}

#[test]
fn checksum_is_completed_from_the_pseudo_header() {
    let mut packet = super_packet(false, 101);
    let pseudo_header: u16 = 1 + 2 + 6 + 121;
    packet[36..38].copy_from_slice(&pseudo_header.to_be_bytes());
    assert!(complete_checksum(
        &mut packet,
        Offload::Checksum { start: 20, offset: 16 }
    ));
    assert_eq!(transport_sum(&packet), 0xffff);
    assert!(!complete_checksum(
        &mut packet,
        Offload::Checksum { start: 120, offset: 20 }
    ));
}

#[test]
fn padding_never_exceeds_the_mtu() {
    assert_eq!(
        [
            padded(1, 1280),
            padded(16, 1280),
            padded(1279, 1280),
            padded(1401, 1402)
        ],
        [16, 16, 1280, 1402]
    );
    assert_eq!(padded(2000, 1280), 2000);
    assert_eq!(DATA_OVERHEAD, 32);
}
