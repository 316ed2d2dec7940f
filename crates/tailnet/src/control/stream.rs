//! The stream of network map messages.

use std::io::Read;
use std::time::Duration;

use h2::RecvStream;
use isthmus_tailnet_wire::control::MapResponse;
use isthmus_tailnet_wire::framing::{FrameDecoder, FrameError, MAX_FRAME};

use super::error::ControlError;
use super::session::broken;

/// A stream that says nothing for this long, not even a keep-alive, is dead. Servers send one every 50 to 60 seconds.
const LONGEST_SILENCE: Duration = Duration::from_mins(2);

/// What every zstd frame starts with.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// An open map stream.
pub(crate) struct MapStream {
    body: RecvStream,
    frames: FrameDecoder,
    longest_silence: Duration,
}

impl MapStream {
    pub(crate) fn new(body: RecvStream) -> Self {
        Self {
            body,
            frames: FrameDecoder::default(),
            longest_silence: LONGEST_SILENCE,
        }
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Result<MapResponse, ControlError> {
        loop {
            if let Some(frame) = self.frames.next_frame()? {
                return read_message(&frame);
            }
            let data = tokio::time::timeout(self.longest_silence, self.body.data()).await;
            let chunk = data
                .map_err(|_| ControlError::Silent)?
                .ok_or(ControlError::StreamEnded)?;
            let chunk = chunk.map_err(broken("follow the network map"))?;
            let _ = self.body.flow_control().release_capacity(chunk.len());
            self.frames.push(&chunk);
        }
    }
}

/// Decompresses a frame, unless the server ignored that it was asked to compress, and reads it.
pub(crate) fn read_message(frame: &[u8]) -> Result<MapResponse, ControlError> {
    if !frame.starts_with(&ZSTD_MAGIC) {
        return serde_json::from_slice(frame).map_err(ControlError::Json);
    }
    let decoder = zstd::stream::read::Decoder::new(frame).map_err(ControlError::Decompress)?;
    let mut json = Vec::new();
    let limit = u64::try_from(MAX_FRAME).unwrap_or(u64::MAX);
    decoder
        .take(limit + 1)
        .read_to_end(&mut json)
        .map_err(ControlError::Decompress)?;
    if json.len() > MAX_FRAME {
        return Err(FrameError::TooLong {
            length: json.len(),
            limit: MAX_FRAME,
        }
        .into());
    }
    serde_json::from_slice(&json).map_err(ControlError::Json)
}

#[cfg(test)]
mod tests {
    use isthmus_tailnet_wire::framing::encode_frame;

    use super::*;

    #[tokio::test]
    async fn stream_is_dead_after_a_silence_and_lives_by_keep_alives() {
        const LIMIT: Duration = Duration::from_secs(1);
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let server = tokio::spawn(async move {
            let mut connection = h2::server::handshake(theirs).await.unwrap();
            let (_, mut answer) = connection.accept().await.unwrap().unwrap();
            let mut body = answer.send_response(http::Response::new(()), false).unwrap();
            tokio::spawn(async move { while connection.accept().await.is_some() {} });
            for _ in 0..4 {
                let keep_alive = encode_frame(br#"{"KeepAlive":true}"#).unwrap();
                body.send_data(keep_alive.into(), false).unwrap();
                tokio::time::sleep(LIMIT / 2).await;
            }
            std::future::pending::<()>().await;
        });
        let (mut client, connection) = h2::client::handshake(ours).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::post("http://x/machine/map").body(()).unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        let mut stream = MapStream::new(response.await.unwrap().into_body());
        stream.longest_silence = LIMIT;
        for _ in 0..4 {
            assert!(stream.next().await.unwrap().keep_alive);
        }
        assert!(matches!(stream.next().await, Err(ControlError::Silent)));
        server.abort();
    }

    #[test]
    fn message_is_read_with_and_without_compression() {
        let json = br#"{"Domain":"a","KeepAlive":true}"#;
        let compressed = zstd::encode_all(&json[..], 1).unwrap();
        for frame in [&json[..], &compressed] {
            let message = read_message(frame).unwrap();
            assert!(message.keep_alive && message.domain == "a");
        }
    }

    #[test]
    fn decompression_bomb_is_refused() {
        let bomb = zstd::encode_all(std::io::repeat(b' ').take(100 << 20), 1).unwrap();
        assert!(bomb.len() < 1 << 20);
        assert!(matches!(read_message(&bomb), Err(ControlError::Frame(_))));
    }
}
