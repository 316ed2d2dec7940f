use super::*;

const MEMBER: &str = "9:memory:/isthmus-n1/system\n1:name=systemd:/isthmus-n1/kubepods/pod1\n0::/\n";

#[test]
fn process_below_the_group_is_a_member() {
    assert!(names_group(MEMBER, "isthmus-n1"));
}

#[test]
fn process_of_a_group_with_a_longer_name_is_not_a_member() {
    assert!(!names_group("1:name=systemd:/isthmus-n12/system\n", "isthmus-n1"));
}

#[test]
fn process_that_only_shares_a_controller_is_not_a_member() {
    assert!(!names_group(
        "9:memory:/isthmus-n1/system\n1:name=systemd:/\n",
        "isthmus-n1"
    ));
}
