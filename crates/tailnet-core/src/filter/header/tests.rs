use proptest::prelude::*;

use super::*;

fn v4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0];
    bytes.extend(u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    bytes.extend(payload);
    bytes
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x60, 0, 0, 0];
    bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend([next, 64]);
    bytes.extend([1; 32]);
    bytes.extend(payload);
    bytes
}

#[test]
fn padding_after_the_packet_is_ignored() {
    let mut bytes = v4(17, 0, &[0, 53, 0, 80, 0, 8, 0, 0]);
    let bare = Header::parse(&bytes).unwrap();
    bytes.extend([0xff; 12]);
    assert_eq!(Header::parse(&bytes), Ok(bare));
    assert_eq!(
        bare.body,
        Body::Datagram {
            source_port: 53,
            destination_port: 80
        }
    );
}

#[test]
fn transport_header_in_the_padding_is_refused() {
    let mut bytes = v4(17, 0, &[0, 53]);
    bytes.extend([0, 80, 0, 8, 0, 0]);
    assert_eq!(Header::parse(&bytes), Err(HeaderError::Truncated));
}

#[test]
fn tiny_later_fragment_is_refused() {
    assert_eq!(Header::parse(&v4(6, 1, &[0; 8])), Err(HeaderError::OverlappingFragment));
    assert_eq!(Header::parse(&v4(6, 10, &[0; 8])).unwrap().body, Body::LaterFragment);
}

#[test]
fn transport_is_found_behind_extension_headers() {
    let mut payload = vec![60, 0, 0, 0, 0, 0, 0, 0];
    payload.extend([17, 1]);
    payload.extend([0; 14]);
    payload.extend([0, 53, 0, 80, 0, 8, 0, 0]);
    let header = Header::parse(&v6(0, &payload)).unwrap();
    assert_eq!(header.protocol, 17);
    assert_eq!(
        header.body,
        Body::Datagram {
            source_port: 53,
            destination_port: 80
        }
    );
}

#[test]
fn endless_extension_headers_are_refused() {
    let chain = [60, 0, 0, 0, 0, 0, 0, 0].repeat(100);
    assert_eq!(Header::parse(&v6(60, &chain)), Err(HeaderError::TooManyExtensions));
}

#[test]
fn every_cut_of_a_packet_is_judged_without_panic() {
    let tcp = [0u8; 20];
    for whole in [
        v4(6, 0, &tcp),
        v6(6, &tcp),
        v6(0, &[[6, 0, 0, 0, 0, 0, 0, 0].as_slice(), &tcp].concat()),
    ] {
        assert!(Header::parse(&whole).is_ok());
        for end in 0..whole.len() {
            assert_eq!(
                Header::parse(&whole[..end]),
                Err(HeaderError::Truncated),
                "cut at {end}"
            );
        }
    }
}

proptest! {
    #[test]
    fn parser_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..200), version in 0u8..16) {
        if let Some(first) = bytes.first_mut() {
            *first = (version << 4) | (*first & 0x0f);
        }
        let _verdict = Header::parse(&bytes);
    }
}
