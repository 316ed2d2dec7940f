//! What happens in a story.

use isthmus_testkit::chance::Random;

use crate::network::{Filter, Nat};
use crate::world::{Told, World};

/// A story: who is where, and what happens then, one after the other.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    seed: u64,
    /// The NAT in front of each site. Each node begins at the site of its own number.
    pub(crate) sites: Vec<Nat>,
    pub(crate) nodes: usize,
    /// Of a thousand datagrams so many are lost; half as many come twice.
    pub(crate) loss: u64,
    /// Milliseconds from one site to another, at least and at most.
    pub(crate) delay: (u64, u64),
    pub(crate) relay: bool,
    steps: Vec<Step>,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// Some seconds pass.
    Wait(u64),
    /// Nothing happens until all is settled; then each pair has the path that it should have.
    Settle,
    /// Two nodes begin to talk to each other, or stop.
    Talk(usize, usize, bool),
    /// A node goes to a site.
    Roam(usize, usize),
    /// A node is restarted.
    Restart(usize),
    /// The NAT of a site forgets its mappings.
    Forget(usize),
    /// No datagram passes between two sites any more; then again.
    Cut(usize, usize, bool),
    /// A node loses its connection to the relay for so many seconds.
    NoRelay(usize, u64),
}

impl Story {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let sites = (0..4).map(|_| nat(&mut random)).collect();
        let nodes = 2 + random.index(2);
        let near = 1 + random.below(60);
        Self {
            seed,
            sites,
            nodes,
            loss: [0, 0, 5, 20, 50][random.index(5)],
            delay: (near, near + random.below(40)),
            relay: random.index(5) > 0,
            steps: steps(nodes, &mut random),
        }
    }

    /// Tells it.
    ///
    /// # Errors
    /// What should have been otherwise.
    pub(crate) fn tell(&self) -> Result<Told, String> {
        let mut world = World::new(self, Random::new(self.seed ^ 0x5eed));
        for step in &self.steps {
            world
                .take(*step)
                .map_err(|why| format!("after {:?} s, at {step:?}: {why}", world.seconds()))?;
        }
        world.end()
    }

    /// The story without what is not needed for it to fail.
    pub(crate) fn shortest_that_fails(&self, why: String) -> (Self, String) {
        let mut shortest = (self.clone(), why);
        let mut at = 0;
        while at < shortest.0.steps.len() {
            let mut shorter = shortest.0.clone();
            shorter.steps.remove(at);
            match shorter.tell() {
                Err(why) => shortest = (shorter, why),
                Ok(_) => at += 1,
            }
        }
        shortest
    }
}

fn nat(random: &mut Random) -> Nat {
    let filter = [Filter::Nobody, Filter::Address, Filter::Port][random.index(3)];
    let lifetime = 30_000 + random.below(90_000);
    match random.index(8) {
        0 | 1 => Nat::None,
        2..=4 => Nat::Easy { filter, lifetime },
        5 | 6 => Nat::Hard { lifetime },
        _ => Nat::NoUdp,
    }
}

fn steps(nodes: usize, random: &mut Random) -> Vec<Step> {
    let mut steps = vec![Step::Talk(0, 1, true)];
    for _ in 0..4 + random.index(8) {
        let (a, b) = (random.index(nodes), random.index(4));
        let other = (a + 1) % nodes;
        let step = match random.index(12) {
            0 | 1 => Step::Wait(1 + random.below(120)),
            2 | 3 => Step::Settle,
            4 => Step::Talk(a, other, random.index(3) > 0),
            5 | 6 => Step::Roam(a, b),
            7 => Step::Restart(a),
            8 => Step::Forget(b),
            9 | 10 => {
                // So that there is something to cut, and something to find again.
                steps.extend([Step::Settle, Step::Cut(0, 1, true), Step::Settle]);
                Step::Cut(0, 1, false)
            }
            _ => Step::NoRelay(a, 1 + random.below(30)),
        };
        steps.push(step);
    }
    steps.push(Step::Settle);
    steps
}
