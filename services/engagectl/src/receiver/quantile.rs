//! Quantiles of millisecond values in constant memory.
//!
//! Invariant: every value counts; a quantile is off by at most 1/64 of itself.

/// Linear below this, then this many steps per doubling.
const STEPS: u64 = 64;
/// Up to 2^40 ms, 34 years.
const DOUBLINGS: usize = 35;

/// A histogram with logarithmic buckets.
#[derive(Debug)]
pub(super) struct Quantiles {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Default for Quantiles {
    fn default() -> Self {
        let buckets = (DOUBLINGS + 1) * 64;
        Self {
            counts: vec![0; buckets],
            total: 0,
            max: 0,
        }
    }
}

impl Quantiles {
    pub(super) fn add(&mut self, millis: u64) {
        let bucket = bucket(millis).min(self.counts.len() - 1);
        self.counts[bucket] += 1;
        self.total += 1;
        self.max = self.max.max(millis);
    }

    pub(super) fn samples(&self) -> u64 {
        self.total
    }

    pub(super) fn max(&self) -> u64 {
        self.max
    }

    /// The value that `permille` of all values do not exceed; `None` without values.
    pub(super) fn at(&self, permille: u64) -> Option<u64> {
        let rank = self.total.saturating_mul(permille).div_ceil(1000).max(1);
        let mut seen = 0;
        let hit = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(upper_end(hit).min(self.max))
    }
}

fn bucket(value: u64) -> usize {
    let doubling = (value / STEPS).checked_ilog2().map_or(0, |log| log + 1);
    let within = value >> doubling.saturating_sub(1);
    let offset = if doubling == 0 {
        within
    } else {
        within - STEPS
    };
    let index = u64::from(doubling) * STEPS + offset;
    usize::try_from(index).unwrap_or(usize::MAX)
}

fn upper_end(bucket: usize) -> u64 {
    let (doubling, offset) = (bucket / 64, bucket as u64 % STEPS);
    match doubling {
        0 => offset,
        _ => ((STEPS + offset + 1) << (doubling - 1)) - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn quantiles_are_within_a_64th_of_the_exact_ones(mut values in prop::collection::vec(0_u64..10_000_000, 1..300), permille in 1_u64..=1000) {
            let mut quantiles = Quantiles::default();
            values.iter().for_each(|value| quantiles.add(*value));
            values.sort_unstable();
            let rank = (values.len() as u64 * permille).div_ceil(1000).max(1);
            let exact = values[usize::try_from(rank - 1).unwrap()];
            let ours = quantiles.at(permille).unwrap();
            prop_assert!(ours >= exact && ours - exact <= exact / 64, "{ours} for {exact}");
        }

        #[test]
        fn no_value_is_too_large(value: u64) {
            let mut quantiles = Quantiles::default();
            quantiles.add(value);
            prop_assert!(quantiles.at(500).unwrap() <= value);
        }
    }

    #[test]
    fn without_values_there_is_no_quantile() {
        assert_eq!(Quantiles::default().at(500), None);
    }
}
