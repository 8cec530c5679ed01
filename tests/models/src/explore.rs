//! Drives worlds: at random from a seed, and through every state there is.
//!
//! Invariant: a failure names its seed and the shortest trace that was found for it.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::actions::{Action, Fault};
use crate::clickhouse::ClickHouse;
use crate::redis::Redis;
use crate::rules::Rule;
use crate::sink::{Kind, Sink};
use crate::truth::{Fate, Truth};
use crate::webhook::Webhook;
use crate::world::{Violation, World};

/// Steps after which a run without faults is called endless.
const PATIENCE: usize = 2000;

/// A violation, and how to come to it.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What is wrong.
    pub violation: Violation,
    /// The steps to it; after them, what is possible happens in order, without faults.
    pub trace: Vec<Action>,
    /// Seed of the run that found it.
    pub seed: Option<u64>,
    /// The sink.
    pub kind: Kind,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} with {:?}", self.violation, self.kind)?;
        if let Some(seed) = self.seed {
            writeln!(f, "seed {seed}")?;
        }
        for (number, action) in (1..).zip(&self.trace) {
            writeln!(f, "{number:4} {action:?}")?;
        }
        Ok(())
    }
}

/// What a run of schedules did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Schedules.
    pub schedules: usize,
    /// Steps of all of them.
    pub steps: usize,
    /// Schedules that ended with a lane stopped for a cause.
    pub stopped: usize,
    /// Schedules in which a topic that was made again was adopted.
    pub adopted: usize,
}

/// The size of an exhausted world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Different states.
    pub states: usize,
    /// Steps between them.
    pub steps: usize,
    /// States in which nothing more can happen.
    pub ends: usize,
    /// Steps to the farthest state.
    pub depth: usize,
}

/// A small world, for the exhaustive search.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The sink.
    pub kind: Kind,
    /// Rows of each transaction.
    pub transactions: &'static [usize],
    /// Index of a change that the enricher cannot read.
    pub unreadable: Option<usize>,
    /// Index of a change that the store refuses.
    pub refused: Option<usize>,
    /// Faults at most.
    pub faults: usize,
    /// Which.
    pub allowed: &'static [Fault],
    /// The rule that is broken.
    pub broken: Option<Rule>,
}

/// One random schedule.
///
/// # Errors
/// It violates an invariant; the trace is minimal: without any of its steps nothing goes wrong.
pub fn random(seed: u64, broken: Option<Rule>) -> Result<Sum, Failure> {
    match seed % 3 {
        0 => schedule::<ClickHouse>(seed, Kind::ClickHouse, broken),
        1 => schedule::<Redis>(seed, Kind::Redis, broken),
        _ => schedule::<Webhook>(seed, Kind::Webhook, broken),
    }
}

/// Many of them.
///
/// # Errors
/// The first failure.
pub fn schedules(seeds: std::ops::Range<u64>, broken: Option<Rule>) -> Result<Sum, Failure> {
    let mut sum = Sum::default();
    for seed in seeds {
        let one = random(seed, broken)?;
        sum.schedules += one.schedules;
        sum.steps += one.steps;
        sum.stopped += one.stopped;
        sum.adopted += one.adopted;
    }
    Ok(sum)
}

fn schedule<S: Sink>(seed: u64, kind: Kind, broken: Option<Rule>) -> Result<Sum, Failure> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let truth = Arc::new(Truth::random(&mut random));
    let faults = random.random_range(0..7);
    let start = World::<S>::new(truth, faults, Fault::ALL, broken);
    let mut world = start.clone();
    let mut trace = Vec::new();
    let found = loop {
        let Some(action) = choose(&world.choices(), &mut random) else {
            break world.judge_end().err();
        };
        trace.push(action);
        if let Err(violation) = world.happen(action) {
            break Some(violation);
        }
        if trace.len() > PATIENCE {
            break Some(Violation::Endless);
        }
    };
    if let Some(violation) = found {
        let (trace, violation) = shorten(&start, trace, violation);
        let seed = Some(seed);
        return Err(Failure {
            violation,
            trace,
            seed,
            kind,
        });
    }
    Ok(Sum {
        schedules: 1,
        steps: trace.len(),
        stopped: usize::from(world.has_stopped()),
        adopted: usize::from(world.adopted),
    })
}

/// One of the choices; a fault once in eight steps.
fn choose(choices: &[Action], random: &mut impl Rng) -> Option<Action> {
    let is_fault = |action: &&Action| action.fault().is_some();
    let faults = choices.iter().filter(is_fault).count();
    let progress = choices.len() - faults;
    if choices.is_empty() || (progress == 0 && random.random_range(0..4) == 0) {
        return None;
    }
    let wants_fault = progress == 0 || (faults > 0 && random.random_range(0..8) == 0);
    let count = if wants_fault { faults } else { progress };
    let index = random.random_range(0..count);
    let mut kind = choices
        .iter()
        .filter(|action| action.fault().is_some() == wants_fault);
    kind.nth(index).copied()
}

