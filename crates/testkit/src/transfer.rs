//! Content that travels from one machine to another.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use crate::netns::Namespace;
use crate::wait;

/// 1 MiB that no other content can be mistaken for.
pub fn content() -> Vec<u8> {
    (0..1_u32 << 18)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

/// Sends `content` over TCP from one machine to an address of the other and returns what arrived, and from whom.
///
/// # Panics
/// When the address is not the other machine's, or cannot be reached.
pub fn transfer(from: &Namespace, to: &Namespace, address: SocketAddr, content: &[u8]) -> (Vec<u8>, SocketAddr) {
    transfer_by_way_of(from, address, to, address, content)
}

/// The same to an address that leads to another one, where the other machine listens.
///
/// # Panics
/// When nobody can listen there, or the first address does not lead to it in time.
pub fn transfer_by_way_of(
    from: &Namespace,
    by: SocketAddr,
    to: &Namespace,
    at: SocketAddr,
    content: &[u8],
) -> (Vec<u8>, SocketAddr) {
    let listener = to.enter(|| TcpListener::bind(at)).expect("the address is free");
    let reader = thread::spawn(move || {
        loop {
            let (mut stream, peer) = listener.accept().expect("a listener accepts");
            let mut bytes = Vec::new();
            // Whoever stands between may have connected in vain before.
            if stream.read_to_end(&mut bytes).is_ok() && !bytes.is_empty() {
                return (bytes, peer);
            }
        }
    });
    let mut stream = wait::until("the connection", || from.enter(|| TcpStream::connect(by)).ok());
    stream.write_all(content).expect("the connection carries");
    drop(stream);
    reader.join().expect("the reader reads to the end")
}
