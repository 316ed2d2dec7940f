use super::*;

fn row() -> Row {
    Row {
        case: "a case",
        before: "curl http://10.96.0.9/: no route".to_owned(),
        failed_before: true,
        request: "curl http://100.64.0.3/".to_owned(),
        repeat: String::new(),
        received: "ab".repeat(32),
        expected: "ab".repeat(32),
        peer: "10.244.1.5".to_owned(),
        expected_peer: "10.244.1.5".to_owned(),
        way: "direct".to_owned(),
        expected_way: "direct".to_owned(),
        ready_s: 3.25,
        first_byte_s: 4.0,
    }
}

#[test]
fn case_holds_when_control_failed_content_is_the_same_and_the_proxy_was_seen() {
    assert!(row().holds());
    let other_peer = "10.244.1.9".to_owned();
    assert!(
        !Row {
            peer: other_peer,
            ..row()
        }
        .holds()
    );
    assert!(
        !Row {
            failed_before: false,
            ..row()
        }
        .holds()
    );
    assert!(
        !Row {
            received: "cd".repeat(32),
            ..row()
        }
        .holds()
    );
}

#[test]
fn case_does_not_hold_when_datagrams_take_another_way() {
    let way = "by relay".to_owned();
    assert!(!Row { way, ..row() }.holds());
}

#[test]
fn table_says_aloud_what_does_not_hold() {
    let text = render_table(&[Row {
        failed_before: false,
        ..row()
    }]);
    assert!(
        text.contains("FAILED a case") && text.contains("ANSWERED, but must not"),
        "{text}"
    );
}

#[test]
fn json_has_the_same_as_the_table() {
    let rows: serde_json::Value = serde_json::from_str(&render_json(&[row()])).unwrap();
    assert_eq!(rows[0]["peer"], "10.244.1.5");
    assert_eq!(rows[0]["ready_s"], 3.25);
}
