//! One connection to a relay: dialled, greeted, used, and dialled again when it breaks.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use isthmus_runtime::ErrorChain;
use isthmus_tailnet_core::key::NodeKey;
use isthmus_tailnet_core::netmap::{CertificateCheck, Region, RegionId, Relay};
use isthmus_tailnet_wire::derp::{
    ClientInfo, Decoder, Frame, FrameError, InfoError, NONCE, PATH, ServerInfo, UPGRADE, VERSION, open_info, seal_info,
};
use isthmus_tailnet_wire::keys;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::tls::client_config;
use super::{Connected, Outgoing, RelayIdentity, Relayed};
use crate::control::Backoff;

/// How long connecting and greeting may take together.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A connection that says nothing for this long is dead: relays send a keep-alive every minute.
const SILENCE: Duration = Duration::from_mins(2);
/// How long the relay may take to read what is written.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// A connection to another region than the home is given up when nothing was sent for this long.
const IDLE: Duration = Duration::from_mins(1);
/// Datagrams written at once.
const BATCH: usize = 64;
/// Longest head of an HTTP answer that is read.
const MAX_HEAD: usize = 8 << 10;

type Stream = TlsStream<TcpStream>;

/// Runs one connection.
pub(super) struct Runner {
    pub(super) id: RegionId,
    pub(super) region: Region,
    pub(super) is_home: bool,
    pub(super) identity: RelayIdentity,
    pub(super) outgoing: mpsc::Receiver<Outgoing>,
    pub(super) incoming: mpsc::Sender<Relayed>,
    pub(super) connected: Connected,
}

/// Why a connection is none, or none any more.
#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error("connect to relay {host}")]
    Connect {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("connect to relay {host}: it has no address, and names of relays are not resolved")]
    NoAddress { host: String },
    #[error("connect to relay {host}: it took too long")]
    Slow { host: String },
    #[error("connect to relay {host}: it answers {answer:?}")]
    NoRelay { host: String, answer: String },
    #[error("greet the relay: it broke the protocol")]
    OutOfTurn,
    #[error("the relay said nothing for too long")]
    Silent,
    #[error("the relay ended the connection")]
    Ended,
    #[error("the connection to the relay broke")]
    Broken(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Info(#[from] InfoError),
    #[error("the relay is about to restart")]
    Restarting(Duration),
}

impl RelayError {
    /// How long the relay asked to wait.
    fn asked_wait(&self) -> Option<Duration> {
        if let Self::Restarting(wait) = self {
            Some(*wait)
        } else {
            None
        }
    }
}

/// An open connection.
struct Open {
    reader: Input,
    writer: WriteHalf<Stream>,
}

struct Input {
    stream: ReadHalf<Stream>,
    decoder: Decoder,
}

impl Runner {
    /// Keeps the connection until nobody needs it.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            let error = match self.connect().await {
                Ok(open) => {
                    tracing::info!(region = self.id, home = self.is_home, "connected to a relay");
                    let _connected = self.connected.enter(self.id);
                    let since = Instant::now();
                    match self.follow(open).await {
                        Ok(()) => return,
                        Err(error) => {
                            if since.elapsed() > SILENCE {
                                backoff.reset();
                            }
                            error
                        }
                    }
                }
                Err(error) => error,
            };
            let wait = backoff.after_failure(rand::random(), error.asked_wait());
            tracing::warn!(region = self.id, error = %ErrorChain(&error), wait_ms = wait.as_millis(), "no connection to a relay");
            tokio::time::sleep(wait).await;
            // What waited is too old by now.
            while self.outgoing.try_recv().is_ok() {}
            if self.outgoing.is_closed() {
                return;
            }
        }
    }

    /// Connects to the first relay of the region that answers.
    async fn connect(&self) -> Result<Open, RelayError> {
        let mut last = RelayError::Ended;
        for relay in &self.region.relays {
            let host = || relay.host.clone();
            match timeout(CONNECT_LIMIT, self.connect_to(relay)).await {
                Ok(Ok(open)) => return Ok(open),
                Ok(Err(error)) => last = error,
                Err(_) => last = RelayError::Slow { host: host() },
            }
        }
        Err(last)
    }

    async fn connect_to(&self, relay: &Relay) -> Result<Open, RelayError> {
        let failed = |source| RelayError::Connect {
            host: relay.host.clone(),
            source,
        };
        let stream = dial(relay).await?;
        let _ = stream.set_nodelay(true);
        let name = match &relay.check {
            CertificateCheck::Name(name) => name.clone(),
            CertificateCheck::Pinned(_) | CertificateCheck::Nothing => relay.host.clone(),
        };
        let name = ServerName::try_from(name).map_err(|error| failed(io::Error::other(error)))?;
        let tls = TlsConnector::from(client_config(&relay.check, &self.identity.authorities));
        let mut stream = tls.connect(name, stream).await.map_err(failed)?;
        let decoder = upgrade(&mut stream, &relay.host).await?;
        let (stream, mut writer) = tokio::io::split(stream);
        let mut reader = Input { stream, decoder };
        self.greet(&mut reader, &mut writer).await?;
        Ok(Open { reader, writer })
    }

    /// Proves to be this node, and says whether this is its home.
    async fn greet(&self, reader: &mut Input, writer: &mut WriteHalf<Stream>) -> Result<(), RelayError> {
        let Frame::ServerKey(server) = reader.next().await? else {
            return Err(RelayError::OutOfTurn);
        };
        let info = ClientInfo {
            version: VERSION,
            can_ack_pings: true,
            ..ClientInfo::default()
        };
        let nonce: [u8; NONCE] = rand::random();
        let sealed = seal_info(&info, &self.identity.private, &server, &nonce)?;
        let key = keys::NodeKey::from_bytes(*self.identity.public.as_bytes());
        write(
            writer,
            &[
                Frame::ClientInfo { key, nonce, sealed },
                Frame::NotePreferred(self.is_home),
            ],
        )
        .await?;
        let Frame::ServerInfo { nonce, sealed } = reader.next().await? else {
            return Err(RelayError::OutOfTurn);
        };
        open_info::<ServerInfo>(&sealed, &self.identity.private, &server, &nonce)?;
        Ok(())
    }

    /// Passes datagrams both ways; ends well when the connection is not needed any more.
    async fn follow(&mut self, open: Open) -> Result<(), RelayError> {
        let Open { mut reader, mut writer } = open;
        let (answers, mut questions) = mpsc::channel(8);
        let (id, incoming) = (self.id, &self.incoming);
        let reading = async {
            loop {
                let frame = timeout(SILENCE, reader.next())
                    .await
                    .map_err(|_| RelayError::Silent)??;
                take(id, frame, incoming, &answers)?;
            }
        };
        let outgoing = &mut self.outgoing;
        let idle = if self.is_home { Duration::MAX } else { IDLE };
        let writing = async {
            let mut datagrams = Vec::with_capacity(BATCH);
            loop {
                tokio::select! {
                    Some(answer) = questions.recv() => write(&mut writer, &[answer]).await?,
                    received = timeout(idle, outgoing.recv_many(&mut datagrams, BATCH)) => {
                        if received.unwrap_or(0) == 0 {
                            return Ok(());
                        }
                        let frames: Vec<Frame> = datagrams.drain(..).map(frame).collect();
                        write(&mut writer, &frames).await?;
                    }
                }
            }
        };
        tokio::select! {
            ended = reading => ended,
            ended = writing => ended,
        }
    }
}

