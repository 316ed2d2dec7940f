use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{CHUNK, copy_both};

const PATIENCE: Duration = Duration::from_secs(30);

/// Two connections with a copying task between them: what the client and the target hold.
struct Scene {
    client: TcpStream,
    target: TcpStream,
    copying: JoinHandle<std::io::Result<()>>,
}

async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connecting = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(connecting, listener.accept());
    (near.unwrap(), far.unwrap().0)
}

impl Scene {
    async fn new() -> Self {
        let (client, from_client) = connection().await;
        let (target, to_target) = connection().await;
        let copying = tokio::spawn(async move {
            let held = AtomicUsize::new(0);
            let outcome = copy_both(&from_client, &to_target, &held).await;
            assert_eq!(held.load(Ordering::Relaxed), 0, "nothing is left held");
            if outcome.is_err() {
                for stream in [&from_client, &to_target] {
                    SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
                }
            }
            outcome
        });
        Self {
            client,
            target,
            copying,
        }
    }
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

#[tokio::test]
async fn end_of_one_side_leaves_the_other_direction_open() {
    let mut scene = Scene::new().await;
    scene.client.write_all(b"question").await.unwrap();
    scene.client.shutdown().await.unwrap();
    let mut heard = Vec::new();
    timeout(PATIENCE, scene.target.read_to_end(&mut heard))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(heard, b"question");
    scene.target.write_all(b"answer after the end").await.unwrap();
    drop(scene.target);
    heard.clear();
    timeout(PATIENCE, scene.client.read_to_end(&mut heard))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(heard, b"answer after the end");
    timeout(PATIENCE, scene.copying).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn reset_of_one_side_resets_the_other() {
    let mut scene = Scene::new().await;
    reset(scene.target);
    let error = timeout(PATIENCE, scene.client.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(scene.copying.await.unwrap().is_err());
}

#[tokio::test]
async fn reset_is_noticed_after_the_other_direction_has_ended() {
    let mut scene = Scene::new().await;
    scene.target.shutdown().await.unwrap();
    assert_eq!(
        timeout(PATIENCE, scene.client.read(&mut [0; 8]))
            .await
            .unwrap()
            .unwrap(),
        0
    );
    reset(scene.target);
    timeout(PATIENCE, scene.copying).await.unwrap().unwrap().unwrap_err();
}

#[tokio::test]
async fn reset_is_noticed_while_the_receiver_does_not_read() {
    let mut scene = Scene::new().await;
    fill(&mut scene.client).await;
    reset(scene.client);
    let outcome = timeout(PATIENCE, scene.copying).await.unwrap();
    assert!(outcome.unwrap().is_err());
    drop(scene.target);
}

/// Writes until nothing more is taken, although time passes.
async fn fill(stream: &mut TcpStream) -> usize {
    let block = vec![7; CHUNK];
    let mut total = 0;
    while let Ok(written) = timeout(Duration::from_millis(500), stream.write(&block)).await {
        total += written.unwrap();
    }
    total
}

#[tokio::test]
async fn sender_waits_for_a_slow_receiver_and_nothing_is_lost() {
    let mut scene = Scene::new().await;
    let sent = fill(&mut scene.client).await;
    drop(scene.client);
    let mut received = Vec::new();
    timeout(PATIENCE, scene.target.read_to_end(&mut received))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(received.len(), sent);
    assert!(received.iter().all(|byte| *byte == 7));
}
