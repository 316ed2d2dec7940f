use isthmus_runtime::ErrorChain;

use super::*;

fn policy(text: &str) -> Policy {
    Policy::try_from(text.to_owned()).unwrap_or_else(|error| panic!("{}", ErrorChain(&error)))
}

fn refusal(text: &str) -> String {
    let error = Policy::try_from(text.to_owned()).expect_err(text);
    ErrorChain(&error).to_string()
}

/// Nodes with their tags, addresses 100.64.0.1, .2, … and routes.
struct Nodes(Vec<(Vec<String>, Vec<IpNet>)>);

impl Nodes {
    fn new(nodes: &[(&[&str], &[&str])]) -> Self {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        Self(nodes.iter().map(|(tags, routes)| (own(tags), nets(routes))).collect())
    }

    fn all(&self) -> Vec<Subject<'_>> {
        let subjects = self.0.iter().enumerate().map(|(index, (tags, routes))| Subject {
            tags,
            user: "owner@tail.internal",
            addresses: [
                format!("100.64.0.{}", index + 1).parse().unwrap(),
                format!("fd7a:115c:a1e0::{}", index + 1).parse().unwrap(),
            ],
            routes,
        });
        subjects.collect()
    }

    /// The filter of a node as `source > destination:first-last/protocols`.
    fn filter(&self, policy: &Policy, node: usize) -> Vec<String> {
        let all = self.all();
        let rules = policy.filter_for(all[node], &all);
        let lines = rules.iter().flat_map(|rule| {
            rule.dst_ports.iter().map(|to| {
                let sources = rule.src_ips.join(",");
                format!(
                    "{sources} > {}:{}-{}/{:?}",
                    to.ip, to.ports.first, to.ports.last, rule.ip_proto
                )
            })
        });
        lines.collect()
    }
}

#[test]
fn comments_and_trailing_commas_are_allowed() {
    let policy = policy("{\n  // who is who\n  \"tagOwners\": {\"tag:k8s\": [],},\n}\n");
    assert_eq!(
        policy.foreign_tag(&["tag:k8s".into()], &BTreeSet::from(["tag:k8s".into()])),
        None
    );
}

