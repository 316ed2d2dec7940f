use std::collections::BTreeSet;

use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{free_name, possible_names, usual_name};

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

#[test]
fn every_name_a_proxy_gets_is_a_possible_one() {
    let service = Service {
        metadata: ObjectMeta {
            name: Some("web".to_owned()),
            uid: Some("uid-1".to_owned()),
            ..ObjectMeta::default()
        },
        ..Service::default()
    };
    let possible = possible_names(&service);
    assert!(possible.contains(&usual_name(&service)));
    let mut taken = BTreeSet::new();
    for _ in 0..20 {
        let name = free_name("web", "uid-1", &taken);
        assert!(possible.contains(&name), "{name}");
        taken.insert(name);
    }
    assert_eq!(taken, possible);
}
