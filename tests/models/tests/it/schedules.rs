//! Random interleavings of everything that can happen, faults included.

use std::time::Instant;

use models::{Sum, schedules};

/// Schedules of one run; more by `MODEL_SCHEDULES`, others by `MODEL_SEED`.
const SCHEDULES: u64 = 60_000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a whole number"))
}

/// A third of them for each sink; `half` shares them out over two threads of the test runner.
fn run(half: u64) -> Sum {
    let (count, seed) = (
        number("MODEL_SCHEDULES", SCHEDULES),
        number("MODEL_SEED", 0),
    );
    let from = seed + half * count;
    let begun = Instant::now();
    let sum = schedules(from..from + count, None).unwrap_or_else(|failure| panic!("{failure}"));
    eprintln!("{sum:?} in {:?}", begun.elapsed());
    assert_eq!(u64::try_from(sum.schedules), Ok(count));
    sum
}

fn is_not_trivial(sum: Sum) {
    assert!(sum.steps > sum.schedules * 20, "{sum:?}: too few steps");
    assert!(
        sum.stopped < sum.schedules / 3,
        "{sum:?}: too many schedules end with a stopped lane"
    );
    assert!(
        sum.adopted > sum.schedules / 60,
        "{sum:?}: too few adoptions"
    );
}

#[test]
fn no_schedule_loses_or_doubles_a_change_or_stops_without_a_cause() {
    is_not_trivial(run(0));
}

#[test]
fn no_schedule_of_the_other_half_does_either() {
    is_not_trivial(run(1));
}
