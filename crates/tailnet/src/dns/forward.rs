//! Questions that others answer.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::RESOLVER_ADDRESS;

/// How long one server may take by UDP; each is asked this often before the question is given up.
const UDP_LIMIT: Duration = Duration::from_secs(2);
const ROUNDS: usize = 2;

/// How long one server may take by TCP.
const TCP_LIMIT: Duration = Duration::from_secs(5);

/// Bytes of the header of a message; the first two are its number.
const HEADER: usize = 12;

/// How a question came, and is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
}

/// Passes questions on.
pub(super) struct Forwarder {
    resolv_conf: PathBuf,
    /// The name servers that the machine had when it last named any but this node.
    machine: Mutex<Vec<SocketAddr>>,
}

impl Forwarder {
    pub(super) fn new(resolv_conf: PathBuf) -> Self {
        let forwarder = Self {
            resolv_conf,
            machine: Mutex::default(),
        };
        forwarder.machine_servers(Vec::new());
        forwarder
    }

    /// The machine's own name servers: those of its file, or the last ones there before this node took their place, or else `fallback`.
    pub(super) fn machine_servers(&self, fallback: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let text = fs::read_to_string(&self.resolv_conf).unwrap_or_default();
        let now = name_servers(&text);
        let mut known = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        if !now.is_empty() {
            *known = now;
        }
        if known.is_empty() { fallback } else { known.clone() }
    }

    /// The first answer of some servers; nothing when none answers.
    pub(super) async fn ask(&self, servers: &[SocketAddr], question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let rounds = match transport {
            Transport::Udp => ROUNDS,
            Transport::Tcp => 1,
        };
        for server in servers.iter().cycle().take(servers.len() * rounds) {
            let asked = match transport {
                Transport::Udp => timeout(UDP_LIMIT, ask_by_udp(*server, question)).await,
                Transport::Tcp => timeout(TCP_LIMIT, ask_by_tcp(*server, question)).await,
            };
            match asked {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(error)) => tracing::debug!(%server, %error, "a name server cannot be asked"),
                Err(_) => tracing::debug!(%server, "a name server does not answer"),
            }
        }
        None
    }
}

/// Reads a message with its length before it, as DNS has it over TCP.
pub(super) async fn read_message<R: AsyncRead + Unpin>(stream: &mut R) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; length.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Asks under a number of its own, from a port of its own: what somebody else could guess would let him answer.
async fn ask_by_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let asked = renumbered(question, rand::random())?;
    socket.send(&asked).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if answers(&buffer[..length], &asked) {
            return renumbered(&buffer[..length], [question[0], question[1]]);
        }
    }
}

async fn ask_by_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(question).await?;
    let answer = read_message(&mut stream).await?;
    if answers(&answer, question) {
        Ok(answer)
    } else {
        Err(io::Error::other("the answer is to another question"))
    }
}

/// The message with another number.
pub(super) fn renumbered(message: &[u8], number: [u8; 2]) -> io::Result<Vec<u8>> {
    if message.len() < HEADER {
        return Err(io::Error::other("the message is cut off"));
    }
    let mut message = message.to_vec();
    message[..2].copy_from_slice(&number);
    Ok(message)
}

/// Whether a message is an answer to a question: of the same number, and with the same question in it, if with any.
pub(super) fn answers(answer: &[u8], question: &[u8]) -> bool {
    if answer.len() < HEADER || question.len() < HEADER || answer[..2] != question[..2] || answer[2] & 0x80 == 0 {
        return false;
    }
    let count = u16::from_be_bytes([answer[4], answer[5]]);
    let asked = question_of(question);
    count == 0 || asked.is_some_and(|asked| question_of(answer).is_some_and(|other| other.eq_ignore_ascii_case(asked)))
}

/// The bytes of the first question: its name, type and class. Names of questions are not compressed.
fn question_of(message: &[u8]) -> Option<&[u8]> {
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        if length > 63 {
            return None;
        }
        at += length + 1;
        if length == 0 {
            return message.get(HEADER..at + 4);
        }
    }
}

/// The name servers in a `resolv.conf`, without this node itself.
pub(super) fn name_servers(text: &str) -> Vec<SocketAddr> {
    let named = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        address.parse().ok()
    });
    let others = named.filter(|address: &IpAddr| *address != IpAddr::V4(RESOLVER_ADDRESS));
    others.map(|address| SocketAddr::new(address, super::PORT)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A question for `a.b` of type A, under a number.
    fn question(number: u8) -> Vec<u8> {
        let mut message = vec![0, number, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(b"\x01a\x01b\x00\x00\x01\x00\x01");
        message
    }

    #[test]
    fn servers_of_the_machine_are_those_before_the_node_was_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        let server = |text: &str| vec![SocketAddr::new(text.parse().unwrap(), 53)];
        fs::write(&file, "# comment\nsearch x\nnameserver 192.0.2.1\n").unwrap();
        let forwarder = Forwarder::new(file.clone());
        fs::write(&file, "nameserver 100.100.100.100\n").unwrap();
        assert_eq!(forwarder.machine_servers(server("192.0.2.9")), server("192.0.2.1"));
        fs::write(&file, "nameserver 2001:db8::1\nnameserver bad\n").unwrap();
        assert_eq!(forwarder.machine_servers(Vec::new()), server("2001:db8::1"));
        let without = Forwarder::new(folder.path().join("none"));
        assert_eq!(without.machine_servers(server("192.0.2.9")), server("192.0.2.9"));
    }

    #[test]
    fn answer_to_another_question_is_none() {
        let asked = question(7);
        let mut answer = asked.clone();
        assert!(!answers(&answer, &asked), "a question is no answer");
        answer[2] |= 0x80;
        assert!(answers(&answer, &asked));
        let mut other = answer.clone();
        other[13] = b'x';
        assert!(!answers(&other, &asked));
        answer[1] = 8;
        assert!(!answers(&answer, &asked));
        assert!(!answers(&answer[..5], &asked));
    }

    #[tokio::test]
    async fn question_is_passed_to_the_next_server_when_one_refuses() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let closed = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let address = server.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, from) = server.recv_from(&mut buffer).await.unwrap();
            let mut answer = buffer[..length].to_vec();
            answer[2] |= 0x80;
            server.send_to(&answer, from).await.unwrap();
            answer[..2].to_vec()
        });
        let forwarder = Forwarder::new(PathBuf::from("/nonexistent"));
        let asked = question(7);
        let answer = forwarder.ask(&[closed, address], &asked, Transport::Udp).await.unwrap();
        assert_eq!(answer[..2], asked[..2], "the number of who asked");
        assert_ne!(
            serving.await.unwrap()[..],
            asked[..2],
            "and another one outside, but for one in 65,536 runs"
        );
    }

    #[tokio::test]
    async fn question_is_passed_on_by_tcp_when_it_came_so() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut answer = read_message(&mut stream).await.unwrap();
            answer[2] |= 0x80;
            answer.extend([0; 2000]);
            stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        });
        let forwarder = Forwarder::new(PathBuf::from("/nonexistent"));
        let answer = forwarder.ask(&[address], &question(7), Transport::Tcp).await.unwrap();
        assert!(answer.len() > 2000);
    }
}
