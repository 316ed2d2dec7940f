//! Keeps a node logged in and its network map fresh, for as long as the node runs.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use isthmus_runtime::ErrorChain;
use isthmus_tailnet_core::netmap::{MapChange, NetmapStore};
use isthmus_tailnet_wire::control::{MapRequest, MapResponse, NetInfo};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::backoff::Backoff;
use super::error::ControlError;
use super::hostinfo::hostinfo;
use super::ping::Pings;
use super::register::{Registration, register};
use super::session::{Requester, Session};
use super::stream::MapStream;
use super::updates::{Told, Updates};
use super::{CAPABILITY_VERSION, ClientConfig, Dialer, NodeFacts, Server};
use crate::node::{LoginState, NodeHandle, NodePrefs, NodeStatus};
use crate::state::{Identity, StateChanges, StateStore};

pub(super) const MAP_PATH: &str = "/machine/map";

/// How long to wait before a refused node asks again.
const REFUSED_WAIT: Duration = Duration::from_secs(30);

/// What a node without an auth key says once its key is expired.
const KEY_EXPIRED: &str = "the node key is expired; log in again with an auth key";

/// How long a network map waits for the store of the login that it shows.
const STORE_LIMIT: Duration = Duration::from_secs(1);

/// How often at least the expiry of the node key is looked at: the clock may be set.
const EXPIRY_LOOK: Duration = Duration::from_secs(30);

/// Endpoint types as control numbers them: addresses of the node's interfaces.
const LOCAL_ENDPOINT: i64 = 1;
/// And what a STUN server sees.
const STUN_ENDPOINT: i64 = 2;

/// The client of one node.
pub(crate) struct Client {
    pub(crate) server: Server,
    pub(crate) dialer: Dialer,
    pub(crate) config: ClientConfig,
    pub(crate) identity: Identity,
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) facts: watch::Receiver<NodeFacts>,
    pub(crate) prefs: watch::Receiver<NodePrefs>,
    pub(crate) status: watch::Sender<NodeStatus>,
    /// The node itself, to ping peers when control asks for it.
    pub(crate) node: NodeHandle,
    /// The session that is open now, for requests of the node's owner.
    pub(crate) session: watch::Sender<Option<Requester>>,
    pub(crate) progress: Progress,
}

/// What a client has reached so far.
#[derive(Default)]
pub(crate) struct Progress {
    store: NetmapStore,
    backoff: Backoff,
    /// Control has accepted this node key in this run.
    registered: bool,
    /// Login and display name of the registration.
    user: (String, String),
    /// The store of an earlier change, which the next one must not overtake.
    saving: Option<JoinHandle<()>>,
}

/// Why a session ended in order.
enum Ended {
    /// Control refuses the node; ask again after a while.
    Refused,
    /// The node key expired, or control removed the node: ask control what to do about it.
    Expired,
    /// The node key expired and another is stored: only a new start can use it.
    KeyRenewed,
}

/// Waits for the end of a task, if there is one.
async fn wait_for(task: Option<JoinHandle<()>>) {
    if let Some(task) = task {
        // A panic of the task has been printed already.
        let _ = task.await;
    }
}

impl Client {
    /// Runs until the task is aborted, or the node has to be started again.
    pub(crate) async fn run(mut self) {
        loop {
            let ended = self.session().await;
            self.session.send_replace(None);
            let wait = match ended {
                Ok(Ended::KeyRenewed) => return self.set_login(LoginState::RestartNeeded),
                Ok(Ended::Expired) => self.progress.backoff.after_failure(rand::random(), None),
                Ok(Ended::Refused) => REFUSED_WAIT.mul_f64(0.5 + rand::random::<f64>()),
                Err(error @ ControlError::Moved { .. }) => {
                    self.lost(&error);
                    self.progress.backoff.reset();
                    Duration::ZERO
                }
                Err(error) => self.lost(&error),
            };
            self.wait(wait).await;
        }
    }

