use std::collections::BTreeSet;

use super::free_name;

#[test]
fn name_depends_on_the_uid_alone() {
    let none = BTreeSet::new();
    assert_eq!(free_name("web", "uid-1", &none), free_name("web", "uid-1", &none));
    assert_ne!(free_name("web", "uid-1", &none), free_name("web", "uid-2", &none));
}

#[test]
fn taken_name_gives_way_to_the_next() {
    let first = free_name("web", "uid-1", &BTreeSet::new());
    let second = free_name("web", "uid-1", &BTreeSet::from([first.clone()]));
    assert_ne!(first, second);
    assert!(second.starts_with("ts-web-"));
}
