//! The operator's plan against a plain model of what it should lead to: thousands of random stories of users' edits and
//! of faults, told to a world in memory. What the proxies make of their documents is their own pure code.
//!
//! `ISTHMUS_STORY_SEED` is the number of the first story, `ISTHMUS_STORIES` how many there are; longer runs begin at another number each time.
#![allow(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_in_result,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test reports by panicking and printing, also in its helpers, and looks at one kind of object of many"
)]

mod check;
mod operator;
mod proxies;
mod tailnet;
mod told;
mod world;

use std::sync::Mutex;
use std::thread;

use isthmus_testkit::chance::first_story;
use isthmus_testkit::soak;
use isthmus_testkit::story::{Place, shortest_failure, story};

/// How many stories are told.
const STORIES: u64 = 10_000;

/// Stories that fail, after which no more are told.
const ENOUGH: usize = 3;

/// Where the names that can be exposed lead.
const NAMED: [&str; 2] = ["192.0.2.7", "192.0.2.8"];

/// The names and addresses of the world in memory.
fn place() -> Place {
    Place {
        namespace: "shop".to_owned(),
        devices: ["100.64.0.5".to_owned(), "100.64.0.6".to_owned()],
        device_names: ["steady.tail.internal".to_owned(), "fickle.tail.internal".to_owned()],
        names: ["db.example.com".to_owned(), "archive.example.com".to_owned()],
    }
}

#[test]
fn every_story_ends_as_the_plain_model_says() {
    let given = std::env::var("ISTHMUS_STORIES").ok().and_then(|text| text.parse().ok());
    let count = given.unwrap_or(if soak::is_asked() { 10 * STORIES } else { STORIES });
    let first = first_story(0);
    println!("{count} stories from ISTHMUS_STORY_SEED={first}");
    let workers = thread::available_parallelism().map_or(1, |number| number.get() as u64);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for worker in 0..workers {
            let failures = &failures;
            scope.spawn(move || {
                for seed in (first..first + count).filter(|seed| seed % workers == worker) {
                    if failures.lock().unwrap().len() >= ENOUGH {
                        return;
                    }
                    if let Some((story, why)) = shortest_failure(&story(), seed, |story| told::told(story).err()) {
                        let text = format!("ISTHMUS_STORY_SEED={seed} ISTHMUS_STORIES=1: {why}\nthe story:\n{story}");
                        failures.lock().unwrap().push(text);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
