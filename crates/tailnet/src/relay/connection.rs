//! One connection to a relay: dialled, greeted, used, and dialled again when it breaks.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use isthmus_runtime::ErrorChain;
use isthmus_tailnet_core::key::NodeKey;
use isthmus_tailnet_core::netmap::{Region, RegionId, Relay};
use isthmus_tailnet_wire::derp::{ClientInfo, Decoder, Frame, NONCE, ServerInfo, VERSION, open_info, seal_info};
use isthmus_tailnet_wire::keys;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::dial::{self, RelayError, Stream};
use super::queue::{Outgoing, Queue};
use super::{Connected, RelayIdentity, Relayed};
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

/// Runs one connection.
pub(super) struct Runner {
    pub(super) id: RegionId,
    pub(super) region: Region,
    pub(super) is_home: bool,
    pub(super) identity: RelayIdentity,
    pub(super) outgoing: Arc<Queue>,
    pub(super) incoming: mpsc::Sender<Relayed>,
    pub(super) connected: Connected,
    /// This machine's end of the connection while there is one.
    pub(super) local: Arc<Mutex<Option<IpAddr>>>,
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
    pub(super) async fn run(self) {
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
            self.hangs_on(None);
            let wait = backoff.after_failure(rand::random(), error.asked_wait());
            tracing::warn!(region = self.id, error = %ErrorChain(&error), wait_ms = wait.as_millis(), "no connection to a relay");
            tokio::time::sleep(wait).await;
            // What waited is too old by now.
            self.outgoing.clear();
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
        let (mut stream, local) = dial::connect(relay, &self.identity).await?;
        self.hangs_on(local);
        let decoder = dial::upgrade(&mut stream, &relay.host).await?;
        let (stream, mut writer) = tokio::io::split(stream);
        let mut reader = Input { stream, decoder };
        self.greet(&mut reader, &mut writer).await?;
        Ok(Open { reader, writer })
    }

    fn hangs_on(&self, local: Option<IpAddr>) {
        *self.local.lock().unwrap_or_else(PoisonError::into_inner) = local;
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
    async fn follow(&self, open: Open) -> Result<(), RelayError> {
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
        let outgoing = &self.outgoing;
        let idle = if self.is_home { Duration::MAX } else { IDLE };
        let writing = async {
            loop {
                tokio::select! {
                    Some(answer) = questions.recv() => write(&mut writer, &[answer]).await?,
                    datagrams = timeout(idle, outgoing.take(BATCH)) => {
                        let Ok(datagrams) = datagrams else {
                            return Ok(());
                        };
                        let frames: Vec<Frame> = datagrams.into_iter().map(frame).collect();
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
