//! Traffic that goes on while something else happens.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use isthmus_testkit::wait;
use nix::sched::{CloneFlags, setns};

/// The pause between two requests.
const PAUSE: Duration = Duration::from_millis(100);

/// How long one request may take: a lost packet is sent again within that, and nothing that is broken mends itself.
const LIMIT: Duration = Duration::from_secs(5);

/// Requests to a web server, one after the other, each by a connection of its own, until they are asked to end.
pub(crate) struct Requests {
    what: &'static str,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    answers: usize,
    slowest: Duration,
    failures: Vec<String>,
}

impl Requests {
    /// Begins to ask `server` for `page` from a network namespace, given by its file. `what` names it in what is printed.
    pub(crate) fn start(what: &'static str, namespace: &str, server: SocketAddr, page: &'static str) -> Self {
        let namespace = File::open(namespace).unwrap();
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let (notes, ends) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            let began = Instant::now();
            while !ends.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let answer = ask(server);
                notes.lock().unwrap().note(began, asked, answer, page);
                thread::sleep(PAUSE);
            }
        });
        Self {
            what,
            seen,
            stop,
            thread: Some(thread),
        }
    }

    /// Waits until so many more requests were answered, as none that fails is.
    pub(crate) fn wait_for(&self, answers: usize) {
        let wanted = self.seen.lock().unwrap().answers + answers;
        wait::until(&format!("{answers} answers more {}", self.what), || {
            let seen = self.seen.lock().unwrap();
            assert!(seen.failures.is_empty(), "{}: {seen:?}", self.what);
            (seen.answers >= wanted).then_some(())
        });
    }

    /// Ends them. All must have been answered.
    pub(crate) fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("only this function takes it");
        thread.join().unwrap();
        let seen = self.seen.lock().unwrap();
        assert!(seen.failures.is_empty(), "{}: {seen:?}", self.what);
        eprintln!(
            "{}: {} answers, the slowest took {:?}",
            self.what, seen.answers, seen.slowest
        );
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Seen {
    fn note(&mut self, began: Instant, asked: Instant, answer: std::io::Result<String>, page: &str) {
        self.slowest = self.slowest.max(asked.elapsed());
        match answer {
            Ok(answer) if answer == page => self.answers += 1,
            other => self.failures.push(format!("after {:?}: {other:?}", asked - began)),
        }
    }
}

/// The page of a web server.
fn ask(server: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&server, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, page) = answer.split_once("\r\n\r\n").unwrap_or(("", &answer));
    Ok(page.to_owned())
}
