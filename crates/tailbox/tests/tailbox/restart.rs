//! What survives a restart, and how a tailbox stops.

use isthmus_tailbox::{AuthKeySpec, Config, StartError, StoreError, Tailbox};

use crate::client::Client;

#[tokio::test]
async fn nodes_keys_and_server_key_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        state_file: Some(folder.path().join("state.json")),
        ..Config::default()
    };
    let tailbox = Tailbox::start(config.clone()).await.unwrap();
    let client = Client::join(&tailbox, "a").await;
    client.tell_endpoints(&["192.0.2.1:41641"]).await;
    let unused = tailbox.create_auth_key(AuthKeySpec::default()).await.unwrap();
    let (server_key, nodes) = (tailbox.machine_key(), tailbox.nodes());
    tailbox.stop().await.unwrap();

    let tailbox = Tailbox::start(config).await.unwrap();
    assert_eq!(tailbox.machine_key(), server_key);
    assert_eq!(tailbox.nodes(), nodes);
    let again = Client::connect_as(&tailbox, "a", client.machine.clone(), client.node_key).await;
    assert_eq!(again.register("").await.error, "");
    let node = again.stream().await.next().await.unwrap().node.unwrap();
    assert_eq!(node.addresses[0].to_string(), "100.64.0.1/32");
    let other = Client::connect(&tailbox, "b").await;
    assert_eq!(other.register(unused.expose()).await.error, "");
}

#[tokio::test]
async fn used_key_stays_used_when_the_process_is_killed_after_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let tailbox = Tailbox::start(Config {
        state_file: Some(path.clone()),
        ..Config::default()
    })
    .await
    .unwrap();
    let key = tailbox.create_auth_key(AuthKeySpec::default()).await.unwrap();
    let client = Client::connect(&tailbox, "a").await;
    assert_eq!(client.register(key.expose()).await.error, "");
    // What is on disk at the moment of the answer is what a killed process leaves behind.
    let copy = folder.path().join("copy.json");
    std::fs::copy(&path, &copy).unwrap();

    let restarted = Tailbox::start(Config {
        state_file: Some(copy),
        ..Config::default()
    })
    .await
    .unwrap();
    let other = Client::connect(&restarted, "b").await;
    assert!(other.register(key.expose()).await.error.contains("used up"));
}

#[tokio::test]
async fn secrets_are_not_in_the_state_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    let tailbox = Tailbox::start(Config {
        state_file: Some(path.clone()),
        ..Config::default()
    })
    .await
    .unwrap();
    let key = tailbox.create_auth_key(AuthKeySpec::default()).await.unwrap();
    let secret = key.expose().rsplit('-').next().unwrap();
    assert!(!std::fs::read_to_string(path).unwrap().contains(secret));
}

#[tokio::test]
async fn tailbox_refuses_to_start_on_a_corrupt_state_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.json");
    std::fs::write(&path, "not JSON").unwrap();
    let started = Tailbox::start(Config {
        state_file: Some(path.clone()),
        ..Config::default()
    })
    .await;
    assert!(matches!(
        started.err(),
        Some(StartError::Store(StoreError::Corrupt { .. }))
    ));
    assert_eq!(std::fs::read_to_string(path).unwrap(), "not JSON");
}

#[tokio::test]
async fn stop_ends_open_streams() {
    let tailbox = Tailbox::start(Config::default()).await.unwrap();
    let client = Client::join(&tailbox, "a").await;
    let mut stream = client.stream().await;
    stream.next().await.unwrap();
    tailbox.stop().await.unwrap();
    stream.until_ended().await;
}
