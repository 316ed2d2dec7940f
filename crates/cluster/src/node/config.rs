//! The configuration files of a node's daemons.

use std::path::Path;

use serde_json::{Value, json};

use crate::host;
use crate::paths::Paths;
use crate::spec::ClusterSpec;

/// The image that holds a Pod's namespaces.
pub(crate) const PAUSE_IMAGE: &str = "isthmus.local/pause:1";

/// What the first process of a node does: it gives the node folders of its own where daemons use fixed paths, and stays.
pub(crate) fn render_init(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "set -eu
mount --make-rprivate /
umount -l /run/netns 2>/dev/null || true
for own in /run/netns /run/containerd /var/lib/cni /var/log/containers /var/log/pods; do mount -t tmpfs tmpfs $own; done
mount --bind '{folder}/kubelet' /var/lib/kubelet
mount --make-rshared /
: > '{folder}/mounts-ready'
exec sleep infinity
"
    )
}

/// The folders that must exist on the host for a node's own ones to be mounted over them.
pub(crate) const MOUNT_POINTS: [&str; 6] = [
    "/run/netns",
    "/run/containerd",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
];

/// The configuration of the node's network plugins.
pub(crate) fn render_network(spec: &ClusterSpec, node: u8, folder: &Path) -> Value {
    let net = spec.addressing();
    let mut ranges = vec![json!([{"subnet": net.node_pods(node)}])];
    let mut routes = vec![json!({"dst": "0.0.0.0/0"})];
    if spec.ipv6 {
        ranges.push(json!([{"subnet": net.node_pods6(node)}]));
        routes.push(json!({"dst": "::/0"}));
    }
    let mut plugins = vec![json!({
        "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true, "mtu": 1500,
        "ipam": {"type": "host-local", "dataDir": folder.join("ipam"), "ranges": ranges, "routes": routes},
    })];
    if !spec.pod_sysctls.is_empty() {
        plugins.push(json!({"type": "tuning", "sysctl": spec.pod_sysctls}));
    }
    plugins.push(json!({"type": "portmap", "capabilities": {"portMappings": true}}));
    json!({"cniVersion": "1.0.0", "name": spec.name(), "plugins": plugins})
}

/// The configuration of containerd.
pub(crate) fn render_containerd(folder: &Path, socket: &Path) -> String {
    let (folder, socket, plugins) = (folder.display(), socket.display(), host::plugin_folder());
    format!(
        r#"version = 2
root = "{folder}/containerd/root"
state = "{folder}/containerd/state"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{PAUSE_IMAGE}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  enable_unprivileged_ports = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{plugins}"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
        Root = "{folder}/containerd/runc"
"#
    )
}

/// The configuration of the kubelet: stock, except for what a node without systemd in a namespace needs.
pub(crate) fn render_kubelet(spec: &ClusterSpec, node: &str, cgroup: &str, paths: &Paths) -> Value {
    let folder = paths.node(node);
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": format!("unix://{}", paths.containerd_socket(node).display()),
        "authentication": {
            "anonymous": {"enabled": false},
            "webhook": {"enabled": true},
            "x509": {"clientCAFile": paths.pki_file("ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": paths.pki_file(&format!("{node}-serving.crt")),
        "tlsPrivateKeyFile": paths.pki_file(&format!("{node}-serving.key")),
        "failCgroupV1": false,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{cgroup}"),
        "cgroupsPerQOS": true,
        "enforceNodeAllocatable": [],
        "failSwapOn": false,
        "oomScoreAdj": 0,
        "readOnlyPort": 0,
        "clusterDNS": [spec.addressing().dns()],
        "clusterDomain": spec.cluster_domain,
        "resolvConf": folder.join("resolv.conf"),
        "podLogsDir": folder.join("podlogs"),
        "serializeImagePulls": false,
        "evictionHard": {"memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "nodeStatusUpdateFrequency": "4s",
        "syncFrequency": "10s",
        "volumePluginDir": folder.join("volumeplugins"),
        "logging": {"verbosity": 2},
    })
}

/// The arguments of the kubelet.
pub(crate) fn render_kubelet_args(spec: &ClusterSpec, number: u8, node: &str, paths: &Paths) -> Vec<String> {
    let addresses: Vec<String> = spec
        .addressing()
        .node_all(number)
        .iter()
        .map(ToString::to_string)
        .collect();
    let folder = paths.node(node);
    vec![
        format!("--config={}", folder.join("kubelet.json").display()),
        format!(
            "--kubeconfig={}",
            paths.pki_file(&format!("{node}.kubeconfig")).display()
        ),
        format!("--hostname-override={node}"),
        format!("--node-ip={}", addresses.join(",")),
        "--root-dir=/var/lib/kubelet".to_owned(),
        format!("--cert-dir={}", folder.join("kubelet-pki").display()),
    ]
}

/// The configuration of kube-proxy.
pub(crate) fn render_proxy(spec: &ClusterSpec, node: &str, paths: &Paths) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "hostnameOverride": node,
        "clientConnection": {"kubeconfig": paths.pki_file("kube-proxy.kubeconfig")},
        "clusterCIDR": spec.addressing().pod_nets(),
        "detectLocalMode": "ClusterCIDR",
        "oomScoreAdj": 0,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    })
}
