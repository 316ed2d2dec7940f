use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use ts_noise::ik::SentHandshake;

use super::*;

/// A client's raw connection and its session, and the server's stream.
fn connect() -> (DuplexStream, Session, NoiseIo<DuplexStream>) {
    let (server_key, client_key) = (MachineKeyPair::random(), MachineKeyPair::random());
    let mut payload = [0; SentHandshake::INIT_SIZE];
    let sent = SentHandshake::new(
        client_key.to_x25519_dalek(),
        server_key.public.to_x25519_dalek(),
        prologue(119).as_bytes(),
        &mut payload,
    );
    let mut accepted = accept(&Initiation { version: 119, payload }, &server_key).unwrap();
    assert_eq!(accepted.machine, MachineKey::from(client_key.public));
    let Ok(session) = sent.try_finish(&mut accepted.response, client_key.to_x25519_dalek()) else {
        panic!("the client refuses the server's answer");
    };
    let (client, server) = duplex(1 << 16);
    (client, session, NoiseIo::new(server, accepted.session))
}

#[tokio::test]
async fn bytes_pass_both_ways_in_records() {
    let (client, session, mut server) = connect();
    let mut client = NoiseIo::new(client, session);
    let sent: Vec<u8> = (0..10_000_u32).map(|n| n.to_le_bytes()[0]).collect();

    client.write_all(&sent).await.unwrap();
    client.flush().await.unwrap();
    let mut received = vec![0; sent.len()];
    server.read_exact(&mut received).await.unwrap();
    assert_eq!(received, sent);

    server.write_all(b"answer").await.unwrap();
    server.flush().await.unwrap();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"answer");
}

#[tokio::test]
async fn record_without_room_for_its_tag_ends_the_connection() {
    let (mut client, _session, mut server) = connect();
    client.write_all(&[4, 0, 3, 1, 2, 3]).await.unwrap();
    let error = server.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[test]
fn handshake_for_another_server_is_refused() {
    let (client_key, other) = (MachineKeyPair::random(), MachineKeyPair::random());
    let mut payload = [0; SentHandshake::INIT_SIZE];
    let _sent = SentHandshake::new(
        client_key.to_x25519_dalek(),
        other.public.to_x25519_dalek(),
        prologue(119).as_bytes(),
        &mut payload,
    );
    assert!(accept(&Initiation { version: 119, payload }, &MachineKeyPair::random()).is_none());
}
