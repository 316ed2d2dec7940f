//! The main loop: configuration and the node's status make a plan, and the plan is put in place.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use isthmus_contract::device_config::AuthKey;
use isthmus_contract::proxy_config::{IngressTarget, Mode as Wanted, ProxyConfig};
use isthmus_proxy_core::{Device, Documents, Login, Mode, Plan, Publication, Settings, TailnetAddresses};
use isthmus_runtime::{ErrorChain, Shutdown};
use isthmus_tailnet::interface::LinkChanges;
use isthmus_tailnet::{LoginState, Node, NodePrefs, NodeStatus};
use isthmus_tailnet_core::netmap::RoutePolicy;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::drain;
use super::start::prefs;
use super::target::{Named, Target};
use crate::debug::View;
use crate::health::Health;
use crate::kernel::Kernel;
use crate::paths::PathChoice;
use crate::publisher::Publisher;
use crate::routes::Routed;

/// How often everything is put in place again, against what others break.
const REPAIR: Duration = Duration::from_secs(30);

/// The pause before a plan that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How long the last status may take to be written.
const LAST_WRITE: Duration = Duration::from_secs(3);

/// A running proxy.
pub(super) struct Proxy {
    settings: Settings,
    kernel: Kernel,
    health: Arc<Health>,
    publisher: Option<Publisher>,
    documents: watch::Receiver<Option<Documents>>,
    /// The key that this process logged in with.
    auth_key: Option<AuthKey>,
    /// What the documents want of the node, and may change while it runs.
    prefs: NodePrefs,
    /// The newest usable configuration, none before the first.
    wanted: Option<ProxyConfig>,
    paths: PathChoice,
    target: Target,
    /// The plan whose rules are in place.
    in_place: Plan,
    applied: Option<ProxyConfig>,
    problem: Option<String>,
}

/// What the loop does next.
#[derive(PartialEq, Eq)]
enum Next {
    Wait(Duration),
    Restart,
}

impl Proxy {
    pub(super) fn new(
        settings: Settings,
        closed: Plan,
        kernel: Kernel,
        health: Arc<Health>,
        publisher: Option<Publisher>,
        documents: watch::Receiver<Option<Documents>>,
        login: Login,
    ) -> Self {
        let prefs = prefs(&settings, &login);
        let wanted = settings.config.clone();
        let target = Target::start(settings.api_server.map(|server| server.ip()));
        let paths = PathChoice::begin(settings.path, settings.api_server, health.metrics().relay.clone());
        let (in_place, applied, problem) = (closed, None, None);
        Self {
            settings,
            kernel,
            health,
            publisher,
            documents,
            auth_key: login.auth_key,
            prefs,
            wanted,
            paths,
            target,
            in_place,
            applied,
            problem,
        }
    }

    /// Carries until the shutdown begins, then drains.
    pub(super) async fn serve(mut self, node: Node, shutdown: Shutdown) {
        let mut status = node.status();
        self.health.metrics().node.follow(node.meter());
        let mut links = LinkChanges::of_devices().await;
        let mut repair = true;
        loop {
            let now = status.borrow_and_update().clone();
            let pause = match self.settle(&now, repair).await {
                Next::Wait(pause) => pause,
                Next::Restart => break,
            };
            node.set_prefs(self.prefs.clone());
            repair = tokio::select! {
                () = changed(&mut status) => false,
                () = changed(&mut self.documents) => false,
                () = self.target.changed() => false,
                () = links.next() => true,
                () = self.paths.changed() => false,
                () = trouble(&mut self.publisher) => false,
                () = sleep_until(Instant::now() + pause) => true,
                () = shutdown.begun() => break,
            };
        }
        self.end(node).await;
    }

    /// Brings the kernel, health and the Secret in line with the newest configuration and the node's status.
    async fn settle(&mut self, status: &NodeStatus, repair: bool) -> Next {
        if status.login == LoginState::RestartNeeded {
            tracing::info!("the node's identity is another one now: starting again with it");
            return Next::Restart;
        }
        let (document_problem, new_key) = self.read_documents();
        if new_key && matches!(status.login, LoginState::NeedsLogin { .. }) {
            tracing::info!("there is a new auth key: starting again with it");
            return Next::Restart;
        }
        let (plan, target_problem) = self.plan(status).await;
        let outcome = if repair || plan != self.in_place {
            self.put_in_place(plan, status).await
        } else {
            Ok(())
        };
        let pause = if outcome.is_ok() { REPAIR } else { RETRY };
        self.measure(status, outcome.is_ok() && document_problem.is_none());
        self.problem = outcome
            .err()
            .or(document_problem)
            .or(target_problem)
            .or_else(|| login_problem(&status.login));
        self.report(status);
        Next::Wait(pause)
    }

