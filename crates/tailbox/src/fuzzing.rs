//! Doors to readers of outside bytes that are private otherwise, for the targets in `fuzz/`.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use isthmus_tailnet_wire::control::FilterRule;

use crate::acme::answer::{self, Zone};
use crate::noise::fuzzing as noise;
use crate::policy::{Hosted, Policy, PolicyError, Subject};
use crate::store;

/// What nodes of a tailnet may let in by a policy: the rules of a tagged router that hosts a Service, and those of a node
/// of a user.
///
/// # Errors
/// When the text is no policy.
pub fn compile_policy(text: &str) -> Result<Vec<FilterRule>, PolicyError> {
    let policy = Policy::try_from(text.to_owned())?;
    assert_eq!(policy.text(), text, "a policy is kept as its author wrote it");
    let tags = [vec!["tag:router".to_owned(), "tag:k8s".to_owned()], Vec::new()];
    let routes: Vec<IpNet> = ["10.0.0.0/8", "fd00::/64"]
        .iter()
        .filter_map(|net| net.parse().ok())
        .collect();
    let service = Hosted {
        name: "svc:web".to_owned(),
        tags: vec!["tag:web".to_owned()],
        addresses: addresses(9),
    };
    let services = [service];
    let subjects = [
        Subject {
            tags: &tags[0],
            user: "",
            addresses: addresses(1),
            routes: &routes,
            services: &services,
        },
        Subject {
            tags: &tags[1],
            user: "ann@example.com",
            addresses: addresses(2),
            routes: &[],
            services: &[],
        },
    ];
    let _ = (
        policy.attributes(subjects[0]),
        policy.foreign_tag(&tags[0], &std::collections::BTreeSet::new()),
    );
    let _ = (
        policy.approves(routes[0], subjects[0]),
        policy.approves_host("svc:web", &tags[0], subjects[0]),
    );
    assert_eq!(
        policy.relates(subjects[0], subjects[1]),
        policy.relates(subjects[1], subjects[0]),
        "who may see whom is the same from both sides"
    );
    Ok(subjects
        .iter()
        .flat_map(|subject| policy.filter_for(*subject, &policy.sources(&subjects)))
        .collect())
}

fn addresses(last: u8) -> [IpAddr; 2] {
    [
        IpAddr::from([100, 64, 0, last]),
        IpAddr::from([0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, last.into()]),
    ]
}

/// Reads a snapshot and writes it again; nothing for what is none.
pub fn rewrite_snapshot(bytes: &[u8]) -> Option<Vec<u8>> {
    let (key, state) = store::parse(Path::new("snapshot"), bytes).ok()?;
    store::render(&key, &state).ok()
}

/// The answer of the name server of a tailnet to a question, and nothing for what is none. There are records for
/// `_acme-challenge.web.tail.internal`, and the name `web.tail.internal`.
pub fn answer_question(question: &[u8], limit: usize) -> Option<Vec<u8>> {
    answer::to(&Names, question, limit)
}

struct Names;

impl Zone for Names {
    fn domain(&self) -> &'static str {
        "tail.internal"
    }

    fn values(&self, name: &str) -> Vec<String> {
        let has_records = name == "_acme-challenge.web.tail.internal";
        if has_records {
            vec!["a".repeat(43), "b".repeat(43)]
        } else {
            Vec::new()
        }
    }

    fn is_name(&self, name: &str) -> bool {
        name == "web.tail.internal"
    }
}

/// Writes records as a client does whose session has this key.
pub fn write_records(key: [u8; 32], plain: &[&[u8]]) -> Vec<Vec<u8>> {
    noise::write_records(key, plain)
}

/// Reads records that arrive in pieces as of a client whose session has this key: the plaintext up to the first that is refused, and whether
/// none was.
pub fn read_records(key: [u8; 32], bytes: &[u8], piece: usize) -> (Vec<u8>, bool) {
    noise::read_records(key, bytes, piece)
}