impl Input {
    async fn next(&mut self) -> Result<Frame, RelayError> {
        let mut bytes = [0; 4096];
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(frame);
            }
            match self.stream.read(&mut bytes).await? {
                0 => return Err(RelayError::Ended),
                length => self.decoder.push(&bytes[..length]),
            }
        }
    }
}

/// Takes a frame of the relay. A node that does not keep up loses datagrams.
fn take(
    region: RegionId,
    frame: Frame,
    incoming: &mpsc::Sender<Relayed>,
    answers: &mpsc::Sender<Frame>,
) -> Result<(), RelayError> {
    if let Frame::Receive { from, packet } = frame {
        let from = NodeKey::from_bytes(*from.as_bytes());
        let _ = incoming.try_send(Relayed { region, from, packet });
    } else if let Frame::Ping(bytes) = frame {
        let _ = answers.try_send(Frame::Pong(bytes));
    } else if let Frame::Restarting { reconnect_in, .. } = frame {
        return Err(RelayError::Restarting(Duration::from_millis(reconnect_in.into())));
    } else if let Frame::Health(problem) = frame {
        tracing::warn!(region, problem, "what a relay says about this connection");
    } else {
        tracing::trace!(region, ?frame, "frame of a relay");
    }
    Ok(())
}

fn frame(outgoing: Outgoing) -> Frame {
    Frame::Send {
        to: keys::NodeKey::from_bytes(*outgoing.to.as_bytes()),
        packet: outgoing.packet,
    }
}

/// Writes frames by as few system calls as possible.
async fn write(writer: &mut WriteHalf<Stream>, frames: &[Frame]) -> Result<(), RelayError> {
    let mut bytes = Vec::new();
    for frame in frames {
        frame.encode(&mut bytes);
    }
    let written = async {
        writer.write_all(&bytes).await?;
        writer.flush().await
    };
    let written = timeout(WRITE_LIMIT, written).await.map_err(|_| RelayError::Silent)?;
    Ok(written?)
}

async fn dial(relay: &Relay) -> Result<TcpStream, RelayError> {
    let literal = relay.host.parse().ok();
    let mut last = RelayError::NoAddress {
        host: relay.host.clone(),
    };
    for address in relay.addresses.iter().copied().chain(literal) {
        match TcpStream::connect(SocketAddr::new(address, relay.port)).await {
            Ok(stream) => return Ok(stream),
            Err(source) => {
                last = RelayError::Connect {
                    host: relay.host.clone(),
                    source,
                };
            }
        }
    }
    Err(last)
}

/// Asks for DERP by HTTP; what came behind the answer belongs to the first frame.
async fn upgrade(stream: &mut Stream, host: &str) -> Result<Decoder, RelayError> {
    let request = format!("GET {PATH} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: {UPGRADE}\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut head = Vec::new();
    let end = loop {
        if let Some(at) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        let mut bytes = [0; 1024];
        let length = stream.read(&mut bytes).await?;
        if length == 0 || head.len() > MAX_HEAD {
            return Err(RelayError::Ended);
        }
        head.extend_from_slice(&bytes[..length]);
    };
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let answer = String::from_utf8_lossy(line).into_owned();
    if answer.split(' ').nth(1) != Some("101") {
        let host = host.to_owned();
        return Err(RelayError::NoRelay { host, answer });
    }
    let mut decoder = Decoder::default();
    decoder.push(&head[end..]);
    Ok(decoder)
}
