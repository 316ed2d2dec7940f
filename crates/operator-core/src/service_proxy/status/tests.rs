use isthmus_contract::{condition::ProxyReason, proxy_config::ProxyConfig, proxy_status::ProxyStatus, secret_key};
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, PodCondition,
};

use super::verdict;
use crate::service_proxy::{
    ControlProblem, Input,
    test_objects::{come_up, exposed, ingress_wanted, input, pod, report, settle},
};

fn settled() -> Input {
    let mut input = input(exposed());
    settle(&mut input);
    input
}

fn says(input: &Input) -> (ProxyReason, String) {
    let verdict = verdict(input, &ingress_wanted());
    (verdict.reason, verdict.message)
}

fn pending(input: &Input, words: &str) {
    let (reason, message) = says(input);
    assert_eq!(reason, ProxyReason::Pending, "{message}");
    assert!(message.contains(words), "{message}");
}

fn waiting(reason: &str, message: Option<&str>) -> ContainerStatus {
    let waiting = ContainerStateWaiting {
        reason: Some(reason.to_owned()),
        message: message.map(str::to_owned),
    };
    ContainerStatus {
        state: Some(ContainerState {
            waiting: Some(waiting),
            ..ContainerState::default()
        }),
        ..ContainerStatus::default()
    }
}

/// A container that said this before it ended.
fn crashed(words: &str) -> ContainerStatus {
    let ended = ContainerStateTerminated {
        message: Some(words.to_owned()),
        ..ContainerStateTerminated::default()
    };
    let last_state = ContainerState {
        terminated: Some(ended),
        ..ContainerState::default()
    };
    ContainerStatus {
        last_state: Some(last_state),
        ..waiting("CrashLoopBackOff", Some("back-off 10s"))
    }
}

fn with_container(status: ContainerStatus) -> Input {
    let mut input = settled();
    let mut pod = pod(false);
    pod.status.as_mut().unwrap().container_statuses = Some(vec![status]);
    input.children.pod = Some(pod);
    input
}

#[test]
fn each_missing_piece_is_named_from_the_outside_in() {
    let mut input = settled();
    pending(&input, "to be created");
    input.children.pod = Some(pod(false));
    pending(&input, "to log in");
    report(&mut input, secret_key::DEVICE_ID, "n1");
    pending(&input, "take over the target");
    come_up(&mut input, &ingress_wanted());
    input.children.pod = Some(pod(false));
    pending(&input, "to become ready");
    come_up(&mut input, &ingress_wanted());
    let (reason, message) = says(&input);
    assert_eq!(reason, ProxyReason::Created);
    assert!(
        message.ends_with("is on the tailnet as shop-web.tail.net (100.64.0.9)"),
        "{message}"
    );
}

#[test]
fn ready_pod_with_another_target_is_not_there_yet() {
    let mut input = settled();
    come_up(&mut input, &ingress_wanted());
    let other = ProxyConfig::ingress(vec![[10, 96, 9, 9].into()], Vec::new());
    report(
        &mut input,
        secret_key::PROXY_STATUS,
        &ProxyStatus::new("pod-1", Some(other), None).render(),
    );
    pending(&input, "take over the target");
}

#[test]
fn words_of_an_earlier_pod_do_not_count() {
    let mut input = settled();
    come_up(&mut input, &ingress_wanted());
    let status = ProxyStatus::new(
        "pod-0",
        Some(ingress_wanted().proxy_config()),
        Some("no TUN".to_owned()),
    );
    report(&mut input, secret_key::PROXY_STATUS, &status.render());
    pending(&input, "take over the target");
}

#[test]
fn problem_of_the_proxy_is_shown() {
    let mut input = settled();
    input.children.pod = Some(pod(false));
    let status = ProxyStatus::new("pod-1", None, Some("grant NET_ADMIN to the container".to_owned()));
    report(&mut input, secret_key::PROXY_STATUS, &status.render());
    pending(&input, "grant NET_ADMIN");
}

#[test]
fn pod_that_finds_no_node_says_why() {
    let mut input = settled();
    let mut pod = pod(false);
    pod.status.as_mut().unwrap().conditions = Some(vec![PodCondition {
        type_: "PodScheduled".to_owned(),
        status: "False".to_owned(),
        message: Some("0/2 nodes are available".to_owned()),
        ..PodCondition::default()
    }]);
    input.children.pod = Some(pod);
    pending(&input, "0/2 nodes are available");
}

#[test]
fn container_that_cannot_start_says_why() {
    pending(&with_container(waiting("ContainerCreating", None)), "is starting");
    pending(
        &with_container(waiting("ErrImageNeverPull", Some("image isthmus:x is not present"))),
        "isthmus:x",
    );
    let crashed = crashed("starting\ncannot open /dev/net/tun: no such file\n");
    pending(&with_container(crashed), "CrashLoopBackOff: cannot open /dev/net/tun");
}

#[test]
fn error_of_a_log_line_is_shown_without_the_rest_of_the_line() {
    let line = r#"{"timestamp":"2026-01-01T00:00:00Z","level":"ERROR","message":"ended by an error","error":"no TUN"}"#;
    let (_, message) = says(&with_container(crashed(line)));
    assert!(message.ends_with("CrashLoopBackOff: no TUN"), "{message}");
}

#[test]
fn pod_going_away_is_not_ready() {
    let mut input = settled();
    come_up(&mut input, &ingress_wanted());
    let now = input.now.clone();
    input.children.pod.as_mut().unwrap().metadata.deletion_timestamp = Some(now);
    pending(&input, "to be replaced");
}

#[test]
fn trouble_with_the_tailnet_is_a_failure() {
    let mut input = settled();
    input.problem = Some(ControlProblem {
        message: "no scope auth_keys".to_owned(),
        of_tailnet: true,
        refused: false,
    });
    assert_eq!(says(&input), (ProxyReason::Failed, "no scope auth_keys".to_owned()));
}
