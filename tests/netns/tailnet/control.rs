//! A tailbox in a namespace, on a thread of this process.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use isthmus_runtime::Secret;
use isthmus_tailbox::{
    Answer, AskError, AuthKeySpec, Config, Edit, OauthClientConfig, ServiceSpec, Tailbox, unreachable_derp_map,
};
use isthmus_tailnet_wire::control::{DerpMap, PingResponse};
use isthmus_testkit::netns::Namespace;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// A private address: to any other, Go clients insist on TLS after their first connection.
const ADDRESS: &str = "10.9.0.9:8080";

/// Where the relay listens.
const RELAY: &str = "10.9.0.9:3443";

/// Where the name server listens.
const DNS: &str = "10.9.0.9:53";

/// How to run the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// The policy; without one everybody may reach everybody.
    pub(crate) policy: Option<String>,
    /// Whether there is a relay.
    pub(crate) relay: bool,
    /// Whether there is a name server for authorities.
    pub(crate) dns: bool,
    /// Whether nodes wait for approval.
    pub(crate) device_approval: bool,
    /// Relays of others.
    pub(crate) derp_map: Option<DerpMap>,
}

/// A control server that can be stopped and started again with its memory.
pub(crate) struct Control {
    namespace: Namespace,
    state: PathBuf,
    url: String,
    auth_key: String,
    options: Options,
    running: Mutex<Option<Running>>,
}

struct Running {
    /// What to do with the server; it ends with the channel.
    jobs: UnboundedSender<Job>,
    thread: JoinHandle<()>,
}

