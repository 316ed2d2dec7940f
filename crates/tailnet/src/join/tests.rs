use tun_rs::{VIRTIO_NET_HDR_LEN, VirtioNetHdr};

use super::{Joinable, Joined, MAX_SEGMENTS};

const ALL: Joinable = Joinable { tcp: true, udp: true };

/// Payload bytes of each segment but the last.
const SIZE: usize = 100;

/// What a device's header says of a super-packet.
fn device_header(tcp: bool, v6: bool) -> VirtioNetHdr {
    let start = if v6 { 40 } else { 20 };
    VirtioNetHdr {
        flags: 1,
        gso_type: match (tcp, v6) {
            (true, false) => 1,
            (true, true) => 4,
            (false, _) => 5,
        },
        hdr_len: start + if tcp { 32 } else { 8 },
        gso_size: u16::try_from(SIZE).unwrap(),
        csum_start: start,
        csum_offset: if tcp { 16 } else { 6 },
    }
}

/// Segments of one flow as a sender's kernel makes them, checksums and all; the last has 30 bytes of payload and, of TCP, PSH.
fn segments(tcp: bool, v6: bool, count: usize) -> Vec<Vec<u8>> {
    let header = device_header(tcp, v6);
    let (start, head) = (usize::from(header.csum_start), usize::from(header.hdr_len));
    let mut packet = vec![0; head];
    let protocol = if tcp { 6 } else { 17 };
    if v6 {
        (packet[0], packet[3], packet[6], packet[7], packet[23], packet[39]) = (0x60, 9, protocol, 64, 1, 2);
    } else {
        (
            packet[0], packet[5], packet[6], packet[8], packet[9], packet[15], packet[19],
        ) = (0x45, 7, 0x40, 64, protocol, 1, 2);
    }
    (packet[start + 1], packet[start + 3]) = (80, 81);
    if tcp {
        // The sequence number passes its largest value on the way.
        packet[start + 4..start + 8].copy_from_slice(&(u32::MAX - 150).to_be_bytes());
        (packet[start + 12], packet[start + 13], packet[start + 15]) = (0x80, 0x18, 77);
        packet[start + 20..start + 32].copy_from_slice(&[1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 6]);
    }
    packet.extend((0..(count - 1) * SIZE + 30).map(|n| u8::try_from(n % 251).unwrap()));
    cut(&mut packet, header, v6)
}

fn encoded(header: VirtioNetHdr) -> [u8; VIRTIO_NET_HDR_LEN] {
    let mut bytes = [0; VIRTIO_NET_HDR_LEN];
    header.encode(&mut bytes).unwrap();
    bytes
}

fn cut(packet: &mut [u8], header: VirtioNetHdr, v6: bool) -> Vec<Vec<u8>> {
    let (mut out, mut sizes) = (vec![vec![0; 2000]; 200], vec![0; 200]);
    let count = tun_rs::gso_split(packet, header, &mut out, &mut sizes, 0, v6).unwrap();
    let whole = out.into_iter().zip(sizes).take(count);
    whole.map(|(packet, size)| packet[..size].to_vec()).collect()
}

fn join(packets: &[Vec<u8>], joinable: Joinable) -> Option<Joined> {
    let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
    Joined::first_of(&packets, joinable)
}

/// How many of the packets go to the device together.
fn joined(packets: &[Vec<u8>]) -> usize {
    join(packets, ALL).map_or(1, |joined| joined.packets)
}

#[test]
fn super_packet_is_cut_into_what_it_was_joined_from() {
    for (tcp, v6) in [(true, false), (true, true), (false, false), (false, true)] {
        let packets = segments(tcp, v6, 7);
        let joined = join(&packets, ALL).unwrap();
        assert_eq!(joined.packets, 7, "tcp {tcp} v6 {v6}");
        let header = VirtioNetHdr::decode(joined.head()).unwrap();
        assert_eq!(joined.head()[..VIRTIO_NET_HDR_LEN], encoded(device_header(tcp, v6)));
        let mut whole = joined.head()[VIRTIO_NET_HDR_LEN..].to_vec();
        for packet in &packets {
            whole.extend(joined.payload(packet));
        }
        assert_eq!(cut(&mut whole, header, v6), packets, "tcp {tcp} v6 {v6}");
    }
}

#[test]
fn headers_of_a_super_packet_carry_right_sums() {
    for tcp in [true, false] {
        let packets = segments(tcp, false, 3);
        let joined = join(&packets, ALL).unwrap();
        let head = &joined.head()[VIRTIO_NET_HDR_LEN..];
        assert_eq!(tun_rs::checksum(&head[..20], 0), 0xffff, "IPv4 header");
        let length = head.len() - 20 + 2 * SIZE + 30;
        let pseudo = [
            &head[12..20],
            &[0, head[9]],
            &u16::try_from(length).unwrap().to_be_bytes(),
        ]
        .concat();
        let at = if tcp { 36 } else { 26 };
        assert_eq!(
            head[at..at + 2],
            tun_rs::checksum(&pseudo, 0).to_be_bytes(),
            "pseudo header"
        );
    }
}

