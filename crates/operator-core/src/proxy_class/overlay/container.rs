//! A class laid over the proxy's container.

use isthmus_contract::{env, port};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, ResourceRequirements, SecurityContext,
};

use super::{non_empty, replace};
use crate::{proxy_class, quantity};

/// Gives `container` the shape that `wanted` asks for.
pub(super) fn shape(container: &mut Container, wanted: &proxy_class::Container) {
    replace(&mut container.image, non_empty(wanted.image.as_ref()));
    replace(
        &mut container.image_pull_policy,
        non_empty(wanted.image_pull_policy.as_ref()),
    );
    if let Some(resources) = &wanted.resources {
        shape_resources(container.resources.get_or_insert_default(), resources);
    }
    if let Some(context) = &wanted.security_context {
        let existing = container.security_context.take().unwrap_or_default();
        container.security_context = Some(secure(existing, context.clone()));
    }
    if wanted.debug.is_some_and(|debug| debug.enable) {
        open_debug_port(container);
    }
    let variables = container.env.get_or_insert_default();
    for variable in wanted.env.iter().flatten() {
        set_variable(variables, variable);
    }
}

fn open_debug_port(container: &mut Container) {
    container.ports.get_or_insert_default().push(ContainerPort {
        name: Some("debug".to_owned()),
        container_port: i32::from(port::DEBUG),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    });
    container.env.get_or_insert_default().push(EnvVar {
        name: env::DEBUG_ADDR_PORT.to_owned(),
        value: Some(format!("[::]:{}", port::DEBUG)),
        value_from: None,
    });
}

/// Names are unique in what is applied, so a variable that is there already gets the new value in its place.
fn set_variable(variables: &mut Vec<EnvVar>, wanted: &proxy_class::EnvVar) {
    let variable = EnvVar {
        name: wanted.name.clone(),
        value: Some(wanted.value.clone()),
        value_from: None,
    };
    match variables.iter_mut().find(|existing| existing.name == wanted.name) {
        Some(existing) => *existing = variable,
        None => variables.push(variable),
    }
}

fn shape_resources(resources: &mut ResourceRequirements, wanted: &ResourceRequirements) {
    let requests = resources.requests.get_or_insert_default();
    // A request of ours beyond the limit of the class would be refused.
    requests.retain(|name, request| {
        let limit = wanted.limits.as_ref().and_then(|limits| limits.get(name));
        limit.is_none_or(|limit| quantity::at_most(&request.0, &limit.0))
    });
    requests.extend(wanted.requests.clone().unwrap_or_default());
    replace(&mut resources.limits, wanted.limits.as_ref());
    replace(&mut resources.claims, wanted.claims.as_ref());
}

/// `wanted` over `ours`, field by field.
fn secure(ours: SecurityContext, wanted: SecurityContext) -> SecurityContext {
    // The API server refuses to withhold escalation from a container that has every right already.
    let has_every_right = wanted.privileged == Some(true)
        || capabilities(wanted.capabilities.as_ref()).any(|name| name == "CAP_SYS_ADMIN");
    SecurityContext {
        allow_privilege_escalation: wanted
            .allow_privilege_escalation
            .or(ours.allow_privilege_escalation.filter(|_| !has_every_right)),
        app_armor_profile: wanted.app_armor_profile.or(ours.app_armor_profile),
        capabilities: match (ours.capabilities, wanted.capabilities) {
            (Some(ours), Some(wanted)) => Some(Capabilities {
                add: wanted.add.or(ours.add),
                drop: wanted.drop.or(ours.drop),
            }),
            (ours, wanted) => wanted.or(ours),
        },
        privileged: wanted.privileged.or(ours.privileged),
        proc_mount: wanted.proc_mount.or(ours.proc_mount),
        read_only_root_filesystem: wanted.read_only_root_filesystem.or(ours.read_only_root_filesystem),
        run_as_group: wanted.run_as_group.or(ours.run_as_group),
        run_as_non_root: wanted.run_as_non_root.or(ours.run_as_non_root),
        run_as_user: wanted.run_as_user.or(ours.run_as_user),
        se_linux_options: wanted.se_linux_options.or(ours.se_linux_options),
        seccomp_profile: wanted.seccomp_profile.or(ours.seccomp_profile),
        windows_options: wanted.windows_options.or(ours.windows_options),
    }
}

fn capabilities(capabilities: Option<&Capabilities>) -> impl Iterator<Item = &String> {
    capabilities
        .into_iter()
        .flat_map(|capabilities| capabilities.add.iter().flatten())
}
