//! A relay (DERP): passes datagrams between nodes of this tailnet and nobody else, and tells them what address they have.

mod clients;
mod http;
mod listen;

use std::sync::Arc;
use std::time::Duration;

use isthmus_runtime::ErrorChain;
use isthmus_tailnet_wire::derp::{
    ClientInfo, Decoder, Frame, FrameError, GoneReason, InfoError, MAX_PACKET, NONCE, ServerInfo, VERSION, open_info,
    public_key, seal_info,
};
use isthmus_tailnet_wire::keys::NodeKey;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use crate::shared::Shared;
use clients::{Clients, Present};
pub(crate) use http::router;
pub use listen::RelayError;
pub(crate) use listen::RelayListener;

/// How long a client may take to say who it is.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long a client may take to read what was written for it.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// Time between frames on an idle connection. Go gives a connection up after 120 s of silence.
const KEEP_ALIVE: Duration = Duration::from_mins(1);
/// Frames written at once.
const BATCH: usize = 64;

/// The relay of a tailbox. It has a new key with every start.
pub(crate) struct Relay {
    private: [u8; 32],
    public: [u8; 32],
    clients: Clients,
}

/// Why a client's connection ends.
#[derive(Debug, thiserror::Error)]
enum ClientError {
    #[error("the client took too long")]
    TooSlow,
    #[error("the connection ended")]
    Ended,
    #[error("the connection broke")]
    Broken(#[from] std::io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Info(#[from] InfoError),
    #[error("the client did not begin with its information")]
    OutOfTurn,
    #[error("no node of this tailnet has the client's key")]
    Stranger,
}

impl Relay {
    pub(crate) fn new() -> Self {
        let private = rand::random();
        Self {
            private,
            public: public_key(&private),
            clients: Clients::default(),
        }
    }

    /// Serves one client until its connection ends.
    pub(crate) async fn serve<T: AsyncRead + AsyncWrite + Send + 'static>(&self, shared: &Arc<Shared>, connection: T) {
        let (mut reader, mut writer) = tokio::io::split(connection);
        let mut input = Input::default();
        let greeting = self.greet(shared, &mut input, &mut reader, &mut writer);
        let greeted = tokio::time::timeout(HANDSHAKE_LIMIT, greeting).await;
        let key = match greeted.unwrap_or(Err(ClientError::TooSlow)) {
            Ok(key) => key,
            Err(error) => {
                tracing::debug!(error = %ErrorChain(&error), "relay refuses a client");
                return;
            }
        };
        let (present, queue) = self.clients.enter(key);
        let mut pictures = shared.pictures();
        let ended = tokio::select! {
            error = self.follow(&present, &mut input, &mut reader) => error,
            error = write(writer, queue) => error,
            () = present.replaced() => ClientError::Ended,
            () = shared.shutdown.begun() => ClientError::Ended,
            () = async {
                while pictures.changed().await.is_ok()
                    && (pictures.borrow_and_update().is_known(key) || shared.state().is_known(key))
                {}
            } => ClientError::Stranger,
        };
        tracing::debug!(client = %key, reason = %ErrorChain(&ended), "client left the relay");
    }

    /// Exchanges keys: gives the client's, when a node of the tailnet has it.
    async fn greet<T: AsyncRead + AsyncWrite>(
        &self,
        shared: &Arc<Shared>,
        input: &mut Input,
        reader: &mut ReadHalf<T>,
        writer: &mut WriteHalf<T>,
    ) -> Result<NodeKey, ClientError> {
        send(writer, &Frame::ServerKey(self.public)).await?;
        let Frame::ClientInfo { key, nonce, sealed } = input.next(reader).await? else {
            return Err(ClientError::OutOfTurn);
        };
        open_info::<ClientInfo>(&sealed, &self.private, key.as_bytes(), &nonce)?;
        if !shared.state().is_known(key) {
            return Err(ClientError::Stranger);
        }
        let info = ServerInfo {
            version: VERSION,
            ..ServerInfo::default()
        };
        let nonce: [u8; NONCE] = rand::random();
        let sealed = seal_info(&info, &self.private, key.as_bytes(), &nonce)?;
        send(writer, &Frame::ServerInfo { nonce, sealed }).await?;
        Ok(key)
    }

    async fn follow<T: AsyncRead>(
        &self,
        present: &Present<'_>,
        input: &mut Input,
        reader: &mut ReadHalf<T>,
    ) -> ClientError {
        loop {
            match input.next(reader).await {
                Ok(Frame::Send { to, packet }) if packet.len() <= MAX_PACKET => {
                    if !self.clients.pass(present.key(), to, packet) {
                        let reason = GoneReason::NotHere;
                        present.tell(Frame::PeerGone { key: to, reason });
                    }
                }
                Ok(Frame::Ping(bytes)) => present.tell(Frame::Pong(bytes)),
                // Everything else concerns servers, or nobody.
                Ok(_) => {}
                Err(error) => return error,
            }
        }
    }
}

/// Frames as they come in.
#[derive(Default)]
struct Input(Decoder);

impl Input {
    async fn next<T: AsyncRead>(&mut self, reader: &mut ReadHalf<T>) -> Result<Frame, ClientError> {
        let mut bytes = [0; 4096];
        loop {
            if let Some(frame) = self.0.next_frame()? {
                return Ok(frame);
            }
            match reader.read(&mut bytes).await? {
                0 => return Err(ClientError::Ended),
                length => self.0.push(&bytes[..length]),
            }
        }
    }
}

async fn send<T: AsyncRead + AsyncWrite>(writer: &mut WriteHalf<T>, frame: &Frame) -> Result<(), ClientError> {
    let mut bytes = Vec::new();
    frame.encode(&mut bytes);
    writer.write_all(&bytes).await?;
    Ok(writer.flush().await?)
}

/// Writes what is queued, as much at once as there is.
async fn write<T: AsyncRead + AsyncWrite>(mut writer: WriteHalf<T>, mut queue: mpsc::Receiver<Frame>) -> ClientError {
    let (mut frames, mut bytes) = (Vec::with_capacity(BATCH), Vec::new());
    loop {
        match tokio::time::timeout(KEEP_ALIVE, queue.recv_many(&mut frames, BATCH)).await {
            Ok(0) => return ClientError::Ended,
            Ok(_) => {}
            Err(_) => frames.push(Frame::KeepAlive),
        }
        bytes.clear();
        frames.drain(..).for_each(|frame| frame.encode(&mut bytes));
        let written = async {
            writer.write_all(&bytes).await?;
            writer.flush().await
        };
        match tokio::time::timeout(WRITE_LIMIT, written).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error.into(),
            Err(_) => return ClientError::TooSlow,
        }
    }
}