    /// Lets time pass. Other addresses of the machine are a reason to try at once.
    async fn wait(&mut self, time: Duration) {
        let machine = self.facts.borrow().machine.clone();
        let moved = async {
            if self.facts.wait_for(|facts| facts.machine != machine).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let _ = tokio::time::timeout(time, moved).await;
    }

    /// Notes a failure; gives the time to wait. A node that was running goes on with the map it has.
    fn lost(&mut self, error: &ControlError) -> Duration {
        let wait = self.progress.backoff.after_failure(rand::random(), error.retry_after());
        let problem = ErrorChain(error).to_string();
        tracing::warn!(
            problem,
            wait_ms = wait.as_millis(),
            "lost the control server, trying again"
        );
        if matches!(error, ControlError::Status { status: 400..=404, .. }) {
            self.progress.registered = false;
        }
        self.status.send_modify(|status| {
            status.connected = false;
            if status.login != LoginState::Running {
                status.login = LoginState::Connecting { problem };
            }
        });
        wait
    }

    async fn session(&mut self) -> Result<Ended, ControlError> {
        let session = Session::open(&self.dialer, &self.server, &self.identity.machine).await?;
        let requester = session.requester();
        if !self.progress.registered
            && let Some(ended) = self.register(&requester).await?
        {
            return Ok(ended);
        }
        tokio::select! {
            ended = Self::moved(self.facts.clone(), session.local()) => Err(ended),
            ended = self.follow(&requester) => ended,
        }
    }

    /// Ends when the machine loses the address that a session hangs on.
    async fn moved(mut facts: watch::Receiver<NodeFacts>, local: Option<IpAddr>) -> ControlError {
        let hung_on = local.filter(|local| facts.borrow().machine.contains(local));
        if let Some(address) = hung_on
            && facts.wait_for(|facts| !facts.machine.contains(&address)).await.is_ok()
        {
            return ControlError::Moved { address };
        }
        std::future::pending().await
    }

    /// Registers; gives nothing when control accepts the node.
    async fn register(&mut self, requester: &Requester) -> Result<Option<Ended>, ControlError> {
        let prefs = self.prefs.borrow().clone();
        self.set_login(LoginState::Registering);
        // A node that was logged in before needs no key, and a single-use key is not to be used up twice.
        let mut answer = register(
            requester,
            &self.config,
            &self.identity,
            &prefs,
            !self.identity.was_logged_in(),
        )
        .await?;
        let may_help = !matches!(answer, Registration::Accepted { .. });
        if may_help && self.identity.was_logged_in() && self.config.auth_key.is_some() {
            answer = register(requester, &self.config, &self.identity, &prefs, true).await?;
        }
        match answer {
            Registration::Accepted {
                authorized,
                login_name,
                display_name,
            } => {
                self.progress.registered = true;
                self.progress.user = (login_name, display_name);
                if !authorized {
                    self.set_login(LoginState::NeedsApproval);
                }
                Ok(None)
            }
            Registration::KeyExpired if self.config.auth_key.is_none() => {
                Ok(Some(self.refused(KEY_EXPIRED.to_owned())))
            }
            Registration::KeyExpired => {
                let changes = self.identity.renew_node_key();
                wait_for(self.progress.saving.take()).await;
                self.state.store(changes).await?;
                Ok(Some(Ended::KeyRenewed))
            }
            Registration::Refused { message } => Ok(Some(self.refused(message))),
            Registration::LoginUrl(url) => {
                let message = format!("open {url} to log this node in, or give it an auth key");
                Ok(Some(self.refused(message)))
            }
        }
    }

    fn refused(&self, message: String) -> Ended {
        tracing::warn!(reason = message, "the control server does not accept this node");
        self.set_login(LoginState::NeedsLogin { message });
        Ended::Refused
    }

    fn set_login(&self, login: LoginState) {
        self.status.send_modify(|status| {
            let ends_running = matches!(login, LoginState::NeedsLogin { .. } | LoginState::RestartNeeded);
            // To ask again is no news to who waits for a better key.
            let is_kept = match status.login {
                LoginState::Running => !ends_running,
                LoginState::NeedsLogin { .. } => login == LoginState::Registering,
                LoginState::Starting
                | LoginState::Connecting { .. }
                | LoginState::Registering
                | LoginState::NeedsApproval
                | LoginState::RestartNeeded => false,
            };
            if !is_kept {
                status.login = login;
            }
        });
    }

    /// Follows the map stream to its end, or to that of the node key.
    async fn follow(&mut self, requester: &Requester) -> Result<Ended, ControlError> {
        let facts = self.facts.borrow_and_update().clone();
        let request = self.map_request(&facts);
        let body = requester.stream("follow the network map", MAP_PATH, &request).await?;
        let mut stream = MapStream::new(body);
        self.session.send_replace(Some(requester.clone()));
        let _updates = Updates::start(requester.clone(), request, self.told());
        let mut pings = Pings::start(
            self.dialer.clone(),
            self.server.clone(),
            requester.clone(),
            self.prefs.clone(),
            self.node.clone(),
        );
        self.progress.store.start_stream();
        loop {
            let expiry = self.until_expiry();
            let Ok(message) = tokio::time::timeout(expiry, stream.next()).await else {
                if self.ends_with_its_key() {
                    return Ok(Ended::Expired);
                }
                continue;
            };
            let mut message = message?;
            if let Some(ping) = message.ping_request.take() {
                pings.take(&ping);
            }
            self.apply(message).await?;
            if self.ends_with_its_key() {
                return Ok(Ended::Expired);
            }
        }
    }

    /// How long the node key lives, or a while of that.
    fn until_expiry(&self) -> Duration {
        let expires = self.progress.store.own().and_then(|own| own.key_expires);
        let left = expires.and_then(|expires| expires.duration_since(SystemTime::now()).ok());
        left.unwrap_or(EXPIRY_LOOK).min(EXPIRY_LOOK)
    }

    /// Whether the node key is expired. Then the node is not logged in any more and has to register again.
    fn ends_with_its_key(&mut self) -> bool {
        let own = self.progress.store.own();
        if !own.is_some_and(|own| own.is_expired(SystemTime::now())) {
            return false;
        }
        tracing::warn!("the node key is expired, or control removed the node");
        self.progress.registered = false;
        self.set_login(LoginState::NeedsLogin {
            message: KEY_EXPIRED.to_owned(),
        });
        true
    }

    fn told(&self) -> Told {
        Told {
            config: self.config.clone(),
            facts: self.facts.clone(),
            prefs: self.prefs.clone(),
        }
    }

    async fn apply(&mut self, message: MapResponse) -> Result<(), ControlError> {
        if self.progress.store.apply(message, SystemTime::now())? == MapChange::Nothing {
            return Ok(());
        }
        let Some(netmap) = self.progress.store.netmap().map(Arc::new) else {
            return Ok(());
        };
        let (login_name, display_name) = &self.progress.user;
        let prefs = self.prefs.borrow().clone();
        let changes = self.identity.logged_in(&netmap.own, (login_name, display_name), &prefs);
        self.save(changes).await;
        let authorized = netmap.own.machine_authorized;
        let expired = netmap.own.is_expired(SystemTime::now());
        if !expired {
            self.progress.backoff.reset();
        }
        self.status.send_modify(|status| {
            status.connected = true;
            match (expired, authorized) {
                // What follows tells why.
                (true, _) => {}
                (false, true) => status.login = LoginState::Running,
                (false, false) => status.login = LoginState::NeedsApproval,
            }
            if status.netmap.as_ref() != Some(&netmap) {
                status.netmap = Some(netmap);
            }
        });
        Ok(())
    }

    /// Stores in the background, so that a store that is away holds up no network map. What cannot be stored now is stored
    /// with the next change: the keys are safe since before the first registration.
    async fn save(&mut self, changes: StateChanges) {
        if changes.is_empty() {
            return;
        }
        let (state, before) = (Arc::clone(&self.state), self.progress.saving.take());
        let mut saving = tokio::spawn(async move {
            wait_for(before).await;
            if let Err(error) = state.store(changes).await {
                tracing::warn!(error = %ErrorChain(&error), "cannot store the login");
            }
        });
        // Who sees the node running finds its login stored, where the store is well.
        if tokio::time::timeout(STORE_LIMIT, &mut saving).await.is_err() {
            self.progress.saving = Some(saving);
        }
    }

    fn map_request(&self, facts: &NodeFacts) -> MapRequest {
        let request = MapRequest {
            version: CAPABILITY_VERSION.into(),
            compress: "zstd".to_owned(),
            keep_alive: true,
            node_key: self.identity.node.public.into(),
            stream: true,
            hostinfo: Some(hostinfo(&self.config, &self.prefs.borrow())),
            ..MapRequest::default()
        };
        with_facts(request, facts)
    }
}

/// Some servers replace what they know by whatever a map request carries, so every one carries all of it.
pub(super) fn with_facts(mut request: MapRequest, facts: &NodeFacts) -> MapRequest {
    if let (Some(hostinfo), Some(home)) = (&mut request.hostinfo, facts.home) {
        hostinfo.net_info = Some(NetInfo {
            preferred_derp: home.into(),
            ..NetInfo::default()
        });
    }
    let local = facts.endpoints.iter().map(|_| LOCAL_ENDPOINT);
    let observed = facts.observed.iter().map(|_| STUN_ENDPOINT);
    MapRequest {
        disco_key: isthmus_tailnet_wire::keys::DiscoKey::from_bytes(*facts.disco.as_bytes()),
        endpoints: facts.all_endpoints().into(),
        endpoint_types: local.chain(observed).collect(),
        ..request
    }
}

#[cfg(test)]
mod tests;