#[test]
fn packets_are_joined_only_as_far_as_they_continue_each_other() {
    let changed = |tcp: bool, v6: bool, at: usize| {
        let mut packets = segments(tcp, v6, 5);
        packets[2][at] ^= 0x40;
        joined(&packets)
    };
    for (name, v6, at) in [
        ("class", false, 1),
        ("time to live", false, 8),
        ("source", false, 12),
        ("destination", false, 19),
        ("source port", false, 20),
        ("sequence number", false, 27),
        ("acknowledgement", false, 31),
        ("flags: ECE", false, 33),
        ("window", false, 35),
        ("urgent pointer", false, 39),
        ("timestamp", false, 47),
        ("flow label", true, 3),
        ("hop limit", true, 7),
        ("IPv6 destination", true, 39),
        ("destination port", true, 43),
    ] {
        assert_eq!(changed(true, v6, at), 2, "{name}");
    }
    assert_eq!(changed(false, false, 23), 2, "port of UDP");
    assert_eq!(changed(false, false, 40), 5, "payload");
}

#[test]
fn nothing_is_joined_behind_a_pushed_or_shorter_segment() {
    for (tcp, v6) in [(true, false), (false, true)] {
        let packets = [segments(tcp, v6, 3), segments(tcp, v6, 3)].concat();
        assert_eq!(joined(&packets), 3);
        assert_eq!(joined(&packets[2..]), 1);
    }
    let mut packets = segments(true, false, 4);
    packets[1][33] |= 0x08;
    assert_eq!(joined(&packets), 2);
    packets[0][33] |= 0x08;
    assert_eq!(joined(&packets), 1);
}

#[test]
fn longer_segment_is_not_joined_to_a_shorter_one() {
    let long = segments(false, false, 2);
    let packets = [long[1].clone(), long[0].clone()];
    assert_eq!(joined(&packets), 1);
}

#[test]
fn packets_that_open_or_end_something_or_are_fragments_stand_alone() {
    for (name, at, value) in [
        ("SYN", 33, 0x02),
        ("FIN", 33, 0x11),
        ("RST", 33, 0x14),
        ("fragment", 6, 0x20),
        ("later fragment", 7, 1),
        ("IP options", 0, 0x46),
        ("another protocol", 9, 47),
        ("a length beyond the packet", 3, 0xff),
        ("no TCP header", 32, 0x40),
        ("a TCP header beyond the packet", 32, 0xf0),
    ] {
        let mut packets = segments(true, false, 3);
        packets.truncate(2);
        for packet in &mut packets {
            packet.truncate(60);
            packet[2..4].copy_from_slice(&[0, 60]);
        }
        packets[1][27] = packets[0][27].wrapping_add(8);
        for packet in &mut packets {
            packet[at] = value;
        }
        assert_eq!(joined(&packets), 1, "{name}");
    }
}

#[test]
fn datagrams_without_a_checksum_are_not_joined() {
    let mut packets = segments(false, false, 3);
    for packet in &mut packets {
        packet[26..28].fill(0);
    }
    assert_eq!(joined(&packets), 1);
}

#[test]
fn numbers_of_packets_that_may_be_fragmented_are_kept() {
    let mut packets = segments(true, false, 3);
    for packet in &mut packets {
        packet[6] = 0;
    }
    assert_eq!(joined(&packets), 3);
    packets[2][5] = 200;
    assert_eq!(joined(&packets), 2);
}

#[test]
fn nothing_is_joined_that_is_not_to_be() {
    for (tcp, joinable) in [
        (true, Joinable { tcp: false, udp: true }),
        (false, Joinable { tcp: true, udp: false }),
    ] {
        assert!(join(&segments(tcp, false, 3), joinable).is_none());
    }
}

#[test]
fn super_packet_stays_below_the_largest_packet_and_the_most_segments() {
    assert_eq!(joined(&segments(true, false, 100)), MAX_SEGMENTS);
    let mut long = segments(false, false, 2);
    long[0].resize(40_000, 0);
    long[0][2..4].copy_from_slice(&40_000_u16.to_be_bytes());
    long[0][24..26].copy_from_slice(&39_980_u16.to_be_bytes());
    assert_eq!(joined(&[long[0].clone(), long[0].clone()]), 1);
}

#[test]
fn no_bytes_make_it_panic() {
    let sources = [
        segments(true, false, 2),
        segments(true, true, 2),
        segments(false, false, 2),
    ];
    for packets in sources {
        for length in 0..packets[0].len() {
            let cut = vec![packets[0][..length].to_vec(), packets[0].clone()];
            assert_eq!(joined(&cut), 1);
            assert_eq!(joined(&[packets[0].clone(), packets[0][..length].to_vec()]), 1);
        }
        for at in 0..60 {
            for value in 0..=255 {
                let mut packets = packets.clone();
                packets[0][at] = value;
                joined(&packets);
            }
        }
    }
}
