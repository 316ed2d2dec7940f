use super::*;

#[test]
fn query_holds_the_labels_of_the_name() {
    let query = build_query("a.bc.");
    assert_eq!(&query[HEADER..], &[1, b'a', 2, b'b', b'c', 0, 0, 1, 0, 1]);
}

#[test]
fn answer_with_one_address_is_understood() {
    let mut answer = build_query("a.bc");
    answer[2] = 0x84;
    answer[7] = 1;
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 96, 0, 1]);
    assert_eq!(parse_address(&answer), Some(Ipv4Addr::new(10, 96, 0, 1)));
}

#[test]
fn refusal_is_no_address() {
    let mut answer = build_query("a.bc");
    answer[3] = 3;
    assert_eq!(parse_address(&answer), None);
}
