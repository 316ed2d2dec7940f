//! The asking side of the socket.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::documents::{Pong, Way};
use super::{Answer, MAX_LINE, Question, socket_in, text};

/// Pause between two pings.
const PAUSE: Duration = Duration::from_secs(1);

/// How long the node may take: it waits five seconds for the answer to a ping.
const PATIENCE: Duration = Duration::from_secs(10);

/// What to ask the running node.
#[derive(Debug, Subcommand)]
pub(crate) enum Ask {
    /// Shows the node, its peers, and how each is reached
    Status(Common),
    /// Shows what the network around the node is like
    Netcheck(Common),
    /// Pings a peer by the way that traffic goes, until there is a direct one
    Ping(Ping),
    /// Shows whom an address of the tailnet belongs to
    Whois(Whois),
}

/// What all questions have in common.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Folder with the state of the running node
    #[arg(long, value_name = "DIR", default_value = "/var/lib/isthmus")]
    state_dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How to ping.
#[derive(Debug, Args)]
pub(crate) struct Ping {
    #[command(flatten)]
    common: Common,
    /// Name or address of the peer
    peer: String,
    /// Pings at most
    #[arg(long, short, value_name = "N", default_value_t = 10)]
    count: u32,
    /// Go on after a direct answer
    #[arg(long)]
    keep_on: bool,
    /// Ping through the tunnel
    #[arg(long)]
    tsmp: bool,
}

/// Whom to look for.
#[derive(Debug, Args)]
pub(crate) struct Whois {
    #[command(flatten)]
    common: Common,
    /// The address; a port behind it does not matter
    #[arg(value_name = "IP[:PORT]", value_parser = address)]
    address: IpAddr,
}

/// Asks the running node and prints what it says.
///
/// # Errors
/// When no node runs with that state folder, or it refuses.
pub(crate) async fn ask(what: Ask) -> anyhow::Result<()> {
    let (common, question) = match what {
        Ask::Ping(options) => return ping(&options).await,
        Ask::Status(common) => (common, Question::Status),
        Ask::Netcheck(common) => (common, Question::Netcheck),
        Ask::Whois(options) => (options.common, Question::Whois(options.address)),
    };
    let answer = Connection::open(&common.state_dir).await?.ask(&question).await?;
    match &answer {
        Answer::Status(status) => print(&common, status, &text::status(status)),
        Answer::Netcheck(network) => print(&common, network, &text::network(network)),
        Answer::Ping(pong) => print(&common, pong, &text::pong(pong)),
        Answer::Whois(found) => print(&common, found, &text::whois(found)),
        Answer::Refusal(reason) => bail!("{reason}"),
    }
}

/// Pings until an answer came directly.
async fn ping(options: &Ping) -> anyhow::Result<()> {
    let mut node = Connection::open(&options.common.state_dir).await?;
    let question = Question::Ping {
        to: options.peer.clone(),
        tsmp: options.tsmp,
    };
    let mut last: Option<Pong> = None;
    let mut answered = 0;
    for number in 0..options.count {
        if number > 0 {
            sleep(PAUSE).await;
        }
        let pong = match node.ask(&question).await? {
            Answer::Ping(pong) => pong,
            Answer::Refusal(reason) => bail!("{reason}"),
            Answer::Status(_) | Answer::Netcheck(_) | Answer::Whois(_) => bail!("the node answers another question"),
        };
        answered += u32::from(pong.latency_ms.is_some());
        print(&options.common, &pong, &text::pong(&pong))?;
        let is_direct = pong.latency_ms.is_some() && matches!(pong.way, Way::Direct(_));
        last = Some(pong);
        if is_direct && !options.keep_on {
            return Ok(());
        }
    }
    let why = last.and_then(|pong| pong.why_not_direct);
    if let Some(why) = why.as_ref().filter(|_| !options.common.json) {
        writeln!(io::stdout().lock(), "not direct: {why}").context("cannot write to standard output")?;
    }
    anyhow::ensure!(answered > 0, "{} does not answer", options.peer);
    Ok(())
}

struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    async fn open(state_dir: &Path) -> anyhow::Result<Self> {
        let path = socket_in(state_dir);
        let stream = UnixStream::connect(&path).await;
        let stream = stream.with_context(|| {
            format!(
                "cannot reach a running node at {}: is one running with this --state-dir, and are you its user?",
                path.display()
            )
        })?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    async fn ask(&mut self, question: &Question) -> anyhow::Result<Answer> {
        let mut line = serde_json::to_string(question).context("write the question")?;
        line.push('\n');
        self.stream.write_all(line.as_bytes()).await.context("ask the node")?;
        let mut answer = String::new();
        let mut limited = (&mut self.stream).take(MAX_LINE);
        let read = timeout(PATIENCE, limited.read_line(&mut answer)).await;
        let length = read
            .context("the node does not answer in time")?
            .context("read the node's answer")?;
        anyhow::ensure!(length > 0, "the node ended without an answer");
        serde_json::from_str(&answer).context("understand the node: it may be of another version")
    }
}

fn print(common: &Common, document: &impl Serialize, text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let written = if common.json {
        let json = serde_json::to_string(document).context("write the answer")?;
        writeln!(out, "{json}")
    } else {
        writeln!(out, "{}", text.trim_end())
    };
    written.context("cannot write to standard output")
}

fn address(text: &str) -> Result<IpAddr, String> {
    let with_port = || text.parse().map(|address: SocketAddr| address.ip());
    text.parse()
        .or_else(|_| with_port())
        .map_err(|_| "write an IP address, with or without a port".to_owned())
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn address_is_read_with_and_without_a_port() {
        for (text, expected) in [
            ("100.64.0.1", "100.64.0.1"),
            ("100.64.0.1:80", "100.64.0.1"),
            ("fd7a::1", "fd7a::1"),
            ("[fd7a::1]:80", "fd7a::1"),
        ] {
            assert_eq!(address(text).unwrap().to_string(), expected);
        }
        assert!(address("host").is_err());
    }
}
