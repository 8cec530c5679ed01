//! Carries out the schedule.
//!
//! Invariant: a fault that tolerates no company begins after all others have healed, and none begins before it has.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{RunOptions, say};
use crate::Arena;
use crate::faults::Company;
use crate::schedule::{CLOSEST, Schedule, Step};

/// Faults under way at the same time.
const TOGETHER: usize = 4;
/// A fault that takes longer has failed.
const LONGEST: Duration = Duration::from_secs(240);

/// Injects faults until time is over and every class had its turn, or until it is enough. Answers those that failed.
pub(super) async fn all(options: &RunOptions, arena: &Arc<Arena>) -> Vec<String> {
    if options.classes.is_empty() {
        return Vec::new();
    }
    let deadline = Instant::now() + options.duration;
    let stretch = options.every.div_duration_f64(CLOSEST);
    let mut schedule = Schedule::new(options.seed, options.classes.clone());
    let (mut under_way, mut failures) = (JoinSet::new(), Vec::new());
    let is_over = || options.enough.is_cancelled() || Instant::now() >= deadline;
    while !is_over() || (schedule.untried() > 0 && !options.enough.is_cancelled()) {
        let Some(step) = schedule.next() else { break };
        tokio::time::sleep(step.after.mul_f64(stretch)).await;
        let room = match step.class.company {
            Company::Any => TOGETHER - 1,
            Company::None => 0,
        };
        while under_way.len() > room {
            note(under_way.join_next().await, &mut failures);
        }
        let alone = step.class.company == Company::None;
        under_way.spawn(one(Arc::clone(arena), step));
        while let Some(ended) = under_way.try_join_next() {
            note(Some(ended), &mut failures);
        }
        if alone {
            note(under_way.join_next().await, &mut failures);
        }
    }
    while let Some(ended) = under_way.join_next().await {
        note(Some(ended), &mut failures);
    }
    failures
}

async fn one(arena: Arc<Arena>, mut step: Step) -> Result<(), String> {
    let (number, class) = (step.number, step.class);
    let begun = Instant::now();
    arena.measures.begin();
    let injected = (class.inject)(&arena, &mut step.rng);
    let done = tokio::time::timeout(LONGEST, injected).await;
    arena.measures.end();
    let took = begun.elapsed().as_secs_f32();
    match done {
        Ok(Ok(what)) => {
            arena.measures.count(class.name);
            say(&format!("#{number} {}: {what} ({took:.1} s)", class.name));
            Ok(())
        }
        Ok(Err(error)) => Err(format!("#{number} {}: {error:#}", class.name)),
        Err(_) => Err(format!(
            "#{number} {}: not healed within {LONGEST:?}",
            class.name
        )),
    }
}

fn note(
    ended: Option<Result<Result<(), String>, tokio::task::JoinError>>,
    failures: &mut Vec<String>,
) {
    let failure = match ended {
        None | Some(Ok(Ok(()))) => return,
        Some(Ok(Err(failure))) => failure,
        Some(Err(panic)) => panic.to_string(),
    };
    say(&format!("FAILED {failure}"));
    failures.push(failure);
}
