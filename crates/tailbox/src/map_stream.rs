//! Map streams: a full map, then what changes, keep-alives between.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use http_body_util::StreamBody;
use hyper::body::Frame;
use isthmus_tailnet_wire::control::{MapResponse, NodeId, PingRequest};
use isthmus_tailnet_wire::framing::encode_frame;
use isthmus_tailnet_wire::keys::NodeKey;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::shared::{Connected, Shared};
use crate::state::MapSession;

/// How long to wait after a change for those that come with it: a registration is followed by an update at once.
const SETTLE: Duration = Duration::from_millis(50);
/// Compression level of zstd: the fastest.
const LEVEL: i32 = 1;

/// What one client is sent.
pub(crate) struct Feed {
    shared: Arc<Shared>,
    node: NodeId,
    /// The key the stream was asked for with. When the node changes its key, the stream ends.
    node_key: NodeKey,
    compress: bool,
    session: MapSession,
    changes: watch::Receiver<u64>,
    connected: Connected,
}

impl Feed {
    /// A stream for a node, which counts as connected from now on.
    pub(crate) fn new(shared: &Arc<Shared>, node: NodeId, node_key: NodeKey, compress: bool) -> Self {
        let connected = shared.connect(node);
        let mut changes = shared.changes();
        changes.mark_changed();
        Self {
            shared: Arc::clone(shared),
            node,
            node_key,
            compress,
            session: MapSession::default(),
            changes,
            connected,
        }
    }

    /// The frames as a response's body. Dropping it ends the node's connection.
    pub(crate) fn into_body(self) -> StreamBody<impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send> {
        StreamBody::new(stream::unfold(self, |mut feed| async move {
            let message = feed.next().await?;
            let frame = encode(&message, feed.compress)?;
            Some((Ok(Frame::data(frame)), feed))
        }))
    }

    /// The next message, or `None` when the stream is over: the node is gone, has another key or a newer stream, or the server ends.
    ///
    /// A client has one stream. When its network changed, it opens another, and nobody ends the old one: the node would count as
    /// connected until TCP gives up, also when it is gone for good.
    async fn next(&mut self) -> Option<MapResponse> {
        loop {
            if let Some(ping_request) = self.next_ask() {
                return Some(MapResponse {
                    ping_request: Some(ping_request),
                    ..MapResponse::default()
                });
            }
            tokio::select! {
                changed = self.changes.changed() => {
                    changed.ok()?;
                    if self.session.is_begun() {
                        tokio::time::sleep(SETTLE).await;
                    }
                }
                () = tokio::time::sleep(self.shared.config.keep_alive) => {
                    return Some(MapResponse { keep_alive: true, ..MapResponse::default() });
                }
                () = self.shared.shutdown.begun() => return None,
            }
            self.changes.borrow_and_update();
            if !self.connected.is_newest() {
                return None;
            }
            let Some(map) = self.shared.full_map(self.node) else {
                // Once it is sent, there is nothing to wait for.
                self.changes.mark_changed();
                return self.session.farewell(Timestamp::now());
            };
            if map.node.as_ref().is_none_or(|node| node.key != self.node_key) {
                return None;
            }
            if let Some(mut message) = self.session.advance(map) {
                message.control_time = Some(Timestamp::now().into());
                return Some(message);
            }
        }
    }
}

impl Feed {
    /// The next request to the node. The first message of a stream has to be the map.
    fn next_ask(&self) -> Option<PingRequest> {
        let begun = self.session.is_begun();
        begun.then(|| self.shared.asks.next(self.node)).flatten()
    }
}

/// A message as a frame; `None` when it is too long for one.
pub(crate) fn encode(message: &MapResponse, compress: bool) -> Option<Bytes> {
    let json = serde_json::to_vec(message).ok()?;
    let body = if compress {
        zstd::encode_all(&json[..], LEVEL).ok()?
    } else {
        json
    };
    encode_frame(&body).ok().map(Bytes::from)
}
