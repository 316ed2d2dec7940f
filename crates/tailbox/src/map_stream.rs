//! Map streams: a full map, then what changes, keep-alives between.

mod frames;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use isthmus_tailnet_wire::control::{MapResponse, NodeId};
use isthmus_tailnet_wire::framing::encode_frame;
use isthmus_tailnet_wire::keys::NodeKey;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::shared::{Connected, Shared};
use crate::state::{Picture, Step};

pub(crate) use frames::Frames;
use frames::Key;

/// How long to wait after a change for those that come with it: a registration is followed by an update at once.
const SETTLE: Duration = Duration::from_millis(50);
/// How much longer for each that is told: where many look, a change costs more, and more changes are told together.
const SETTLE_EACH: Duration = Duration::from_micros(200);
/// The longest wait.
const LONGEST_SETTLE: Duration = Duration::from_secs(1);
/// Compression level of zstd: the fastest.
const LEVEL: i32 = 1;

/// Makes a picture of every change, and shows it to all streams, until the process ends.
///
/// All streams are shown the same pictures, so that a step from one to the next is found and encoded once for all.
pub(crate) async fn publish(shared: Arc<Shared>) {
    let mut changes = shared.changes();
    loop {
        tokio::select! {
            end = changes.changed() => if end.is_err() { return },
            () = shared.shutdown.begun() => return,
        }
        let settle = SETTLE + SETTLE_EACH * shared.watchers();
        tokio::time::sleep(settle.min(LONGEST_SETTLE)).await;
        changes.borrow_and_update();
        shared.publish();
    }
}

/// What one client is sent.
pub(crate) struct Feed {
    shared: Arc<Shared>,
    node: NodeId,
    /// The key the stream was asked for with. When the node changes its key, the stream ends.
    node_key: NodeKey,
    compress: bool,
    /// The picture that the client was told last; none before the first message and after the last.
    told: Option<Arc<Picture>>,
    pictures: watch::Receiver<Arc<Picture>>,
    connected: Connected,
    is_over: bool,
}

impl Feed {
    /// A stream for a node, which counts as connected from now on.
    pub(crate) fn new(shared: &Arc<Shared>, node: NodeId, node_key: NodeKey, compress: bool) -> Self {
        let pictures = shared.pictures();
        Self {
            connected: shared.connect(node),
            shared: Arc::clone(shared),
            node,
            node_key,
            compress,
            told: None,
            pictures,
            is_over: false,
        }
    }

    /// The frames as a response's body. Dropping it ends the node's connection.
    pub(crate) fn into_body(self) -> StreamBody<impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send> {
        StreamBody::new(stream::unfold(self, |mut feed| async move {
            let frame = feed.next().await?;
            Some((Ok(Frame::data(frame)), feed))
        }))
    }

    /// The next frame, or `None` when the stream is over: the node is gone, has another key or a newer stream, or the server ends.
    ///
    /// A client has one stream. When its network changed, it opens another, and nobody ends the old one: the node would count as
    /// connected until TCP gives up, also when it is gone for good.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        let Some(mut told) = self.told.take() else {
            return self.first();
        };
        loop {
            if let Some(ping_request) = self.shared.asks.next(self.node) {
                self.told = Some(told);
                return self.encode(&MapResponse {
                    ping_request: Some(ping_request),
                    ..MapResponse::default()
                });
            }
            tokio::select! {
                changed = self.pictures.changed() => changed.ok()?,
                () = tokio::time::sleep(self.shared.config.keep_alive) => {
                    self.told = Some(told);
                    return self.encode(&MapResponse { keep_alive: true, ..MapResponse::default() });
                }
                () = self.shared.shutdown.begun() => return None,
            }
            if !self.connected.is_newest() {
                return None;
            }
            let picture = Arc::clone(&self.pictures.borrow_and_update());
            if picture.number <= told.number {
                continue;
            }
            let Some(step) = picture.step(&told, self.node) else {
                return self.farewell(&told);
            };
            if picture.key_of(self.node) != Some(self.node_key) {
                return None;
            }
            let frame = self.frame(&told, &picture, &step);
            told = picture;
            if let Some(frame) = frame {
                self.told = Some(told);
                return Some(frame);
            }
        }
    }

    /// The whole map.
    fn first(&mut self) -> Option<Bytes> {
        let picture = self.shared.picture();
        if !self.connected.is_newest() || picture.key_of(self.node) != Some(self.node_key) {
            return None;
        }
        let json = picture.map_json(self.node)?;
        self.told = Some(picture);
        encode(&json, self.compress)
    }

    /// The last message to a client whose node was removed: its own node with an expired key. A Go client would otherwise ask
    /// for the map of the removed node for ever; this makes it ask for a login.
    fn farewell(&mut self, told: &Picture) -> Option<Bytes> {
        self.is_over = true;
        let mut node = told.own_node(self.node)?;
        node.key_expiry = Timestamp::now().into();
        node.expired = true;
        self.encode(&MapResponse {
            node: Some(node),
            ..MapResponse::default()
        })
    }

    /// The message of a step; none when there is nothing to tell.
    fn frame(&self, told: &Picture, picture: &Picture, step: &Step) -> Option<Bytes> {
        if step.is_empty() {
            return None;
        }
        let encode = || self.encode(&picture.message(told, step)?);
        let Some(peers) = step.peers_alone() else {
            return encode();
        };
        let key = Key {
            from: told.number,
            compress: self.compress,
            peers: peers.to_vec(),
        };
        self.shared.frames.get(picture.number, key, encode)
    }

    fn encode(&self, message: &MapResponse) -> Option<Bytes> {
        encode(&serde_json::to_vec(message).ok()?, self.compress)
    }
}

/// A message in JSON as a frame; `None` when it is too long for one.
pub(crate) fn encode(json: &[u8], compress: bool) -> Option<Bytes> {
    let frame = if compress {
        encode_frame(&zstd::encode_all(json, LEVEL).ok()?)
    } else {
        encode_frame(json)
    };
    frame.ok().map(Bytes::from)
}