type Job = Box<dyn FnOnce(Arc<Tailbox>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

impl Control {
    pub(crate) fn start(namespace: &Namespace, state: &Path, options: Options) -> Self {
        let (url, auth_key, running) = run(namespace, state, &options);
        let running = Mutex::new(Some(running));
        Self {
            namespace: namespace.clone(),
            state: state.to_owned(),
            url,
            auth_key,
            options,
            running,
        }
    }

    /// The number of the node with this host name.
    pub(crate) fn node(&self, hostname: &str) -> i64 {
        let hostname = hostname.to_owned();
        self.with(move |tailbox| async move {
            let nodes = tailbox.nodes();
            let node = nodes.iter().find(|node| node.hostinfo.hostname == hostname);
            node.expect("the node is registered").id
        })
    }

    /// Where the node with this host name says it can be reached.
    pub(crate) fn endpoints(&self, hostname: &str) -> Vec<String> {
        let id = self.node(hostname);
        self.with(move |tailbox| async move {
            let nodes = tailbox.nodes();
            let node = nodes.iter().find(|node| node.id == id).expect("the node is registered");
            node.endpoints.iter().map(ToString::to_string).collect()
        })
    }

    /// An auth key for one node.
    pub(crate) fn single_use_key(&self) -> String {
        self.key_with_tags(&[])
    }

    /// An auth key for one node with these tags.
    pub(crate) fn key_with_tags(&self, tags: &[&str]) -> String {
        let spec = AuthKeySpec {
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            ..AuthKeySpec::default()
        };
        self.with(|tailbox| async move { tailbox.create_auth_key(spec).await.unwrap().expose().to_owned() })
    }

    /// Makes a Tailscale Service, and gives its addresses.
    pub(crate) fn put_service(&self, name: &str, port: &str) -> [IpAddr; 2] {
        let spec = ServiceSpec {
            name: name.to_owned(),
            ports: vec![port.to_owned()],
            ..ServiceSpec::default()
        };
        self.with(|tailbox| async move { tailbox.put_service(spec).await.unwrap().unwrap() })
    }

    /// Asks a node inside its connection to this server.
    pub(crate) fn ask(&self, node: i64, method: &'static str, path: &'static str) -> Result<Answer, AskError> {
        self.with(move |tailbox| async move { tailbox.ask(node, method, path, b"body").await })
    }

    /// Has a node ping the peer with this address.
    pub(crate) fn ping_from(&self, node: i64, kind: &'static str, address: IpAddr) -> Result<PingResponse, AskError> {
        self.with(move |tailbox| async move { tailbox.ping_from(node, kind, address).await })
    }

    /// Changes a node as the API does.
    pub(crate) fn edit(&self, node: i64, edit: Edit) {
        self.with(move |tailbox| async move { tailbox.edit(node, edit).await.unwrap().unwrap() });
    }

    /// Removes a node.
    pub(crate) fn remove(&self, node: i64) {
        assert!(self.with(move |tailbox| async move { tailbox.remove_node(node).await.unwrap() }));
    }

    /// How many nodes have this host name.
    pub(crate) fn count(&self, hostname: &str) -> usize {
        let hostname = hostname.to_owned();
        self.with(move |tailbox| async move {
            let nodes = tailbox.nodes();
            nodes.iter().filter(|node| node.hostinfo.hostname == hostname).count()
        })
    }

    /// Does something with the server, which must run.
    fn with<R, F>(&self, work: impl FnOnce(Arc<Tailbox>) -> F + Send + 'static) -> R
    where
        R: Send + 'static,
        F: Future<Output = R> + Send + 'static,
    {
        let (send, result) = mpsc::channel();
        let job: Job = Box::new(move |tailbox| {
            let work = work(tailbox);
            Box::pin(async move {
                let _ = send.send(work.await);
            })
        });
        let running = self.running.lock().unwrap();
        running.as_ref().expect("the server runs").jobs.send(job).unwrap();
        result.recv().expect("the server does the job")
    }

    /// The login server's URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// An auth key that any number of nodes may use.
    pub(crate) fn auth_key(&self) -> &str {
        &self.auth_key
    }

    /// Ends the server and its connections.
    pub(crate) fn stop(&self) {
        if let Some(running) = self.running.lock().unwrap().take() {
            drop(running.jobs);
            running.thread.join().unwrap();
        }
    }

    /// Starts the server again.
    pub(crate) fn restart(&self) {
        let (_, _, running) = run(&self.namespace, &self.state, &self.options);
        *self.running.lock().unwrap() = Some(running);
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(namespace: &Namespace, state: &Path, options: &Options) -> (String, String, Running) {
    let (ready, started) = mpsc::channel();
    let (jobs, mut todo) = unbounded_channel::<Job>();
    let (namespace, state, options) = (namespace.clone(), state.to_owned(), options.clone());
    let work = async move {
        let listen: SocketAddr = ADDRESS.parse().unwrap();
        let tailbox = Tailbox::start(Config {
            listen,
            state_file: Some(state),
            policy: options.policy,
            relay: options.relay.then(|| RELAY.parse().unwrap()),
            dns: options.dns.then(|| DNS.parse().unwrap()),
            device_approval: options.device_approval,
            oauth_clients: vec![OauthClientConfig {
                id: "people".to_owned(),
                secret: Secret::new("secret"),
                tags: ["tag:k8s".to_owned()].into(),
            }],
            derp_map: options.derp_map.unwrap_or_else(unreachable_derp_map),
            ..Config::default()
        })
        .await
        .unwrap();
        let spec = AuthKeySpec {
            reusable: true,
            ..AuthKeySpec::default()
        };
        let key = tailbox.create_auth_key(spec).await.unwrap();
        ready.send((tailbox.url(), key.expose().to_owned())).unwrap();
        let tailbox = Arc::new(tailbox);
        while let Some(job) = todo.recv().await {
            job(Arc::clone(&tailbox)).await;
        }
        let tailbox = Arc::into_inner(tailbox).expect("no job runs any more");
        tailbox.stop().await.unwrap();
    };
    let thread = thread::spawn(move || {
        namespace.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(work);
        });
    });
    let (url, key) = started.recv().expect("tailbox starts");
    (url, key, Running { jobs, thread })
}
