//! Reads a service's `/metrics` text: events and freshness quantiles of one sink. Pure.
//!
//! Invariant: a quantile is the upper bound of the histogram bucket it falls into, never an interpolation
//! that promises more than was measured.

/// Cumulative buckets of `engage_freshness_seconds` for one sink.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Freshness {
    /// Upper bound in seconds and the number of observations at or below it, ascending.
    buckets: Vec<(f64, u64)>,
}

impl Freshness {
    /// Picks the histogram of `sink` out of a Prometheus text page; other series are passed over.
    #[must_use]
    pub fn parse(page: &str, sink: &str) -> Self {
        let label = format!("sink=\"{sink}\"");
        let mut buckets: Vec<(f64, u64)> = page
            .lines()
            .filter(|line| {
                line.starts_with("engage_freshness_seconds_bucket{") && line.contains(&label)
            })
            .filter_map(bucket)
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self { buckets }
    }

    /// All observations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.last().map_or(0, |(_, count)| *count)
    }

    /// What was observed after `earlier`, a former reading of the same histogram.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |bound: f64| {
            earlier
                .buckets
                .iter()
                .find(|(le, _)| *le == bound)
                .map_or(0, |(_, count)| *count)
        };
        Self {
            buckets: self
                .buckets
                .iter()
                .map(|(le, count)| (*le, count.saturating_sub(before(*le))))
                .collect(),
        }
    }

    /// Both together, of histograms with the same bounds.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let (longer, shorter) = if self.buckets.len() >= other.buckets.len() {
            (self, other)
        } else {
            (other, self)
        };
        let also = |bound: f64| {
            let bucket = shorter.buckets.iter().find(|(le, _)| *le == bound);
            bucket.map_or(0, |(_, count)| *count)
        };
        let buckets = longer.buckets.iter();
        Self {
            buckets: buckets
                .map(|(le, count)| (*le, count + also(*le)))
                .collect(),
        }
    }

    /// The bound in seconds at or below which the share `q` (0 to 1) of the observations lies; `None` without any.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts far below 2^52"
    )]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let wanted = ((self.count() as f64) * q).ceil().max(1.0) as u64;
        self.buckets
            .iter()
            .find(|(_, count)| *count >= wanted)
            .map(|(bound, _)| *bound)
    }
}

fn bucket(line: &str) -> Option<(f64, u64)> {
    let bound = line.split("le=\"").nth(1)?.split('"').next()?;
    let bound = if bound == "+Inf" {
        f64::INFINITY
    } else {
        bound.parse().ok()?
    };
    Some((bound, line.rsplit(' ').next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# TYPE engage_freshness_seconds histogram
engage_freshness_seconds_bucket{sink=\"redis-aggregator\",le=\"0.1\"} 90
engage_freshness_seconds_bucket{sink=\"redis-aggregator\",le=\"0.5\"} 99
engage_freshness_seconds_bucket{sink=\"redis-aggregator\",le=\"+Inf\"} 100
engage_freshness_seconds_bucket{sink=\"other\",le=\"+Inf\"} 7
";

    #[test]
    fn quantiles_are_bucket_bounds_of_the_named_sink() {
        let freshness = Freshness::parse(PAGE, "redis-aggregator");
        assert_eq!(freshness.count(), 100);
        assert_eq!(freshness.quantile(0.5), Some(0.1));
        assert_eq!(freshness.quantile(0.99), Some(0.5));
        assert_eq!(freshness.quantile(1.0), Some(f64::INFINITY));
    }

    #[test]
    fn without_observations_there_is_no_quantile() {
        assert_eq!(Freshness::parse("", "x").quantile(0.5), None);
    }

    #[test]
    fn a_later_reading_minus_an_earlier_one_shows_only_what_came_between() {
        let now = Freshness::parse(PAGE, "redis-aggregator");
        assert_eq!(now.since(&now).count(), 0);
        assert_eq!(now.since(&Freshness::default()), now);
        assert_eq!(now.plus(&Freshness::default()), now);
        assert_eq!(now.plus(&now).since(&now), now);
    }
}