    /// Takes over what the documents say. A bad document changes nothing that worked; its problem is returned, and
    /// whether there is another auth key than the one this process logged in with.
    fn read_documents(&mut self) -> (Option<String>, bool) {
        let parsed = self.documents.borrow_and_update().as_ref().map(Documents::parse);
        let configuration = match parsed {
            None => return (None, false),
            Some(Err(error)) => return (Some(ErrorChain(&error).to_string()), false),
            Some(Ok(configuration)) => configuration,
        };
        if let Some(device) = &configuration.device {
            self.prefs = prefs(&self.settings, &device.login);
        }
        let key = configuration.device.and_then(|device| device.login.auth_key);
        let new_key = key.is_some() && key != self.auth_key;
        let (None, Some(config)) = (&self.settings.config, configuration.proxy) else {
            return (None, new_key);
        };
        match Mode::from_config(&config, &BTreeSet::new()) {
            Ok(_) => {
                if self.wanted.as_ref() != Some(&config) {
                    self.health.metrics().configs.inc();
                }
                self.wanted = Some(config);
                (None, new_key)
            }
            Err(error) => (Some(error.to_string()), new_key),
        }
    }

    /// The plan for what is wanted and known now, and what keeps it from carrying.
    async fn plan(&mut self, status: &NodeStatus) -> (Plan, Option<String>) {
        let policy = RoutePolicy {
            accept_routes: self.prefs.accept_routes,
        };
        let named = match &self.wanted {
            Some(config) => self.target.named(config, policy, status, &self.in_place),
            None => Named::default(),
        };
        let mode = self.wanted.as_ref();
        let mode = mode.map(|config| Mode::from_config(config, &named.addresses));
        let (mode, mode_problem) = match mode {
            None => (Mode::Closed, None),
            Some(Ok(mode)) => (mode.keeping(named.former), None),
            Some(Err(error)) => (Mode::Closed, Some(error.to_string())),
        };
        let own = status
            .netmap
            .as_ref()
            .map(|netmap| netmap.own.addresses.clone())
            .unwrap_or_default();
        let paths = self.paths.choose(&mut self.kernel, &mode).await;
        let plan = Plan {
            mode,
            paths,
            tailnet: TailnetAddresses::from_addresses(own),
            ..self.in_place.clone()
        };
        let path_problem = self.path_problem(&plan);
        (plan, mode_problem.or(named.problem).or(path_problem))
    }

    /// What to say when the target is not carried to for want of a way, of its family alone or at all.
    fn path_problem(&self, plan: &Plan) -> Option<String> {
        let target = self.wanted.as_ref().map(|config| &config.mode);
        let to_cluster_ips =
            matches!(target, Some(Wanted::Ingress(ingress)) if matches!(ingress.target, IngressTarget::ClusterIps(_)));
        if let Some(lack) = self.paths.lacks_relay(to_cluster_ips) {
            return Some(lack);
        }
        let wants_ipv6 = plan.mode.targets().any(|target| target.is_ipv6()) && plan.tailnet.v6.is_some();
        (wants_ipv6 && plan.paths.v6.is_none() && plan.ways().is_empty()).then(|| {
            self.paths.trouble().map_or_else(
                || "cannot carry IPv6: the kernel does not forward it; remove ISTHMUS_PATH=kernel".to_owned(),
                |trouble| format!("cannot carry IPv6: {trouble}"),
            )
        })
    }

