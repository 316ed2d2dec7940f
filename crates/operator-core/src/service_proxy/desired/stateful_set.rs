//! The StatefulSet: one Pod with the proxy.
//!
//! Targets are not here: changing one must not restart the Pod.

use isthmus_contract::{device_config, env, port, probe, secret_key};
use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetSpec},
        core::v1::{
            Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, EnvVarSource, HTTPGetAction,
            HostPathVolumeSource, KeyToPath, ObjectFieldSelector, PodSpec, PodTemplateSpec, Probe,
            ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};

use super::Proxy;
use crate::service_proxy::intent::{Direction, Wanted};

const CONTAINER: &str = "proxy";
const TUN_DEVICE: &str = "/dev/net/tun";

pub(super) fn build(proxy: &Proxy<'_>, wanted: &Wanted) -> StatefulSet {
    let mut labels = proxy.labels();
    labels.extend(proxy.selector());
    StatefulSet {
        metadata: proxy.metadata(&proxy.name),
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            // A broken Pod must not block its own fix.
            pod_management_policy: Some("Parallel".to_owned()),
            service_name: Some(proxy.name.clone()),
            selector: LabelSelector {
                match_labels: Some(proxy.selector()),
                ..LabelSelector::default()
            },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod_spec(proxy, wanted)),
            },
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

fn pod_spec(proxy: &Proxy<'_>, wanted: &Wanted) -> PodSpec {
    PodSpec {
        service_account_name: Some(proxy.name.clone()),
        enable_service_links: Some(false),
        priority_class_name: proxy.settings.proxy_priority_class.clone(),
        containers: vec![container(proxy, wanted)],
        volumes: Some(vec![config_volume(proxy), cache_volume(), tun_volume()]),
        ..PodSpec::default()
    }
}

fn container(proxy: &Proxy<'_>, wanted: &Wanted) -> Container {
    Container {
        name: CONTAINER.to_owned(),
        image: Some(proxy.settings.proxy_image.clone()),
        image_pull_policy: proxy.settings.proxy_image_pull_policy.clone(),
        command: Some(vec!["/isthmus".to_owned(), "proxy".to_owned()]),
        env: Some(environment(wanted)),
        ports: Some(vec![ContainerPort {
            name: Some("health".to_owned()),
            container_port: i32::from(wanted.health_port),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        readiness_probe: Some(probe(probe::READY_PATH, 1)),
        liveness_probe: Some(probe(probe::LIVE_PATH, 10)),
        resources: Some(resources()),
        security_context: Some(security_context()),
        // The condition shows the last words of a container that cannot start.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(mounts(proxy)),
        ..Container::default()
    }
}

fn environment(wanted: &Wanted) -> Vec<EnvVar> {
    let field = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".to_owned()),
                field_path: path.to_owned(),
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let value = |name: &str, value: &str| EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..EnvVar::default()
    };
    let app = match wanted.direction {
        Direction::Ingress { .. } => env::APP_INGRESS,
        Direction::Egress { .. } => env::APP_EGRESS,
    };
    vec![
        value(env::USERSPACE, "false"),
        field(env::POD_IP, "status.podIP"),
        field(env::POD_IPS, "status.podIPs"),
        field(env::POD_NAME, "metadata.name"),
        field(env::POD_NAMESPACE, "metadata.namespace"),
        field(env::POD_UID, "metadata.uid"),
        value(env::KUBE_SECRET, "$(POD_NAME)"),
        value(env::CONFIG_DIR, &format!("{}/$(POD_NAME)", env::CONFIG_MOUNT)),
        value(env::LOCAL_ADDR_PORT, &format!("[::]:{}", wanted.health_port)),
        value(env::ENABLE_HEALTH_CHECK, "true"),
        value(env::ENABLE_METRICS, "true"),
        value(env::WIREGUARD_PORT, &port::WIREGUARD.to_string()),
        value(env::INTERNAL_APP, app),
    ]
}

fn probe(path: &str, period_seconds: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("health".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(5),
        failure_threshold: Some(3),
        ..Probe::default()
    }
}

/// What one proxy uses with a small tailnet and light traffic.
fn resources() -> ResourceRequirements {
    let requests = [("cpu", "10m"), ("memory", "24Mi")];
    let requests = requests
        .into_iter()
        .map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())));
    ResourceRequirements {
        requests: Some(requests.collect()),
        ..ResourceRequirements::default()
    }
}

/// Root without rights, but for the network of the Pod.
fn security_context() -> SecurityContext {
    SecurityContext {
        run_as_user: Some(0),
        run_as_group: Some(0),
        allow_privilege_escalation: Some(false),
        read_only_root_filesystem: Some(true),
        capabilities: Some(Capabilities {
            add: Some(vec!["NET_ADMIN".to_owned()]),
            drop: Some(vec!["ALL".to_owned()]),
        }),
        seccomp_profile: Some(SeccompProfile {
            type_: "RuntimeDefault".to_owned(),
            ..SeccompProfile::default()
        }),
        ..SecurityContext::default()
    }
}

fn mounts(proxy: &Proxy<'_>) -> Vec<VolumeMount> {
    let mount = |name: &str, path: String, read_only| VolumeMount {
        name: name.to_owned(),
        mount_path: path,
        read_only,
        ..VolumeMount::default()
    };
    vec![
        mount(
            "config",
            format!("{}/{}", env::CONFIG_MOUNT, proxy.pod_name),
            Some(true),
        ),
        mount("cache", env::CACHE_MOUNT.to_owned(), None),
        mount("tun", TUN_DEVICE.to_owned(), None),
    ]
}

/// The config keys only: the node's private keys are not put into files.
fn config_volume(proxy: &Proxy<'_>) -> Volume {
    let keys = [
        device_config::file_name(device_config::CAPABILITY),
        secret_key::PROXY_CONFIG.to_owned(),
    ];
    let items = keys.map(|key| KeyToPath {
        path: key.clone(),
        key,
        ..KeyToPath::default()
    });
    Volume {
        name: "config".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(proxy.pod_name.clone()),
            items: Some(items.to_vec()),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn cache_volume() -> Volume {
    Volume {
        name: "cache".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: Some(Quantity("16Mi".to_owned())),
        }),
        ..Volume::default()
    }
}

fn tun_volume() -> Volume {
    Volume {
        name: "tun".to_owned(),
        host_path: Some(HostPathVolumeSource {
            path: TUN_DEVICE.to_owned(),
            type_: Some("CharDevice".to_owned()),
        }),
        ..Volume::default()
    }
}
