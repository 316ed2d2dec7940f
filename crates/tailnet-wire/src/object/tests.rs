wire_struct! {
    /// An inner object.
    struct Inner {
        /// A number.
        omit "Port" => port: u16,
    }
}

wire_struct! {
    /// An object with each kind of member.
    struct Sample {
        /// Written even when empty.
        always "Name" => name: String,
        /// Left out when empty.
        omit "sshHostKeys" => keys: Vec<String>,
        /// Absence differs from emptiness.
        omit "Filter" => filter: Option<Vec<String>>,
        /// Nested.
        omit "Inner" => inner: Inner,
    }
}

fn read(json: &str) -> Sample {
    serde_json::from_str(json).unwrap()
}

#[test]
fn member_is_found_when_capitals_differ() {
    let sample = read(r#"{"NAME":"a","SSHHostKeys":["k"],"inner":{"PORT":5}}"#);
    assert_eq!(sample.name, "a");
    assert_eq!(sample.keys, ["k"]);
    assert_eq!(sample.inner.port, 5);
}

#[test]
fn null_is_the_default_and_differs_from_empty_where_it_matters() {
    let sample = read(r#"{"Name":null,"sshHostKeys":null,"Filter":null,"Inner":null}"#);
    assert_eq!(sample, Sample::default());
    assert_eq!(read(r#"{"Filter":[]}"#).filter, Some(vec![]));
}

#[test]
fn unknown_member_is_skipped_whatever_its_shape() {
    let sample = read(r#"{"New":{"a":[1,{"b":null}]},"Name":"a","Other":1e300}"#);
    assert_eq!(sample.name, "a");
}

#[test]
fn last_of_equal_members_wins() {
    assert_eq!(read(r#"{"Name":"a","name":"b"}"#).name, "b");
}

#[test]
fn empty_members_are_left_out_unless_always() {
    assert_eq!(serde_json::to_string(&Sample::default()).unwrap(), r#"{"Name":""}"#);
    let empty_filter = Sample {
        filter: Some(vec![]),
        ..Sample::default()
    };
    assert_eq!(
        serde_json::to_string(&empty_filter).unwrap(),
        r#"{"Name":"","Filter":[]}"#
    );
}

#[test]
fn escapes_are_decoded_in_values_and_names() {
    assert_eq!(read(r#"{"\u004eame":"R\u0026D"}"#).name, "R&D");
}

#[test]
fn error_names_the_path_when_a_nested_member_is_wrong() {
    let error = serde_json::from_str::<Sample>(r#"{"Inner":{"Port":"x"}}"#)
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("Inner: Port: "), "{error}");
}
