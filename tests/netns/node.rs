//! Two nodes without a control server, shown by traffic through them.

mod limits;
mod traffic;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use isthmus_testkit::netns::Namespace;
use isthmus_testkit::require;

/// Whether this machine can run the tests here.
pub(crate) fn can_run(programs: &[&str]) -> bool {
    require::tun_device() && programs.iter().all(|program| require::program(program))
}

/// 1 MiB that no other content can be mistaken for.
pub(crate) fn content() -> Vec<u8> {
    (0..1_u32 << 18)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

/// Sends `content` over TCP from one machine to an address of the other and returns what arrived, and from whom.
pub(crate) fn transfer(from: &Namespace, to: &Namespace, address: SocketAddr, content: &[u8]) -> (Vec<u8>, SocketAddr) {
    let listener = to.enter(|| TcpListener::bind(address)).unwrap();
    let reader = thread::spawn(move || {
        let (mut stream, peer) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        (bytes, peer)
    });
    from.enter(|| TcpStream::connect(address))
        .unwrap()
        .write_all(content)
        .unwrap();
    reader.join().unwrap()
}
