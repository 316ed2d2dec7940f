//! What the operator may do: one table, from which its roles are written. A right that is not used is taken out here.

use std::fmt::Write as _;

/// One row: rights on some kinds of objects.
#[derive(Debug, Clone, Copy)]
pub struct Right {
    /// What for.
    pub why: &'static str,
    /// The API group; empty for the core.
    pub group: &'static str,
    /// Kinds, in the plural.
    pub resources: &'static [&'static str],
    /// Only objects with these names; all when empty.
    pub names: &'static [&'static str],
    /// What may be done.
    pub verbs: &'static [&'static str],
}

/// Rights everywhere in the cluster.
pub const CLUSTER: &[Right] = &[
    Right {
        why: "Users' Services: read all, write finalizer, spec of egress Services and our condition.",
        group: "",
        resources: &["services"],
        names: &[],
        verbs: &["list", "watch", "patch"],
    },
    Right {
        why: "",
        group: "",
        resources: &["services/status"],
        names: &[],
        verbs: &["patch"],
    },
    Right {
        why: "",
        group: "events.k8s.io",
        resources: &["events"],
        names: &[],
        verbs: &["create"],
    },
    Right {
        why: "Its UID tells this cluster from others.",
        group: "",
        resources: &["namespaces"],
        names: &["kube-system"],
        verbs: &["get"],
    },
    Right {
        why: "Proxy classes are read and judged.",
        group: "tailscale.com",
        resources: &["proxyclasses"],
        names: &[],
        verbs: &["list", "watch"],
    },
    Right {
        why: "",
        group: "tailscale.com",
        resources: &["proxyclasses/status"],
        names: &[],
        verbs: &["patch"],
    },
];

/// Rights in the operator's own namespace.
pub const NAMESPACE: &[Right] = &[
    Right {
        why: "",
        group: "",
        resources: &["services"],
        names: &[],
        verbs: &["create", "delete"],
    },
    Right {
        why: "`get` is held so that it can be given to the proxies, each for its own Secret.",
        group: "",
        resources: &["secrets"],
        names: &[],
        verbs: &["get", "list", "watch", "create", "patch", "delete"],
    },
    Right {
        why: "",
        group: "",
        resources: &["serviceaccounts"],
        names: &[],
        verbs: &["list", "watch", "create", "patch", "delete"],
    },
    Right {
        why: "",
        group: "rbac.authorization.k8s.io",
        resources: &["roles", "rolebindings"],
        names: &[],
        verbs: &["list", "watch", "create", "patch", "delete"],
    },
    Right {
        why: "",
        group: "apps",
        resources: &["statefulsets"],
        names: &[],
        verbs: &["list", "watch", "create", "patch", "delete"],
    },
    Right {
        why: "",
        group: "",
        resources: &["pods"],
        names: &[],
        verbs: &["list", "watch"],
    },
    Right {
        why: "Metrics of proxies, where the Prometheus operator is installed.",
        group: "monitoring.coreos.com",
        resources: &["servicemonitors"],
        names: &[],
        verbs: &["list", "watch", "create", "patch", "delete"],
    },
    Right {
        why: "Leader election.",
        group: "coordination.k8s.io",
        resources: &["leases"],
        names: &[],
        verbs: &["create"],
    },
    Right {
        why: "",
        group: "coordination.k8s.io",
        resources: &["leases"],
        names: &["isthmus-operator"],
        verbs: &["get", "update"],
    },
];

/// The manifest with the operator's ServiceAccount, roles and bindings.
pub fn manifest() -> String {
    let mut text = "\
# What the operator may do. Written by `cargo xtask gen` from the table in crates/operator-core/src/rights.rs.
apiVersion: v1
kind: ServiceAccount
metadata:
  name: operator
  namespace: isthmus
"
    .to_owned();
    text += &role("ClusterRole", "isthmus-operator", "", CLUSTER);
    text += &role("Role", "operator", "  namespace: isthmus\n", NAMESPACE);
    text
}

fn role(kind: &str, name: &str, namespace: &str, rights: &[Right]) -> String {
    let rules: String = rights.iter().map(rule).collect();
    format!(
        "\
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {kind}
metadata:
  name: {name}
{namespace}rules:
{rules}---
apiVersion: rbac.authorization.k8s.io/v1
kind: {kind}Binding
metadata:
  name: {name}
{namespace}roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {kind}
  name: {name}
subjects:
  - kind: ServiceAccount
    name: operator
    namespace: isthmus
"
    )
}

fn rule(right: &Right) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    if !right.why.is_empty() {
        line(format!("  # {}", right.why));
    }
    line(format!(
        "  - apiGroups: [{}]",
        if right.group.is_empty() { "\"\"" } else { right.group }
    ));
    line(format!("    resources: [{}]", right.resources.join(", ")));
    if !right.names.is_empty() {
        line(format!("    resourceNames: [{}]", right.names.join(", ")));
    }
    line(format!("    verbs: [{}]", right.verbs.join(", ")));
    text
}
