//! Records that nodes set for authorities, and the name server that answers these.

use std::net::SocketAddr;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use isthmus_tailbox::{Config, Tailbox};
use isthmus_tailnet_wire::control::SetDnsRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::client::{Client, within};

async fn tailbox() -> (Tailbox, SocketAddr) {
    let config = Config {
        dns: Some("127.0.0.1:0".parse().unwrap()),
        ..Config::default()
    };
    let tailbox = Tailbox::start(config).await.unwrap();
    let address = tailbox.dns_addr().unwrap();
    (tailbox, address)
}

async fn set(client: &Client, name: &str, kind: &str, value: &str) -> u16 {
    let request = SetDnsRequest {
        version: 119,
        node_key: client.node_key,
        name: name.into(),
        kind: kind.into(),
        value: value.into(),
    };
    client.post("/machine/set-dns", &request).await.0
}

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

async fn ask(server: SocketAddr, name: &str, kind: RecordType) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&question(name, kind), server).await.unwrap();
    let mut answer = [0; 2048];
    let (length, _) = within("the answer", socket.recv_from(&mut answer)).await.unwrap();
    Message::from_vec(&answer[..length]).unwrap()
}

async fn ask_by_tcp(server: SocketAddr, name: &str) -> Message {
    let mut connection = TcpStream::connect(server).await.unwrap();
    let question = question(name, RecordType::TXT);
    let length = u16::try_from(question.len()).unwrap();
    connection
        .write_all(&[&length.to_be_bytes()[..], &question].concat())
        .await
        .unwrap();
    let length = within("the answer", connection.read_u16()).await.unwrap();
    let mut answer = vec![0; length.into()];
    connection.read_exact(&mut answer).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

fn texts(message: &Message) -> Vec<String> {
    let mut texts: Vec<String> = message
        .answers
        .iter()
        .filter_map(|record| {
            let RData::TXT(text) = &record.data else { return None };
            Some(text.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect())
        })
        .collect();
    texts.sort();
    texts
}

#[tokio::test]
async fn record_of_a_node_is_served_over_both_protocols() {
    let (tailbox, server) = tailbox().await;
    let client = Client::join(&tailbox, "web").await;
    let first = client.stream().await.next().await.unwrap();
    assert_eq!(first.dns_config.unwrap().cert_domains, ["web.tail.internal"]);
    assert!(first.node.unwrap().cap_map.contains_key("https"));
    let name = "_acme-challenge.web.tail.internal";
    assert_eq!(
        ask(server, name, RecordType::TXT).await.metadata.response_code,
        ResponseCode::NXDomain
    );

    assert_eq!(set(&client, name, "TXT", "one").await, 200);
    assert_eq!(set(&client, name, "TXT", "two").await, 200);
    assert_eq!(set(&client, name, "TXT", "one").await, 200);
    let answer = ask(server, "_ACME-challenge.Web.tail.internal.", RecordType::TXT).await;
    assert!(answer.metadata.authoritative && answer.metadata.id == 7);
    assert_eq!(texts(&answer), ["one", "two"]);
    assert_eq!(texts(&ask_by_tcp(server, name).await), ["one", "two"]);
    let other = ask(server, name, RecordType::CAA).await;
    assert_eq!(
        (other.metadata.response_code, other.answers.len()),
        (ResponseCode::NoError, 0)
    );
}

#[tokio::test]
async fn long_answer_is_cut_over_udp_and_whole_over_tcp() {
    let (tailbox, server) = tailbox().await;
    let client = Client::join(&tailbox, "web").await;
    let name = "_acme-challenge.web.tail.internal";
    for letter in ["a", "b", "c"] {
        assert_eq!(set(&client, name, "TXT", &letter.repeat(255)).await, 200);
    }
    let answer = ask(server, name, RecordType::TXT).await;
    assert!(answer.metadata.truncation);
    assert_eq!(texts(&ask_by_tcp(server, name).await).len(), 3);
    assert_eq!(set(&client, name, "TXT", &"d".repeat(256)).await, 400);
}

#[tokio::test]
async fn set_dns_outside_own_domains_is_refused() {
    let (tailbox, server) = tailbox().await;
    let (client, other) = (
        Client::join(&tailbox, "web").await,
        Client::join(&tailbox, "other").await,
    );
    for name in [
        "_acme-challenge.other.tail.internal",
        "_acme-challenge.tail.internal",
        "_acme-challenge.x.web.tail.internal",
        "web.tail.internal",
        "_acme-challenge.example.com",
        "",
    ] {
        assert_eq!(set(&client, name, "TXT", "stolen").await, 403, "{name}");
    }
    assert_eq!(
        set(&client, "_acme-challenge.web.tail.internal", "A", "192.0.2.1").await,
        403
    );
    let forged = SetDnsRequest {
        version: 119,
        node_key: other.node_key,
        name: "_acme-challenge.other.tail.internal".into(),
        kind: "TXT".into(),
        value: "stolen".into(),
    };
    assert_eq!(
        client.post("/machine/set-dns", &forged).await.0,
        404,
        "the key is of another machine"
    );
    let answer = ask(server, "_acme-challenge.other.tail.internal", RecordType::TXT).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn name_server_answers_only_for_its_own_domain() {
    let (tailbox, server) = tailbox().await;
    drop(Client::join(&tailbox, "web").await);
    for name in ["example.com", "internal", "nottail.internal", "."] {
        let answer = ask(server, name, RecordType::TXT).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "{name}");
    }
    for name in ["tail.internal", "web.tail.internal"] {
        let answer = ask(server, name, RecordType::A).await;
        assert_eq!(
            (answer.metadata.response_code, answer.answers.len()),
            (ResponseCode::NoError, 0),
            "{name}"
        );
    }
    let none = ask(server, "none.tail.internal", RecordType::A).await;
    assert_eq!(none.metadata.response_code, ResponseCode::NXDomain);
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(b"garbage", server).await.unwrap();
    assert!(
        !ask(server, "tail.internal", RecordType::A).await.queries.is_empty(),
        "garbage ends nothing"
    );
}

#[tokio::test]
async fn node_has_no_certificate_domains_while_https_is_off() {
    let tailbox = Tailbox::start(Config::default()).await.unwrap();
    let client = Client::join(&tailbox, "web").await;
    let first = client.stream().await.next().await.unwrap();
    assert!(first.dns_config.unwrap().cert_domains.is_empty());
    assert_eq!(set(&client, "_acme-challenge.web.tail.internal", "TXT", "x").await, 403);
}
