//! Names of nodes below the tailnet's domain.

use std::collections::BTreeSet;

/// The most characters of a DNS label.
const LABEL_LIMIT: usize = 63;

/// The label a machine of this host name would like: lower case, letters, digits and inner hyphens, cut to the first
/// part of a dotted name; `node` when nothing is left.
pub(crate) fn wanted_label(hostname: &str) -> String {
    let first = hostname.split('.').next().unwrap_or_default();
    let mut label: String = first
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    label.truncate(LABEL_LIMIT);
    let label = label.trim_matches('-');
    if label.is_empty() {
        "node".to_owned()
    } else {
        label.to_owned()
    }
}

/// The wanted label, or the first of `-1`, `-2`, … behind it that is not taken.
pub(crate) fn free_label(wanted: &str, taken: &BTreeSet<&str>) -> String {
    if !taken.contains(wanted) {
        return wanted.to_owned();
    }
    let numbered = (1_u32..).map(|number| {
        let suffix = format!("-{number}");
        let room = LABEL_LIMIT - suffix.len();
        format!("{}{suffix}", &wanted[..wanted.len().min(room)])
    });
    numbered
        .into_iter()
        .find(|label| !taken.contains(label.as_str()))
        .expect("fewer labels are taken than numbers exist")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn label_is_made_from_the_host_name() {
        for (hostname, label) in [
            ("Web", "web"),
            ("web.example.com", "web"),
            ("my_host", "my-host"),
            ("--", "node"),
            ("", "node"),
            ("Büro", "b-ro"),
        ] {
            assert_eq!(wanted_label(hostname), label, "{hostname}");
        }
    }

    #[test]
    fn taken_label_gets_the_next_number() {
        assert_eq!(free_label("web", &BTreeSet::from(["web"])), "web-1");
        assert_eq!(free_label("web", &BTreeSet::from(["web", "web-1"])), "web-2");
    }

    proptest! {
        #[test]
        fn labels_are_valid_for_any_host_name(hostname in "\\PC{0,100}") {
            let wanted = wanted_label(&hostname);
            for label in [wanted.clone(), free_label(&wanted, &BTreeSet::from([wanted.as_str()]))] {
                prop_assert!(!label.is_empty() && label.len() <= 63);
                prop_assert!(label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
                prop_assert!(!label.starts_with('-') && !label.ends_with('-'));
            }
        }
    }
}
