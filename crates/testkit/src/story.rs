//! Random stories of users and of what goes wrong, and the plain model of what should come of them.
//!
//! The same stories are told to the operator's plan in memory, thousands of them, and to a real cluster, a few.

mod chance;
mod plain;
mod steps;
mod wish;

pub use plain::{Expected, Plain, Presence, Reason, Slot};
pub use steps::{Beat, ClassState, Hand, Part, Refusal, Step, Story, Trouble, on_a_cluster, story};
pub use wish::{Address, Alias, Asked, Balancer, Carry, Expose, Place, Shape, TagWish, Target, Wish};

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// How many Services a story has at most; each has a number below this.
pub const SLOTS: u8 = 2;

/// The name of the Service with this number.
pub fn service_name(slot: u8) -> String {
    format!("web-{slot}")
}

/// The story of this number; the same every time.
pub fn tell(strategy: &impl Strategy<Value = Story>, seed: u64) -> Story {
    tree(strategy, seed).current()
}

/// The story of this number, or a shorter one of which `fails` says something as well, with what it says. Nothing when
/// it does not fail.
pub fn shortest_failure<F>(strategy: &impl Strategy<Value = Story>, seed: u64, fails: F) -> Option<(Story, String)>
where
    F: Fn(&Story) -> Option<String>,
{
    let mut tree = tree(strategy, seed);
    let story = tree.current();
    let mut found = fails(&story).map(|why| (story, why))?;
    let mut shrinks = tree.simplify();
    while shrinks {
        let story = tree.current();
        shrinks = match fails(&story) {
            Some(why) => {
                found = (story, why);
                tree.simplify()
            }
            None => tree.complicate(),
        };
    }
    Some(found)
}

fn tree<S: Strategy<Value = Story>>(strategy: &S, seed: u64) -> S::Tree {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    strategy
        .new_tree(&mut runner)
        .expect("strategies without filters always give a value")
}
