//! Random stories of machines behind NATs, told to the code that finds paths, in virtual time.
//!
//! Each node is the path search and the check of the network as the engine of a node drives them; the network between them
//! loses, delays, doubles and reorders, and its NATs map, filter and forget. What has to hold is said by a plain model of
//! which pairs of NATs can be crossed.
#![allow(
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test reports by panicking and printing, also in its helpers"
)]

mod network;
mod node;
mod story;
mod world;

use isthmus_testkit::chance::{first_story, given_story};
use isthmus_testkit::soak;

use story::Story;

/// Stories of an ordinary run, and of a long one.
const STORIES: (u64, u64) = (100, 20_000);

/// The first story of an ordinary run.
const FIRST: u64 = 998_150_282;

#[test]
fn every_pair_finds_the_best_path_that_its_network_allows() {
    let first = first_story(FIRST);
    let count = match (given_story(), soak::is_asked()) {
        (Some(_), _) => 1,
        (None, false) => STORIES.0,
        (None, true) => STORIES.1,
    };
    let mut told = world::Told::default();
    for seed in first..first + count {
        let story = Story::new(seed);
        match story.tell() {
            Ok(part) => told.add(part),
            Err(why) => {
                let (story, why) = story.shortest_that_fails(why);
                panic!("{why}\nISTHMUS_STORY_SEED={seed} tells it again; the shortest form that fails:\n{story:#?}");
            }
        }
    }
    println!("{count} stories from seed {first}: {told:?}");
    assert!(
        given_story().is_some() || (told.direct > 0 && told.relayed > 0 && told.deaths > 0),
        "stories of every kind"
    );
}
