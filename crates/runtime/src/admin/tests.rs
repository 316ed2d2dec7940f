use hyper::StatusCode;
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{Admin, text};
use crate::{Readiness, Shutdown};

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answer");
    answer
}

#[tokio::test]
async fn probes_and_metrics_are_answered() {
    let readiness = Readiness::new();
    let waiting = readiness.wait_for("netmap");
    let mut metrics = Registry::default();
    let counter: Counter = Counter::default();
    counter.inc();
    metrics.register("logins", "Logins", counter);
    let handler = Box::new(|path: &str| (path == "/healthz").then(|| text(StatusCode::OK, "own\n")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    let shutdown = Shutdown::new();
    let admin = Admin {
        readiness,
        metrics,
        handler,
    };
    let server = tokio::spawn(admin.serve_on(listener, shutdown.clone()));

    let not_ready = get(address, "/readyz").await;
    assert!(
        not_ready.starts_with("HTTP/1.1 503") && not_ready.contains("waiting for: netmap"),
        "{not_ready}"
    );
    drop(waiting);
    assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
    assert!(get(address, "/livez").await.starts_with("HTTP/1.1 200"));
    assert!(get(address, "/metrics").await.contains("logins_total 1"));
    assert!(get(address, "/healthz").await.ends_with("own\n"));
    assert!(get(address, "/other").await.starts_with("HTTP/1.1 404"));

    shutdown.begin();
    server.await.expect("server ends when the shutdown begins");
}
