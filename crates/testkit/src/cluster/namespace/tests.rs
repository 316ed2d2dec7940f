use super::*;

#[test]
fn namespace_is_named_after_its_test() {
    assert_eq!(render_name("Pods_reach_each_other", 7), "t-pods-reach-each-other-7");
}

#[test]
fn name_of_a_long_test_fits_the_limit() {
    assert!(render_name(&"word_".repeat(40), u32::MAX).len() <= 63);
}
