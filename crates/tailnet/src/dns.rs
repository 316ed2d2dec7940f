//! The node's resolver: answers this machine's questions about names of the tailnet, and passes others on.
//!
//! It listens on an address of its own on the node's device, 100.100.100.100, which every client of a tailnet knows. Peers cannot reach it,
//! for the address is none that packets of peers may be for; and machines beside this one are not answered.

mod forward;
pub(crate) mod fuzzing;
mod message;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use isthmus_tailnet_core::dns::{self, Answer};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::control::NodeFacts;
use crate::node::NodeStatus;
use forward::{Forwarder, Transport};
use message::Query;

/// Where the resolver of every node of a tailnet is reached, from that node alone.
pub const RESOLVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 100);

const PORT: u16 = 53;

/// Pause before it is tried again to listen: the address comes with the login.
const AGAIN: Duration = Duration::from_millis(500);

/// Questions that are answered at once; more are dropped, and asked again by who needs them.
const MAX_QUESTIONS: usize = 128;

/// Connections that are served at once.
const MAX_CONNECTIONS: usize = 32;

/// How long a connection may be idle, and a question may take to come.
const IDLE: Duration = Duration::from_secs(10);

/// The largest datagram that is read.
const MAX_DATAGRAM: usize = 4096;

/// The resolver of one node.
#[derive(Clone)]
pub(crate) struct NameServer {
    status: watch::Receiver<NodeStatus>,
    facts: watch::Receiver<NodeFacts>,
    forwarder: Arc<Forwarder>,
    places: Arc<Semaphore>,
}

impl NameServer {
    /// A resolver that passes on what is not of the tailnet to the name servers in `resolv_conf`, unless control names others.
    pub(crate) fn new(
        status: watch::Receiver<NodeStatus>,
        facts: watch::Receiver<NodeFacts>,
        resolv_conf: PathBuf,
    ) -> Self {
        Self {
            status,
            facts,
            forwarder: Arc::new(Forwarder::new(resolv_conf)),
            places: Arc::new(Semaphore::new(MAX_QUESTIONS)),
        }
    }

    /// Answers until it is dropped.
    pub(crate) async fn run(self) {
        let (udp, tcp) = self.listen().await;
        tracing::info!(address = %RESOLVER_ADDRESS, "names are resolved");
        let datagrams = self.clone().serve_udp(Arc::new(udp));
        tokio::join!(datagrams, self.serve_tcp(tcp));
    }

    /// Listens as soon as the device has the address and nobody else holds the port.
    async fn listen(&self) -> (UdpSocket, TcpListener) {
        let address = SocketAddr::new(RESOLVER_ADDRESS.into(), PORT);
        let mut is_told = false;
        loop {
            let bound = async { Ok((UdpSocket::bind(address).await?, TcpListener::bind(address).await?)) };
            let error: io::Error = match bound.await {
                Ok(bound) => return bound,
                Err(error) => error,
            };
            if error.kind() != io::ErrorKind::AddrNotAvailable && !std::mem::replace(&mut is_told, true) {
                tracing::warn!(%error, %address, "cannot resolve names: another program may hold the port on all addresses");
            }
            sleep(AGAIN).await;
        }
    }

    async fn serve_udp(self, socket: Arc<UdpSocket>) {
        let mut questions = JoinSet::new();
        let mut buffer = [0; MAX_DATAGRAM];
        loop {
            let received = tokio::select! {
                received = socket.recv_from(&mut buffer) => received,
                Some(_) = questions.join_next() => continue,
            };
            let Ok((length, from)) = received else {
                // An ICMP error for an earlier answer.
                continue;
            };
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                continue;
            };
            if !self.is_here(from.ip()) {
                continue;
            }
            let (server, socket, question) = (self.clone(), Arc::clone(&socket), buffer[..length].to_vec());
            questions.spawn(async move {
                if let Some(answer) = server.answer(&question, Transport::Udp).await {
                    let _ = socket.send_to(&answer, from).await;
                }
                drop(place);
            });
        }
    }

    async fn serve_tcp(self, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, from)) if self.is_here(from.ip()) => {
                        let server = self.clone();
                        connections.spawn(async move { drop(server.converse(stream).await) });
                    }
                    Ok(_) => {}
                    Err(_) => sleep(AGAIN).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn converse(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let question = timeout(IDLE, forward::read_message(&mut stream)).await??;
            let Some(answer) = self.answer(&question, Transport::Tcp).await else {
                return Ok(());
            };
            let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
            stream.write_all(&length.to_be_bytes()).await?;
            stream.write_all(&answer).await?;
        }
    }

    /// Whether a question comes from this machine: the address can be reached from its neighbours as well.
    fn is_here(&self, from: IpAddr) -> bool {
        let status = self.status.borrow();
        let own = status.netmap.as_ref().map(|netmap| netmap.own.addresses.as_slice());
        from == IpAddr::V4(RESOLVER_ADDRESS)
            || from.is_loopback()
            || own.is_some_and(|own| own.contains(&from))
            || self.facts.borrow().machine.contains(&from)
    }

    /// The answer to a message; nothing to one that is no question.
    async fn answer(&self, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let query = Query::parse(bytes)?;
        let Some((name, question)) = query.asked() else {
            return query.refused();
        };
        let netmap = self.status.borrow().netmap.clone();
        let answer = netmap
            .as_ref()
            .map_or(Answer::AskMachine, |netmap| dns::answer(netmap, &name, question));
        let servers = match answer {
            Answer::Addresses(_) | Answer::Name(_) | Answer::NoSuchName | Answer::Unable => {
                return query.answered(&answer, transport == Transport::Udp);
            }
            Answer::Ask(servers) => servers,
            Answer::AskMachine => {
                let fallback = netmap.map(|netmap| dns::fallback(&netmap)).unwrap_or_default();
                self.forwarder.machine_servers(fallback)
            }
        };
        match self.forwarder.ask(&servers, bytes, transport).await {
            Some(answer) => Some(answer),
            None => query.answered(&Answer::Unable, transport == Transport::Udp),
        }
    }
}
