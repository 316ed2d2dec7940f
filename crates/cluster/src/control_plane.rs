//! The arguments and configuration of kube-apiserver, kube-controller-manager and kube-scheduler.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::spec::ClusterSpec;

/// What an API server is told, beside what is the same for all of them.
pub(crate) struct ApiServerConfig {
    pub(crate) pki: PathBuf,
    pub(crate) etcd_port: u16,
    pub(crate) bind: IpAddr,
    pub(crate) port: u16,
    pub(crate) advertise: IpAddr,
    pub(crate) service_nets: String,
    pub(crate) admission: PathBuf,
    pub(crate) audit_policy: PathBuf,
    pub(crate) audit_log: PathBuf,
    /// Seconds that Pods stay on a node that is gone.
    pub(crate) unreachable_s: u32,
    /// Whether nodes and controllers work with this API server. Without them no ServiceAccount appears by itself.
    pub(crate) with_nodes: bool,
}

impl ApiServerConfig {
    /// The arguments of kube-apiserver.
    pub(crate) fn render_args(&self) -> Vec<String> {
        let mut args = self.render_serving();
        args.extend(self.render_identity());
        args.extend(self.render_policy());
        args
    }

    fn render_serving(&self) -> Vec<String> {
        vec![
            format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port),
            format!("--bind-address={}", self.bind),
            format!("--secure-port={}", self.port),
            format!("--advertise-address={}", self.advertise),
            format!("--service-cluster-ip-range={}", self.service_nets),
            self.file("tls-cert-file", "apiserver.crt"),
            self.file("tls-private-key-file", "apiserver.key"),
            "--allow-privileged=true".to_owned(),
            "--event-ttl=1h".to_owned(),
            "--profiling=false".to_owned(),
        ]
    }

    fn render_identity(&self) -> Vec<String> {
        vec![
            self.file("client-ca-file", "ca.crt"),
            self.file("kubelet-client-certificate", "kubelet-client.crt"),
            self.file("kubelet-client-key", "kubelet-client.key"),
            self.file("kubelet-certificate-authority", "ca.crt"),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            self.file("service-account-signing-key-file", "sa.key"),
            self.file("service-account-key-file", "sa.pub"),
            self.file("requestheader-client-ca-file", "front-ca.crt"),
            "--requestheader-allowed-names=front-proxy-client".to_owned(),
            "--requestheader-username-headers=X-Remote-User".to_owned(),
            "--requestheader-group-headers=X-Remote-Group".to_owned(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
            self.file("proxy-client-cert-file", "front-client.crt"),
            self.file("proxy-client-key-file", "front-client.key"),
        ]
    }

    fn render_policy(&self) -> Vec<String> {
        let mut args = vec![
            format!("--admission-control-config-file={}", self.admission.display()),
            format!("--audit-policy-file={}", self.audit_policy.display()),
            format!("--audit-log-path={}", self.audit_log.display()),
            "--audit-log-maxsize=200".to_owned(),
            "--audit-log-maxbackup=2".to_owned(),
            format!("--default-not-ready-toleration-seconds={}", self.unreachable_s),
            format!("--default-unreachable-toleration-seconds={}", self.unreachable_s),
        ];
        let by_tier: &[&str] = if self.with_nodes {
            // The API server runs outside the nodes, so it calls webhooks at endpoints and not at ClusterIPs.
            &[
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--enable-aggregator-routing=true",
            ]
        } else {
            &[
                "--authorization-mode=RBAC",
                "--disable-admission-plugins=ServiceAccount",
                "--endpoint-reconciler-type=none",
            ]
        };
        args.extend(by_tier.iter().map(|arg| (*arg).to_owned()));
        args
    }

    fn file(&self, flag: &str, file: &str) -> String {
        format!("--{flag}={}", self.pki.join(file).display())
    }
}

/// The admission configuration: the Pod Security level of namespaces without a label.
pub(crate) fn render_admission(level: &str) -> Value {
    json!({
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "AdmissionConfiguration",
        "plugins": [{
            "name": "PodSecurity",
            "configuration": {
                "apiVersion": "pod-security.admission.config.k8s.io/v1",
                "kind": "PodSecurityConfiguration",
                "defaults": {
                    "enforce": level, "enforce-version": "latest",
                    "audit": level, "audit-version": "latest",
                    "warn": level, "warn-version": "latest",
                },
                "exemptions": {"namespaces": ["kube-system"]},
            },
        }],
    })
}

/// The audit policy: one line for every request that ended, except probes.
pub(crate) fn render_audit_policy() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "nonResourceURLs": ["/readyz*", "/livez*", "/healthz*"]},
            {"level": "Metadata"},
        ],
    })
}

/// The API server's name.
pub(crate) const API_SERVER: &str = "kube-apiserver";

const CONTROLLER_MANAGER: &str = "kube-controller-manager";

/// What acts on the API server's objects: of each one at a time is the leader.
pub(crate) const LEADERS: [&str; 2] = [CONTROLLER_MANAGER, "kube-scheduler"];

/// The arguments of one of the [`LEADERS`].
pub(crate) fn render_leader_args(name: &str, spec: &ClusterSpec, pki: &Path) -> Vec<String> {
    if name == CONTROLLER_MANAGER {
        render_controller_manager_args(spec, pki)
    } else {
        render_client_args(pki, name, spec.addressing().scheduler_port())
    }
}

fn render_controller_manager_args(spec: &ClusterSpec, pki: &Path) -> Vec<String> {
    let file = |flag: &str, file: &str| format!("--{flag}={}", pki.join(file).display());
    let mut args = render_client_args(pki, CONTROLLER_MANAGER, spec.addressing().controller_manager_port());
    args.extend([
        "--use-service-account-credentials".to_owned(),
        file("service-account-private-key-file", "sa.key"),
        file("root-ca-file", "ca.crt"),
        file("client-ca-file", "ca.crt"),
        file("cluster-signing-cert-file", "ca.crt"),
        file("cluster-signing-key-file", "ca.key"),
        "--allocate-node-cidrs=false".to_owned(),
        format!("--service-cluster-ip-range={}", spec.addressing().service_nets()),
        // Its own limit of 20 requests a second makes the first Pod five seconds late.
        "--kube-api-qps=200".to_owned(),
        "--kube-api-burst=400".to_owned(),
        format!("--node-monitor-grace-period={}s", spec.node_grace_s),
    ]);
    args
}

fn render_client_args(pki: &Path, component: &str, port: u16) -> Vec<String> {
    let kubeconfig = pki.join(format!("{component}.kubeconfig"));
    let kubeconfig = kubeconfig.display();
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        "--profiling=false".to_owned(),
    ]
}
