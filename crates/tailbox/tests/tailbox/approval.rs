//! Approval of devices.

use isthmus_tailbox::{AuthKeySpec, Tailbox};
use isthmus_tailnet_wire::control::MapResponse;
use serde_json::json;

use crate::api::caller;
use crate::client::{Client, MapStream};
use crate::http_call::Caller;
use crate::settings::{SETTINGS, tailbox};

/// A node that joins with a key which brings approval or not; whether it may use the tailnet, and its stream.
async fn joins(tailbox: &Tailbox, name: &str, preauthorized: bool) -> (Client, bool, MapStream) {
    let client = Client::connect(tailbox, name).await;
    let spec = AuthKeySpec {
        preauthorized,
        ..AuthKeySpec::default()
    };
    let key = tailbox.create_auth_key(spec).await.unwrap();
    let answer = client.register(key.expose()).await;
    assert_eq!(answer.error, "");
    client.tell_endpoints(&["192.0.2.1:1"]).await;
    let stream = client.stream().await;
    (client, answer.machine_authorized, stream)
}

async fn switch(caller: &Caller<'_>, on: bool) {
    let body = json!({"devicesApprovalOn": on}).to_string();
    let (status, changed) = caller.send("PATCH", SETTINGS, body).await;
    assert_eq!((status, &changed["devicesApprovalOn"]), (200, &json!(on)));
}

async fn authorize(caller: &Caller<'_>, node: &str, authorized: bool) {
    let path = format!("/api/v2/device/{node}/authorized");
    assert_eq!(caller.post(&path, json!({"authorized": authorized})).await.0, 200);
}

fn says(message: &MapResponse, authorized: bool) -> bool {
    message
        .node
        .as_ref()
        .is_some_and(|node| node.machine_authorized == authorized)
}

fn rules(message: &MapResponse) -> Option<usize> {
    let filters = message.packet_filters.as_ref()?;
    filters["base"].as_ref().map(Vec::len)
}

#[tokio::test]
async fn node_without_approval_sees_and_is_seen_by_nobody_until_it_is_approved() {
    let tailbox = tailbox().await;
    let caller = caller(&tailbox, "").await;
    let (_old, authorized, mut at_old) = joins(&tailbox, "old", false).await;
    assert!(authorized, "nobody waits where approval is not asked for");
    switch(&caller, true).await;
    let (_new, authorized, mut at_new) = joins(&tailbox, "new", false).await;
    assert!(!authorized);
    let first = at_new.next().await.unwrap();
    assert!(says(&first, false) && first.peers.is_empty());
    assert_eq!(rules(&first), Some(0));
    let (_known, authorized, _at_known) = joins(&tailbox, "known", true).await;
    assert!(authorized, "the key brings approval");
    at_old.until_peer("known.tail.internal.", |_| true).await;
    assert_eq!(at_old.peers.len(), 1, "a node that waits is not shown");
    assert_eq!(caller.get("/api/v2/device/2").await.1["authorized"], false);
    assert_eq!(caller.get("/api/v2/device/1").await.1["authorized"], true);

    authorize(&caller, "2", true).await;
    let approved = at_new.until("the approval", |message| says(message, true)).await;
    assert_eq!(rules(&approved), Some(1));
    at_new.until_peer("old.tail.internal.", |_| true).await;
    at_old.until_peer("new.tail.internal.", |_| true).await;

    authorize(&caller, "2", false).await;
    at_old
        .until("the removal", |message| message.peers_removed == [2])
        .await;
    let shut_out = at_new
        .until("the end of the approval", |message| says(message, false))
        .await;
    assert_eq!((shut_out.peers_removed, at_new.peers.len()), (vec![1, 3], 0));
}

#[tokio::test]
async fn approved_node_stays_so_when_it_logs_in_again() {
    let tailbox = tailbox().await;
    let caller = caller(&tailbox, "").await;
    switch(&caller, true).await;
    let (client, authorized, _stream) = joins(&tailbox, "web", false).await;
    assert!(!authorized);
    let again = async || {
        let key = tailbox.create_auth_key(AuthKeySpec::default()).await.unwrap();
        client.register(key.expose()).await.machine_authorized
    };
    assert!(!again().await, "another login is no approval");
    authorize(&caller, "1", true).await;
    assert!(again().await);
}
