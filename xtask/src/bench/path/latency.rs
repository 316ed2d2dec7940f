//! How long a page takes over a connection that is new: one after the other, nothing else going on.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use isthmus_testkit::netns::Namespace;
use serde::Serialize;

use super::Scene;

/// How long a page may take before the measurement is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// From where to which server.
pub(super) struct Way {
    name: &'static str,
    from: Namespace,
    server: SocketAddr,
}

/// What a way showed, in milliseconds from the call of `connect` to the last byte of the page.
#[derive(Debug, Serialize)]
pub(super) struct Latency {
    name: &'static str,
    p50_ms: f64,
    p90_ms: f64,
    p99_ms: f64,
    pages_per_second: f64,
}

impl Scene<'_> {
    pub(super) fn ways(&self) -> Result<[Way; 5]> {
        let pod = self.client.network("client")?;
        let laptop = &self.stage.laptop.host.namespace;
        let server = self.look_up("pod/server", ".status.podIP")?;
        let service = self.look_up("service/near", ".spec.clusterIP")?;
        let proxy = self.stage.kubectl(&[
            "-n",
            "isthmus",
            "get",
            "pods",
            "-l",
            "tailscale.com/parent-resource=far",
            "-o",
            "jsonpath={.items[0].status.podIP}",
        ])?;
        let [exposed, exposed6] = &self.exposed;
        Ok([
            Way::new("Pod → Pod, no tailnet", &pod, &server)?,
            Way::new("Pod → Service, no tailnet", &pod, &service)?,
            Way::new("laptop → ingress → Service", laptop, exposed)?,
            Way::new("laptop → relay → Service", laptop, exposed6)?,
            Way::new("Pod → egress → device", &pod, &proxy)?,
        ])
    }
}

impl Way {
    fn new(name: &'static str, from: &Namespace, server: &str) -> Result<Self> {
        let address: IpAddr = server.parse().with_context(|| format!("{server} is no address"))?;
        Ok(Self {
            name,
            from: from.clone(),
            server: SocketAddr::new(address, 80),
        })
    }

    pub(super) fn measure(&self, connections: usize) -> Result<Latency> {
        ensure!(connections > 0, "nothing to measure: ask for one connection at least");
        let (took, all) = self.from.enter(|| {
            let began = Instant::now();
            let pages = (0..connections).map(|_| get_page(self.server));
            pages.collect::<Result<Vec<_>>>().map(|took| (took, began.elapsed()))
        })?;
        let mut milliseconds: Vec<f64> = took.iter().map(|took| took.as_secs_f64() * 1e3).collect();
        milliseconds.sort_by(f64::total_cmp);
        let at = |percent: usize| milliseconds[(milliseconds.len() * percent / 100).min(milliseconds.len() - 1)];
        Ok(Latency {
            name: self.name,
            p50_ms: at(50),
            p90_ms: at(90),
            p99_ms: at(99),
            pages_per_second: f64::from(u32::try_from(connections)?) / all.as_secs_f64(),
        })
    }
}

/// HTTP/1.0, where the server ends the connection after the page.
fn get_page(server: SocketAddr) -> Result<Duration> {
    let began = Instant::now();
    let mut connection =
        TcpStream::connect_timeout(&server, PATIENCE).with_context(|| format!("connect to {server}"))?;
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut page = Vec::new();
    connection
        .read_to_end(&mut page)
        .with_context(|| format!("read the page of {server}"))?;
    ensure!(page.starts_with(b"HTTP/1."), "{server} does not speak HTTP");
    Ok(began.elapsed())
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<28} a page over a new connection: {:.2} ms p50, {:.2} p90, {:.2} p99; {:.0} a second",
            self.name, self.p50_ms, self.p90_ms, self.p99_ms, self.pages_per_second
        )
    }
}
