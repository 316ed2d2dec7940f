use proptest::prelude::*;

use super::*;

#[test]
fn range_text_is_refused_when_it_is_no_range() {
    for text in [
        "",
        "cap:x",
        "1.2.3.4-::1",
        "1.2.3.4-1.2.3.3",
        "1.2.3.4/33",
        "a-b",
        "-",
        "1.2.3.4-",
    ] {
        assert_eq!(AddressRange::parse(text), None, "{text}");
    }
}

#[test]
fn prefix_with_host_bits_covers_its_network() {
    let range = AddressRange::parse("10.0.0.7/8").unwrap();
    assert!(range.contains("10.255.255.255".parse().unwrap()));
    assert!(!range.contains("11.0.0.0".parse().unwrap()));
}

proptest! {
    #[test]
    fn set_holds_what_one_of_its_ranges_holds(ends in prop::collection::vec((0u32..40, 0u32..40), 0..8), probe in 0u32..42) {
        let ranges: Vec<_> = ends
            .iter()
            .map(|(a, b)| AddressRange::V4((*a.min(b)).into(), (*a.max(b)).into()))
            .collect();
        let set: AddressSet = ranges.iter().copied().collect();
        let address = IpAddr::V4(probe.into());
        prop_assert_eq!(set.contains(address), ranges.iter().any(|range| range.contains(address)));
        prop_assert!(!set.contains(IpAddr::V6(u128::from(probe).into())));
    }
}
