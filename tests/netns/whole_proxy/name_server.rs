//! A name server that says what the test wants.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

use isthmus_testkit::netns::Namespace;
use isthmus_testkit::wait;

/// Record types and response codes of RFC 1035 and RFC 3596.
const A: u16 = 1;
const AAAA: u16 = 28;
const SERVER_FAILURE: u8 = 2;
const NO_SUCH_NAME: u8 = 3;

/// A running name server. Every answer is vouched for one second.
pub(crate) struct NameServer(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    names: BTreeMap<String, Vec<IpAddr>>,
    fails: bool,
    questions: usize,
}

impl NameServer {
    /// Serves on port 53 of an address of the namespace.
    pub(crate) fn start(namespace: &Namespace, address: &str) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let socket = namespace.enter(|| UdpSocket::bind((address, 53)).unwrap());
        let server = Arc::clone(&state);
        thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut buffer) {
                let answer = server.lock().unwrap().answer(&buffer[..length]);
                let _ = socket.send_to(&answer, client);
            }
        });
        Self(state)
    }

    /// From now on the name has these addresses.
    pub(crate) fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        self.0.lock().unwrap().names.insert(name.to_owned(), addresses);
    }

    /// From now on every question fails, or none.
    pub(super) fn fail(&self, fails: bool) {
        self.0.lock().unwrap().fails = fails;
    }

    /// Waits until both families were asked for once more than now.
    pub(super) fn wait_for_questions(&self) {
        let asked = || self.0.lock().unwrap().questions;
        let before = asked();
        wait::until("the proxy to ask again", || (asked() >= before + 4).then_some(()));
    }
}

impl State {
    fn answer(&mut self, question: &[u8]) -> Vec<u8> {
        self.questions += 1;
        let (name, end) = read_name(question);
        let kind = u16::from_be_bytes([question[end], question[end + 1]]);
        let known = self.names.get(&name);
        let addresses: Vec<Vec<u8>> = known
            .into_iter()
            .flatten()
            .filter_map(|address| octets(*address, kind))
            .collect();
        let (code, addresses) = match known {
            _ if self.fails => (SERVER_FAILURE, Vec::new()),
            None => (NO_SUCH_NAME, Vec::new()),
            Some(_) => (0, addresses),
        };
        let count = u8::try_from(addresses.len()).unwrap();
        // The question's id; an answer, with recursion; one question, the answers, nothing else.
        let mut answer = vec![question[0], question[1], 0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
        answer.extend_from_slice(&question[12..end + 4]);
        for octets in addresses {
            // The question's name, the type, the Internet, one second.
            answer.extend([0xc0, 12]);
            answer.extend(kind.to_be_bytes());
            answer.extend([0, 1, 0, 0, 0, 1]);
            answer.extend(u16::try_from(octets.len()).unwrap().to_be_bytes());
            answer.extend(octets);
        }
        answer
    }
}

/// The name in a question, and where its type stands.
fn read_name(question: &[u8]) -> (String, usize) {
    let (mut labels, mut at) = (Vec::new(), 12);
    while question[at] != 0 {
        let end = at + 1 + usize::from(question[at]);
        labels.push(String::from_utf8_lossy(&question[at + 1..end]).to_lowercase());
        at = end;
    }
    (labels.join("."), at + 1)
}

fn octets(address: IpAddr, kind: u16) -> Option<Vec<u8>> {
    match address {
        IpAddr::V4(v4) => (kind == A).then(|| v4.octets().to_vec()),
        IpAddr::V6(v6) => (kind == AAAA).then(|| v6.octets().to_vec()),
    }
}
