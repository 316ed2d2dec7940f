use super::{MAX_PROXY_NAME, proxy_name, secret_name};

#[test]
fn short_parent_keeps_its_name() {
    assert_eq!(proxy_name("web", "b2c4d"), "ts-web-b2c4d");
    assert_eq!(secret_name("ts-web-b2c4d", 0), "ts-web-b2c4d-0");
}

#[test]
fn long_parent_is_cut_to_the_limit() {
    let name = proxy_name(&"a".repeat(63), "b2c4d");
    assert_eq!(name.len(), MAX_PROXY_NAME);
    assert!(name.ends_with("a-b2c4d"));
}

#[test]
fn cut_never_leaves_two_dashes() {
    let parent = format!("{}-{}", "a".repeat(42), "b".repeat(10));
    assert_eq!(proxy_name(&parent, "b2c4d"), format!("ts-{}-b2c4d", "a".repeat(42)));
}
