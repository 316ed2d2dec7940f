//! A client against a server that breaks its stream in every way.

use std::collections::{BTreeSet, VecDeque};
use std::io::Read;
use std::sync::Mutex;

use bytes::Bytes;
use h2::server::SendResponse;
use isthmus_tailnet_core::key::DiscoKey;
use isthmus_tailnet_wire::framing::encode_frame;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;
use crate::state::{MemoryStore, StateValues};

mod server;

/// How a stream ends after its first map.
#[derive(Debug, Clone, Copy)]
enum Ending {
    /// A message that is no JSON.
    Garbage,
    /// A message of JSON that is no map.
    WrongShape,
    /// A message whose announced length nobody would keep in memory.
    TooLong,
    /// A short message that is long when it is decompressed.
    Bomb,
    /// Half a message, and the end of the stream.
    Half,
    /// A reset of the stream.
    Reset,
    /// It goes on.
    None,
}

/// How the streams end, one after the other. The first map of each names its number.
type Script = Arc<Mutex<(usize, VecDeque<Ending>)>>;

fn map(number: usize) -> Bytes {
    let map = serde_json::json!({"Node": {"ID": 1, "Name": "me.tail.internal.", "MachineAuthorized": true}, "Domain": format!("map-{number}"),
        "Peers": [{"ID": 2, "Name": "two.tail.internal."}]});
    encode_frame(map.to_string().as_bytes()).unwrap().into()
}

fn broken(ending: Ending) -> Option<Bytes> {
    let frame = |body: &[u8]| Some(encode_frame(body).unwrap().into());
    match ending {
        Ending::Garbage => frame(b"\xff\x00 no JSON"),
        Ending::WrongShape => frame(br#"{"Peers": {"1": "text"}, "PeersRemoved": "x"}"#),
        Ending::TooLong => Some(Bytes::from_static(&[0xff; 64])),
        Ending::Bomb => frame(&zstd::encode_all(std::io::repeat(b' ').take(100 << 20), 1).unwrap()),
        Ending::Half => Some(map(0).slice(..20)),
        Ending::Reset | Ending::None => None,
    }
}

/// Sends one stream as the script wants it.
async fn play(script: Script, mut answer: SendResponse<Bytes>) {
    let (number, ending) = {
        let mut script = script.lock().unwrap();
        script.0 += 1;
        (script.0, script.1.pop_front().unwrap_or(Ending::None))
    };
    let mut body = answer.send_response(http::Response::new(()), false).unwrap();
    body.send_data(map(number), false).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    match (ending, broken(ending)) {
        (Ending::None, _) => {
            std::future::pending::<()>().await;
        }
        (Ending::Reset, _) => body.send_reset(h2::Reason::INTERNAL_ERROR),
        (_, Some(bytes)) => body.send_data(bytes, true).unwrap(),
        (_, None) => {}
    }
}

fn client(url: &str) -> (Client, watch::Receiver<NodeStatus>, watch::Sender<NodePrefs>) {
    let (identity, _) = Identity::load(&StateValues::new(), url).unwrap();
    let facts = NodeFacts {
        disco: DiscoKey::from_bytes([1; 32]),
        endpoints: Vec::new(),
        observed: Vec::new(),
        home: None,
        machine: BTreeSet::new(),
    };
    let (prefs_sender, prefs) = watch::channel(NodePrefs::default());
    let (status, seen) = watch::channel(NodeStatus::default());
    let client = Client {
        server: Server::parse(url).unwrap(),
        dialer: Dialer::new(&[]),
        config: ClientConfig {
            auth_key: None,
            app: String::new(),
            ephemeral: false,
        },
        identity,
        state: Arc::new(MemoryStore::default()),
        facts: watch::channel(facts).1,
        prefs,
        status,
        node: NodeHandle::new(watch::channel(NodeStatus::default()).1, mpsc::channel(1).0),
        session: watch::channel(None).0,
        progress: Progress::default(),
    };
    (client, seen, prefs_sender)
}

#[tokio::test]
async fn client_survives_garbage_and_huge_messages_with_its_map_and_follows_again() {
    let endings = [
        Ending::Garbage,
        Ending::WrongShape,
        Ending::TooLong,
        Ending::Bomb,
        Ending::Half,
        Ending::Reset,
    ];
    let script: Script = Arc::new(Mutex::new((0, endings.into())));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(server::serve(listener, Arc::clone(&script)));
    let (client, mut status, _prefs) = client(&url);
    let running = tokio::spawn(client.run());

    let last = format!("map-{}", endings.len() + 1);
    let mut losses = 0;
    let met = tokio::time::timeout(Duration::from_mins(2), async {
        loop {
            let now = status.borrow_and_update().clone();
            let domain = now.netmap.as_ref().map(|map| map.domain.clone());
            assert!(
                losses == 0 || now.is_running(),
                "the map was lost with the stream: {:?}",
                now.login
            );
            losses += usize::from(domain.is_some() && !now.connected);
            if now.connected && domain.as_deref() == Some(&last) {
                return;
            }
            status.changed().await.unwrap();
        }
    });
    assert!(met.await.is_ok(), "after {:?} streams", script.lock().unwrap());
    assert!(losses >= endings.len(), "each ending is noticed: {losses}");
    running.abort();
    serving.abort();
}
