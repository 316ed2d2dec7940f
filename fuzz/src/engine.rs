//! Runs targets: one input after the other, each made of one that was worth keeping.

mod judge;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use isthmus_sys::coverage;
use isthmus_testkit::chance::Random;

use crate::corpus;
use crate::mutate::{mutate, words};
use crate::targets::Target;

pub use judge::{Current, Judge, quiet};

/// Attempts to make a failing input smaller.
const SHRINKS: usize = 4000;

/// How a target is to be run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Decides all chance.
    pub seed: u64,
    /// For how long.
    pub time: Duration,
    /// A folder for inputs that reached new code, read at the start and added to; none are kept without it.
    pub kept: Option<PathBuf>,
}

/// What a run did.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Inputs that were tried.
    pub tried: usize,
    /// Inputs of the corpus, with those that the run added to it.
    pub corpus: usize,
    /// Edges of the program that were reached; 0 when it does not count.
    pub edges: usize,
    /// The longest that one input took.
    pub slowest: Duration,
}

/// An input that a target does not bear.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The input, as small as it could be made.
    pub input: Vec<u8>,
    /// What the target said.
    pub why: String,
}

/// Reads every input of the target's corpus once. Gives how many there are, or the first that fails.
///
/// # Errors
/// When the corpus cannot be read.
pub fn replay(target: &Target, judge: &mut Judge) -> io::Result<Result<usize, Failure>> {
    let inputs = corpus::read(&corpus::folder(target.name))?;
    for (path, input) in &inputs {
        if let Err(why) = judge.run(target, input) {
            let why = format!("{}: {why}", path.display());
            return Ok(Err(Failure {
                input: input.clone(),
                why,
            }));
        }
    }
    Ok(Ok(inputs.len()))
}

/// Runs a target for as long as is planned, or until an input fails.
///
/// # Errors
/// When a corpus cannot be read or written.
pub fn run(target: &Target, plan: &Plan, judge: &mut Judge) -> io::Result<Result<Report, Failure>> {
    let mut inputs = corpus::read(&corpus::folder(target.name))?;
    if let Some(kept) = &plan.kept {
        inputs.extend(corpus::read(kept)?);
    }
    let mut search = Search::new(inputs.into_iter().map(|(_, input)| input).collect(), plan.seed);
    let end = Instant::now() + plan.time;
    let mut next = 0;
    while Instant::now() < end {
        // Those that are given first: they say what is known already.
        let (input, is_new) = match search.corpus.get(next) {
            Some(input) => (input.clone(), false),
            None => (search.made(), true),
        };
        next += 1;
        if let Err(why) = search.run(target, &input, judge) {
            return Ok(Err(shrink(target, input, why, judge)));
        }
        if search.has_news() && is_new {
            if let Some(kept) = &plan.kept {
                corpus::add(kept, "reached", &input)?;
            }
            search.corpus.push(input);
            // It was run: the next new one is made, not taken.
            next = search.corpus.len();
        }
    }
    Ok(Ok(search.report()))
}

struct Search {
    corpus: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
    random: Random,
    counters: &'static [AtomicU8],
    /// For each edge the orders of magnitude in which it ran.
    seen: Vec<u8>,
    tried: usize,
    slowest: Duration,
}

impl Search {
    fn new(mut corpus: Vec<Vec<u8>>, seed: u64) -> Self {
        if corpus.is_empty() {
            corpus.push(Vec::new());
        }
        let counters = coverage::counters();
        Self {
            words: words(&corpus),
            corpus,
            random: Random::new(seed),
            counters,
            seen: vec![0; counters.len()],
            tried: 0,
            slowest: Duration::ZERO,
        }
    }

    /// An input made of those that are there, of late ones more often: they led furthest.
    fn made(&mut self) -> Vec<u8> {
        let count = self.corpus.len();
        let recent = count.min(16);
        let at = if self.random.index(2) == 0 {
            count - 1 - self.random.index(recent)
        } else {
            self.random.index(count)
        };
        let other = self.random.index(count);
        mutate(&self.corpus[at], &self.corpus[other], &self.words, &mut self.random)
    }

    fn run(&mut self, target: &Target, input: &[u8], judge: &mut Judge) -> Result<(), String> {
        for counter in self.counters {
            counter.store(0, Ordering::Relaxed);
        }
        let start = Instant::now();
        let result = judge.run(target, input);
        self.slowest = self.slowest.max(start.elapsed());
        self.tried += 1;
        result
    }

    /// Whether the last input made an edge run that did not before, or another number of times.
    fn has_news(&mut self) -> bool {
        let mut news = false;
        for (counter, seen) in self.counters.iter().zip(&mut self.seen) {
            let magnitude = match counter.load(Ordering::Relaxed) {
                0 => continue,
                1 => 1,
                2 => 2,
                3 => 4,
                4..=7 => 8,
                8..=15 => 16,
                16..=31 => 32,
                32..=127 => 64,
                128.. => 128,
            };
            news |= *seen & magnitude == 0;
            *seen |= magnitude;
        }
        news
    }

    fn report(&self) -> Report {
        Report {
            tried: self.tried,
            corpus: self.corpus.len(),
            edges: self.seen.iter().filter(|seen| **seen != 0).count(),
            slowest: self.slowest,
        }
    }
}

/// Takes pieces away, large ones first, as long as the target fails.
fn shrink(target: &Target, input: Vec<u8>, why: String, judge: &mut Judge) -> Failure {
    let mut smallest = Failure { input, why };
    let mut left = SHRINKS;
    let mut piece = smallest.input.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        while at < smallest.input.len() {
            if left == 0 {
                return smallest;
            }
            left -= 1;
            let mut input = smallest.input.clone();
            input.drain(at..(at + piece).min(input.len()));
            match judge.run(target, &input) {
                Err(why) => smallest = Failure { input, why },
                Ok(()) => at += piece,
            }
        }
        piece = if piece == 1 { 0 } else { piece.div_ceil(2) };
    }
    smallest
}
