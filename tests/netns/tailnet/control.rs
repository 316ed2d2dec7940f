//! A tailbox in a namespace, on a thread of this process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use isthmus_tailbox::{AuthKeySpec, Config, Tailbox};
use isthmus_testkit::netns::Namespace;
use tokio::sync::oneshot;

/// A private address: to any other, Go clients insist on TLS after their first connection.
const ADDRESS: &str = "10.9.0.9:8080";

/// A control server that can be stopped and started again with its memory.
pub(crate) struct Control {
    namespace: Namespace,
    state: PathBuf,
    url: String,
    auth_key: String,
    running: Mutex<Option<Running>>,
}

struct Running {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Control {
    pub(crate) fn start(namespace: &Namespace, state: &Path) -> Self {
        let (url, auth_key, running) = run(namespace, state);
        let running = Mutex::new(Some(running));
        Self {
            namespace: namespace.clone(),
            state: state.to_owned(),
            url,
            auth_key,
            running,
        }
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
            running.stop.send(()).unwrap();
            running.thread.join().unwrap();
        }
    }

    /// Starts the server again.
    pub(crate) fn restart(&self) {
        let (_, _, running) = run(&self.namespace, &self.state);
        *self.running.lock().unwrap() = Some(running);
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(namespace: &Namespace, state: &Path) -> (String, String, Running) {
    let (ready, started) = mpsc::channel();
    let (stop, stopped) = oneshot::channel();
    let (namespace, state) = (namespace.clone(), state.to_owned());
    let work = async move {
        let listen: SocketAddr = ADDRESS.parse().unwrap();
        let tailbox = Tailbox::start(Config {
            listen,
            state_file: Some(state),
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
        let _ = stopped.await;
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
    (url, key, Running { stop, thread })
}