#[test]
fn unknown_members_are_named() {
    for (text, named) in [
        (r#"{"postures": {}}"#, "postures"),
        (
            r#"{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"], "srcPosture": []}]}"#,
            "srcPosture",
        ),
        (r#"{"autoApprovers": {"apps": {}}}"#, "apps"),
        (r#"{"grants": [{"src": ["*"], "dst": ["*"], "via": []}]}"#, "via"),
    ] {
        assert!(refusal(text).contains(named), "{}", refusal(text));
    }
}

#[test]
fn values_that_mean_nothing_are_named_with_their_place() {
    for (text, place, value) in [
        (
            r#"{"acls": [{"action": "drop", "src": ["*"], "dst": ["*:*"]}]}"#,
            "acls[0].action",
            "drop",
        ),
        (
            r#"{"acls": [{"action": "accept", "src": ["tag:web"], "dst": ["*:*"]}]}"#,
            "acls[0].src",
            "tag:web",
        ),
        (
            r#"{"acls": [{"action": "accept", "src": ["*"], "dst": ["db"]}]}"#,
            "acls[0].dst",
            "db",
        ),
        (
            r#"{"acls": [{"action": "accept", "src": ["*"], "dst": ["*:99999"]}]}"#,
            "acls[0].dst",
            "99999",
        ),
        (
            r#"{"acls": [{"action": "accept", "proto": "tpc", "src": [], "dst": []}]}"#,
            "acls[0].proto",
            "tpc",
        ),
        (
            r#"{"grants": [{"src": ["*"], "dst": ["group:dev"], "ip": ["*"]}]}"#,
            "grants[0].dst",
            "group:dev",
        ),
        (r#"{"hosts": {"db": "somewhere"}}"#, "hosts", "db"),
        (r#"{"tagOwners": {"k8s": []}}"#, "tagOwners", "k8s"),
        (
            r#"{"autoApprovers": {"routes": {"10.0.0.0": []}}}"#,
            "autoApprovers.routes",
            "10.0.0.0",
        ),
    ] {
        let refusal = refusal(text);
        assert!(refusal.contains(place) && refusal.contains(value), "{refusal}");
    }
    assert!(refusal("{").contains("HuJSON"));
}

#[test]
fn tags_are_given_by_their_holders_and_by_owners_of_them() {
    let policy = policy(
        r#"{"tagOwners": {"tag:op": [], "tag:k8s": ["tag:op"], "tag:web": ["tag:k8s"], "tag:other": ["owner@tail.internal"]}}"#,
    );
    let held = BTreeSet::from(["tag:op".to_owned()]);
    for (tag, allowed) in [
        ("tag:op", true),
        ("tag:k8s", true),
        ("tag:web", true),
        ("tag:other", false),
        ("tag:unknown", false),
    ] {
        assert_eq!(policy.foreign_tag(&[tag.into()], &held).is_none(), allowed, "{tag}");
    }
    let stranger = BTreeSet::from(["tag:unknown".to_owned()]);
    assert!(policy.foreign_tag(&["tag:unknown".into()], &stranger).is_some());
}

#[test]
fn tags_that_own_each_other_end() {
    let policy = policy(r#"{"tagOwners": {"tag:a": ["tag:b"], "tag:b": ["tag:a"]}}"#);
    assert!(policy.foreign_tag(&["tag:a".into()], &BTreeSet::new()).is_some());
}

#[test]
fn policy_without_rules_opens_everything_and_one_with_none_nothing() {
    let nodes = Nodes::new(&[(&[], &[]), (&["tag:web"], &[])]);
    assert_eq!(nodes.filter(&policy("{}"), 0), ["* > *:0-65535/[]"]);
    let closed = policy(r#"{"acls": []}"#);
    assert_eq!(nodes.filter(&closed, 0), [""; 0]);
    let all = nodes.all();
    assert!(policy("{}").relates(all[0], all[1]) && !closed.relates(all[0], all[1]));
}

#[test]
fn rules_by_tag_open_ports_of_the_tagged_nodes_to_the_tagged_nodes() {
    let nodes = Nodes::new(&[(&["tag:web"], &[]), (&["tag:db"], &[]), (&[], &[])]);
    let policy = policy(
        r#"{"tagOwners": {"tag:web": [], "tag:db": []},
            "acls": [{"action": "accept", "proto": "tcp", "src": ["tag:web"], "dst": ["tag:db:5432,6000-6001"]}]}"#,
    );
    let source = "100.64.0.1,fd7a:115c:a1e0::1";
    assert_eq!(
        nodes.filter(&policy, 1),
        [
            format!("{source} > 100.64.0.2:5432-5432/[6]"),
            format!("{source} > fd7a:115c:a1e0::2:5432-5432/[6]"),
            format!("{source} > 100.64.0.2:6000-6001/[6]"),
            format!("{source} > fd7a:115c:a1e0::2:6000-6001/[6]"),
        ]
    );
    assert_eq!(nodes.filter(&policy, 0), [""; 0]);
    let all = nodes.all();
    assert!(policy.relates(all[0], all[1]) && policy.relates(all[1], all[0]) && !policy.relates(all[0], all[2]));
}

#[test]
fn users_groups_hosts_and_prefixes_are_understood() {
    let nodes = Nodes::new(&[(&[], &[]), (&["tag:router"], &["10.0.0.0/16"])]);
    let policy = policy(
        r#"{"tagOwners": {"tag:router": []}, "groups": {"group:dev": ["owner@tail.internal"]}, "hosts": {"db": "10.0.0.5"},
            "acls": [
              {"action": "accept", "src": ["group:dev"], "dst": ["db:5432"]},
              {"action": "accept", "src": ["autogroup:member"], "dst": ["10.0.0.0/8:*"]},
              {"action": "accept", "src": ["192.0.2.0/24"], "dst": ["192.168.0.0/16:*"]}]}"#,
    );
    let owner = "100.64.0.1,fd7a:115c:a1e0::1";
    assert_eq!(
        nodes.filter(&policy, 1),
        [
            format!("{owner} > 10.0.0.5:5432-5432/[]"),
            format!("{owner} > 10.0.0.0/8:0-65535/[]"),
        ]
    );
}

#[test]
fn grants_open_protocols_and_give_application_capabilities() {
    let nodes = Nodes::new(&[(&[], &[]), (&["tag:web"], &[])]);
    let policy = policy(
        r#"{"tagOwners": {"tag:web": []},
            "grants": [{"src": ["owner@tail.internal"], "dst": ["tag:web"], "ip": ["tcp:443", "udp:*", "icmp"],
                        "app": {"example.com/cap/x": [{"level": 1}]}}]}"#,
    );
    let all = nodes.all();
    let rules = policy.filter_for(all[1], &all);
    let protocols: Vec<_> = rules.iter().map(|rule| rule.ip_proto.clone()).collect();
    assert_eq!(protocols, [vec![1, 58], vec![6], vec![17], vec![]]);
    let grant = &rules[3].cap_grant[0];
    assert_eq!(grant.dsts.len(), 2);
    assert!(grant.cap_map.contains_key("example.com/cap/x"));
}

#[test]
fn routes_are_approved_within_the_prefix_and_for_the_named() {
    let nodes = Nodes::new(&[(&["tag:router"], &[]), (&[], &[])]);
    let policy =
        policy(r#"{"tagOwners": {"tag:router": []}, "autoApprovers": {"routes": {"10.0.0.0/8": ["tag:router"]}}}"#);
    let all = nodes.all();
    let approves = |net: &str, node: usize| policy.approves(net.parse().unwrap(), all[node]);
    assert!(approves("10.0.0.0/8", 0) && approves("10.1.0.0/16", 0));
    assert!(!approves("10.1.0.0/16", 1) && !approves("0.0.0.0/0", 0) && !approves("192.168.0.0/16", 0));
}

#[test]
fn attributes_go_to_their_targets() {
    let nodes = Nodes::new(&[(&["tag:web"], &[]), (&[], &[])]);
    let policy = policy(
        r#"{"tagOwners": {"tag:web": []}, "nodeAttrs": [{"target": ["tag:web"], "attr": ["disable-udp-gso"]}]}"#,
    );
    let all = nodes.all();
    assert_eq!(policy.attributes(all[0]), BTreeSet::from(["disable-udp-gso"]));
    assert_eq!(policy.attributes(all[1]), BTreeSet::new());
}
