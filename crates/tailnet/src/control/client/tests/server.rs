//! As much of a control server as a client needs to get to a map stream.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::Framed;
use ts_control_noise::BiCodec;
use ts_keys::MachineKeyPair;
use ts_noise::ik::ReceivedHandshake;

use super::{Script, play};

/// A Noise session as a byte stream.
struct Io {
    records: Framed<TcpStream, BiCodec>,
    unread: BytesMut,
}

impl AsyncRead for Io {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.records).poll_next(cx)) {
                Some(record) => self.unread = record?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = self.unread.len().min(buf.remaining());
        buf.put_slice(&self.unread.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, plain: &[u8]) -> Poll<io::Result<usize>> {
        ready!(Sink::<Bytes>::poll_ready(Pin::new(&mut self.records), cx))?;
        let mut plain = plain;
        let chunk = plain.copy_to_bytes(plain.len().min(4000));
        let length = chunk.len();
        Pin::new(&mut self.records).start_send(chunk)?;
        Poll::Ready(Ok(length))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Sink::<Bytes>::poll_flush(Pin::new(&mut self.records), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Sink::<Bytes>::poll_close(Pin::new(&mut self.records), cx)
    }
}

/// Serves until the task is aborted.
pub(super) async fn serve(listener: TcpListener, script: Script) {
    let key = Arc::new(MachineKeyPair::random());
    loop {
        let (connection, _) = listener.accept().await.unwrap();
        tokio::spawn(serve_connection(connection, Arc::clone(&key), script.clone()));
    }
}

async fn serve_connection(mut connection: TcpStream, key: Arc<MachineKeyPair>, script: Script) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = connection.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    if head.starts_with("GET /key") {
        let body = format!(r#"{{"publicKey":"{}"}}"#, key.public);
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        connection.write_all(answer.as_bytes()).await.unwrap();
        return;
    }
    let header = "x-tailscale-handshake: ";
    let line = head
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with(header))
        .unwrap();
    let mut init = STANDARD.decode(&line[header.len()..]).unwrap();
    let prologue = format!("Tailscale Control Protocol v{}", u16::from_be_bytes([init[0], init[1]]));
    let handshake = ReceivedHandshake::new(&mut init[5..], prologue.as_bytes(), &key.to_x25519_dalek()).unwrap();
    let mut response = [0; ReceivedHandshake::RESP_SIZE];
    let session = handshake.finish(&mut response);
    let upgrade =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: tailscale-control-protocol\r\nConnection: upgrade\r\n\r\n";
    let answer = [upgrade.as_bytes(), &[2, 0, 48], &response].concat();
    connection.write_all(&answer).await.unwrap();
    let io = Io {
        records: Framed::new(connection, BiCodec::from(session)),
        unread: BytesMut::new(),
    };
    let mut requests = h2::server::handshake(io).await.unwrap();
    while let Some(Ok((request, mut answer))) = requests.accept().await {
        if request.uri().path() == "/machine/map" {
            tokio::spawn(play(script.clone(), answer));
        } else {
            let mut body = answer.send_response(http::Response::new(()), false).unwrap();
            body.send_data(Bytes::from_static(br#"{"MachineAuthorized": true}"#), true)
                .unwrap();
        }
    }
}
