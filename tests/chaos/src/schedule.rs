//! From a seed to a sequence of faults. Pure.
//!
//! Invariant: the same seed and the same classes give the same sequence, and every class has its turn before any comes
//! twice.

use std::time::Duration;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::faults::Class;

/// The shortest time from one fault to the next in a run that does not say otherwise; the longest is half as much again.
pub const CLOSEST: Duration = Duration::from_secs(2);

/// One fault to come.
#[derive(Clone, Debug)]
pub struct Step {
    /// From 1.
    pub number: u64,
    /// What.
    pub class: &'static Class,
    /// How long after the one before, where faults are [`CLOSEST`] together.
    pub after: Duration,
    /// Where the fault takes its own chance from.
    pub rng: ChaCha8Rng,
}

/// The endless sequence.
#[derive(Clone, Debug)]
pub struct Schedule {
    seed: u64,
    rng: ChaCha8Rng,
    classes: Vec<&'static Class>,
    first: Vec<&'static Class>,
    number: u64,
}

impl Schedule {
    /// Over these classes, of which there must be one at least.
    #[must_use]
    pub fn new(seed: u64, classes: Vec<&'static Class>) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut first = classes.clone();
        first.shuffle(&mut rng);
        Self {
            seed,
            rng,
            classes,
            first,
            number: 0,
        }
    }

    /// How many classes are still to have their first turn.
    #[must_use]
    pub fn untried(&self) -> usize {
        self.first.len()
    }

    fn draw(&mut self) -> Option<&'static Class> {
        if let Some(class) = self.first.pop() {
            return Some(class);
        }
        let total: u32 = self.classes.iter().map(|class| class.weight).sum();
        let mut point = (total > 0).then(|| self.rng.random_range(0..total))?;
        self.classes.iter().copied().find(|class| {
            let chosen = point < class.weight;
            point = point.saturating_sub(class.weight);
            chosen
        })
    }
}

impl Iterator for Schedule {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let class = self.draw()?;
        self.number += 1;
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(self.number);
        Some(Step {
            number: self.number,
            class,
            after: Duration::from_millis(self.rng.random_range(2000..3000)),
            rng,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::faults;

    fn names(seed: u64, count: usize) -> Vec<&'static str> {
        Schedule::new(seed, faults::all().collect())
            .take(count)
            .map(|step| step.class.name)
            .collect()
    }

    #[test]
    fn a_seed_gives_one_sequence_and_another_seed_another() {
        assert_eq!(names(7, 200), names(7, 200));
        assert_ne!(names(7, 200), names(8, 200));
    }

    #[test]
    fn every_class_has_its_turn_before_any_comes_twice() {
        let all = faults::all().count();
        let first: BTreeSet<&str> = names(3, all).into_iter().collect();
        assert_eq!(first.len(), all);
    }

    #[test]
    fn each_step_has_chance_of_its_own_that_follows_from_the_seed() {
        let draws = |seed| -> Vec<u64> {
            Schedule::new(seed, faults::all().collect())
                .take(20)
                .map(|mut step| step.rng.random())
                .collect()
        };
        assert_eq!(draws(1), draws(1));
        let distinct: BTreeSet<u64> = draws(1).into_iter().collect();
        assert_eq!(distinct.len(), 20);
    }

    #[test]
    fn a_class_without_weight_comes_once_and_pauses_are_two_to_three_seconds() {
        let mut counts = std::collections::BTreeMap::<&str, usize>::new();
        for step in Schedule::new(5, faults::all().collect()).take(2000) {
            *counts.entry(step.class.name).or_default() += 1;
            assert!((2000..3000).contains(&step.after.as_millis()));
        }
        for class in faults::all().filter(|class| class.weight == 0) {
            assert_eq!(counts[class.name], 1, "{}", class.name);
        }
    }
}
