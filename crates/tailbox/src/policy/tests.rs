use isthmus_runtime::ErrorChain;

use super::*;

fn policy(text: &str) -> Policy {
    Policy::try_from(text.to_owned()).unwrap_or_else(|error| panic!("{}", ErrorChain(&error)))
}

fn refusal(text: &str) -> String {
    let error = Policy::try_from(text.to_owned()).expect_err(text);
    ErrorChain(&error).to_string()
}

/// Nodes with their tags, addresses 100.64.0.1, .2, … and routes, all of which host the same Services.
struct Nodes(Vec<(Vec<String>, Vec<IpNet>)>, Vec<Hosted>);

impl Nodes {
    fn new(nodes: &[(&[&str], &[&str])]) -> Self {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>();
        Self(
            nodes.iter().map(|(tags, routes)| (own(tags), nets(routes))).collect(),
            Vec::new(),
        )
    }

    fn hosting(self, name: &str, tags: &[&str]) -> Self {
        let service = Hosted {
            name: name.to_owned(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            addresses: ["100.64.9.9".parse().unwrap(), "fd7a:115c:a1e0::99".parse().unwrap()],
        };
        Self(self.0, vec![service])
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
            services: &self.1,
        });
        subjects.collect()
    }

    /// The filter of a node as `source > destination:first-last/protocols`.
    fn filter(&self, policy: &Policy, node: usize) -> Vec<String> {
        let all = self.all();
        let rules = policy.filter_for(all[node], &policy.sources(&all));
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
    let rules = policy.filter_for(all[1], &policy.sources(&all));
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

#[test]
fn service_is_reached_by_its_name_and_its_tags_on_the_ports_that_the_policy_names() {
    let policy = policy(
        r#"{"tagOwners": {"tag:k8s": [], "tag:web": []}, "autoApprovers": {"services": {"svc:web": ["tag:k8s"], "tag:web": ["100.64.0.2"]}},
        "acls": [{"action": "accept", "proto": "tcp", "src": ["100.64.0.7"], "dst": ["svc:web:443"]}],
        "grants": [{"src": ["100.64.0.8"], "dst": ["tag:web"], "ip": ["80"]}, {"src": ["100.64.0.9"], "dst": ["svc:other"], "ip": ["*"]}]}"#,
    );
    let nodes = Nodes::new(&[(&["tag:k8s"], &[]), (&[], &[])]).hosting("svc:web", &["tag:web"]);
    assert_eq!(
        nodes.filter(&policy, 0),
        [
            "100.64.0.7 > 100.64.9.9:443-443/[6]",
            "100.64.0.7 > fd7a:115c:a1e0::99:443-443/[6]",
            "100.64.0.8 > 100.64.9.9:80-80/[]",
            "100.64.0.8 > fd7a:115c:a1e0::99:80-80/[]"
        ]
    );
    let all = nodes.all();
    assert!(policy.approves_host("svc:web", &[], all[0]) && !policy.approves_host("svc:web", &[], all[1]));
    assert!(policy.approves_host("svc:other", &["tag:web".into()], all[1]));
    assert!(!policy.approves_host("svc:other", &[], all[0]));
}

#[test]
fn name_of_a_service_that_is_none_is_refused() {
    for name in ["svc:", "svc:Web", "svc:a.b", "svc:-a"] {
        let text = format!(r#"{{"acls": [{{"action": "accept", "src": ["*"], "dst": ["{name}:80"]}}]}}"#);
        assert!(refusal(&text).contains("acls[0].dst"), "{name}");
    }
    assert!(refusal(r#"{"autoApprovers": {"services": {"10.0.0.0/8": ["*"]}}}"#).contains("neither a Service"));
}