    async fn put_in_place(&mut self, plan: Plan, status: &NodeStatus) -> Result<(), String> {
        let changed = plan != self.in_place;
        let routed = match self.kernel.apply(&plan).await {
            Ok(routed) => routed,
            Err(error) => {
                self.health.metrics().plans_failed.inc();
                let problem = ErrorChain(&error).to_string();
                tracing::error!(error = %problem, "the plan is not in place: trying again");
                return Err(problem);
            }
        };
        if changed {
            tracing::info!(
                mode = plan.mode.name(),
                tun_is_up = routed.tun_is_up,
                "rules are in place"
            );
        }
        self.in_place = plan;
        self.note_in_place(routed, status);
        Ok(())
    }

    fn note_in_place(&mut self, routed: Routed, status: &NodeStatus) {
        let metrics = self.health.metrics();
        metrics.plans_applied.inc();
        metrics.device_up.set(routed.tun_is_up.into());
        if self.in_place.mode != Mode::Closed && status.is_running() && routed.tun_is_up {
            // What leads nowhere is not applied, and what the environment asked for stands in no document.
            let stands = self.settings.config.is_none() && !self.in_place.ways().is_empty();
            self.applied = self.wanted.clone().filter(|_| stands);
            self.health.rules_are_in_place();
        }
    }

    /// `is_newest` says whether the plan in place is that of the newest configuration.
    fn measure(&self, status: &NodeStatus, is_newest: bool) {
        let (metrics, plan) = (self.health.metrics(), &self.in_place);
        let carries = is_newest && status.is_running() && !plan.ways().is_empty();
        metrics.config_in_place.set(carries.into());
        let targets = i64::try_from(plan.mode.targets().count());
        metrics.targets.set(targets.unwrap_or(i64::MAX));
    }

    fn report(&self, status: &NodeStatus) {
        let told = status.netmap.as_ref().map_or(0, |netmap| netmap.health.len());
        let untold = self.publisher.as_ref().and_then(Publisher::trouble);
        let problems = [&self.problem, &untold].into_iter().flatten().count();
        let warnings = i64::try_from(told + problems);
        self.health.metrics().warnings.set(warnings.unwrap_or(i64::MAX));
        self.health.view().show(View {
            config: self.wanted.clone(),
            plan: Some(self.in_place.clone()),
            problem: self.problem.clone().or(untold),
        });
        if status.is_running() {
            self.health.logged_in();
        }
        let Some(publisher) = &self.publisher else { return };
        let device = status.netmap.as_ref().map(|netmap| Device {
            id: netmap.own.stable_id.clone(),
            name: netmap.own.name.clone(),
            addresses: netmap.own.addresses.clone(),
        });
        let refused = matches!(status.login, LoginState::NeedsLogin { .. });
        let publication = Publication {
            pod_uid: self.settings.pod.uid.clone(),
            device,
            applied: self.applied.clone(),
            problem: self.problem.clone(),
            carries: self.in_place.carries(),
            refused_login: refused.then(|| self.auth_key.clone()),
        };
        publisher.publish(publication.render());
    }

    /// Lets what flows come to its end, then closes both sides and leaves.
    async fn end(self, node: Node) {
        self.health.ending();
        drain::wait_for_flows(&self.kernel).await;
        node.shutdown().await;
        let closed = Plan {
            mode: Mode::Closed,
            ..self.in_place
        };
        if let Err(error) = self.kernel.apply(&closed).await {
            tracing::warn!(error = %ErrorChain(&error), "rules stay as they are");
        }
        if let Some(publisher) = self.publisher {
            publisher.finish(LAST_WRITE).await;
        }
    }
}

/// Returns at the next change. A channel whose sender is gone, as that of the documents is once the shutdown begins, would
/// report that at once and again and again: it changes no more.
async fn changed<T>(channel: &mut watch::Receiver<T>) {
    if channel.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Returns when it comes or goes that the Secret cannot be written.
async fn trouble(publisher: &mut Option<Publisher>) {
    match publisher {
        Some(publisher) => publisher.changed().await,
        None => std::future::pending().await,
    }
}

fn login_problem(login: &LoginState) -> Option<String> {
    match login {
        LoginState::NeedsLogin { message } => {
            Some(format!("control refuses the login: {message}; give a new auth key"))
        }
        LoginState::NeedsApproval => Some("the device waits for approval: approve it in the admin console".to_owned()),
        LoginState::Connecting { problem } => Some(format!("control cannot be reached: {problem}")),
        LoginState::Starting | LoginState::Registering | LoginState::RestartNeeded | LoginState::Running => None,
    }
}