/// Plays a trace, leaving out what cannot happen, then lets the world come to rest.
fn play<S: Sink>(start: &World<S>, trace: &[Action]) -> Option<Violation> {
    let mut world = start.clone();
    for action in trace {
        if world.choices().contains(action)
            && let Err(violation) = world.happen(*action)
        {
            return Some(violation);
        }
    }
    for _ in 0..PATIENCE {
        let choices = world.choices();
        let Some(action) = choices.iter().find(|action| action.fault().is_none()) else {
            return world.judge_end().err();
        };
        if let Err(violation) = world.happen(*action) {
            return Some(violation);
        }
    }
    Some(Violation::Endless)
}

/// Leaves out steps for as long as something goes wrong without them.
fn shorten<S: Sink>(
    start: &World<S>,
    mut trace: Vec<Action>,
    mut violation: Violation,
) -> (Vec<Action>, Violation) {
    let mut size = trace.len().div_ceil(2);
    while size > 0 {
        let (mut at, mut shortened) = (0, false);
        while at < trace.len() {
            let mut fewer = trace.clone();
            fewer.drain(at..(at + size).min(trace.len()));
            match play(start, &fewer) {
                Some(found) => (trace, violation, shortened) = (fewer, found, true),
                None => at += size,
            }
        }
        if !shortened || size > 1 {
            size /= 2;
        }
    }
    (trace, violation)
}

/// Breaks a rule and looks for what it prevents, at random.
#[must_use]
pub fn search(broken: Rule, kind: Kind, seeds: u64) -> Option<Failure> {
    let first = match kind {
        Kind::ClickHouse => 0,
        Kind::Redis => 1,
        Kind::Webhook => 2,
    };
    let found = (0..seeds).filter_map(|n| random(3 * n + first, Some(broken)).err());
    found.take(3).min_by_key(|failure| failure.trace.len())
}

/// Visits every state of a small world, nearest first.
///
/// # Errors
/// A violation, with the shortest trace there is.
pub fn exhaust(scope: &Scope) -> Result<Space, Failure> {
    match scope.kind {
        Kind::ClickHouse => visit::<ClickHouse>(scope),
        Kind::Redis => visit::<Redis>(scope),
        Kind::Webhook => visit::<Webhook>(scope),
    }
}

fn visit<S: Sink>(scope: &Scope) -> Result<Space, Failure> {
    let fates: Vec<(usize, Fate)> = [
        scope.unreadable.map(|at| (at, Fate::Unreadable)),
        scope.refused.map(|at| (at, Fate::Refused)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let truth = Arc::new(Truth::new(scope.transactions, &fates));
    let start = World::<S>::new(truth, scope.faults, scope.allowed, scope.broken);
    let mut search = Search {
        seen: HashSet::from([start.print()]),
        came: vec![None],
        queue: VecDeque::from([(0, 0, start)]),
        steps: 0,
        ends: 0,
        depth: 0,
    };
    while let Some((index, depth, world)) = search.queue.pop_front() {
        search
            .expand(index, depth, &world)
            .map_err(|(violation, trace)| Failure {
                violation,
                trace,
                seed: None,
                kind: scope.kind,
            })?;
    }
    Ok(Space {
        states: search.seen.len(),
        steps: search.steps,
        ends: search.ends,
        depth: search.depth,
    })
}

struct Search<S> {
    seen: HashSet<u128>,
    /// From which state, by what.
    came: Vec<Option<(usize, Action)>>,
    queue: VecDeque<(usize, usize, World<S>)>,
    steps: usize,
    ends: usize,
    depth: usize,
}

impl<S: Sink> Search<S> {
    fn expand(
        &mut self,
        index: usize,
        depth: usize,
        world: &World<S>,
    ) -> Result<(), (Violation, Vec<Action>)> {
        self.depth = self.depth.max(depth);
        let choices = world.choices();
        if choices.iter().all(|action| action.fault().is_some()) {
            self.ends += 1;
            world
                .judge_end()
                .map_err(|violation| (violation, self.trace(index)))?;
        }
        for action in choices {
            let mut next = world.clone();
            self.steps += 1;
            if let Err(violation) = next.happen(action) {
                let mut trace = self.trace(index);
                trace.push(action);
                return Err((violation, trace));
            }
            if self.seen.insert(next.print()) {
                self.came.push(Some((index, action)));
                self.queue.push_back((self.came.len() - 1, depth + 1, next));
            }
        }
        Ok(())
    }

    fn trace(&self, mut index: usize) -> Vec<Action> {
        let mut trace = Vec::new();
        while let Some((before, action)) = self.came[index] {
            trace.push(action);
            index = before;
        }
        trace.reverse();
        trace
    }
}
