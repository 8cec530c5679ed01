//! The words of `engagectl gen`.

use std::time::Duration;

use clap::Args;

use crate::generator::Rate;
use crate::moment::Moment;

/// Options of `gen`.
#[derive(Debug, Args)]
#[command(after_help = super::examples::GEN)]
pub struct GenArgs {
    /// Rows a second, for example `500/s` or `30000/min` (environment: GENERATION_RATE, rows a minute).
    #[arg(long, value_name = "RATE")]
    pub rate: Option<Rate>,
    /// Rows written at once at the start (environment: BURST_MODE=true with BURST_COUNT).
    #[arg(long, value_name = "ROWS")]
    pub burst: Option<u64>,
    /// When to end, for example `60s`; rows that are late by then are still written. Without it, Ctrl-C ends.
    #[arg(long, value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,
    /// The same seed and options write the same rows; the same times, too, with --start-at.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The time of the first row (`2026-01-08T09:00:00Z`, `-2h`); each further row is one period of the rate later. Without it,
    /// rows carry the time at which they are written.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub start_at: Option<Moment>,
    /// How many contents events refer to.
    #[arg(long, default_value_t = 200)]
    pub contents: usize,
    /// How strongly few contents attract most sessions: 0 = evenly, 1 = Zipf.
    #[arg(long, default_value_t = 1.0)]
    pub skew: f64,
    /// Share of sessions that are all about one content, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = ratio)]
    pub hot_key: f64,
    /// Share of NULL durations, 0 to 1; a tenth of it is the share of NULL contents.
    #[arg(long, default_value_t = 0.05, value_parser = ratio)]
    pub null_ratio: f64,
    /// Share of events whose time lies up to an hour back, 0 to 1.
    #[arg(long, default_value_t = 0.01, value_parser = ratio)]
    pub late_ratio: f64,
    /// Share of events whose time lies up to half a minute back, so that rows come out of order, 0 to 1.
    #[arg(long, default_value_t = 0.02, value_parser = ratio)]
    pub disorder_ratio: f64,
    /// Share of events that are corrected by an update, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = ratio)]
    pub update_ratio: f64,
    /// Share of events that are deleted again, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = ratio)]
    pub delete_ratio: f64,
    /// Share of events with a time of 1931 or 2400, which Postgres takes and the enricher gives up: dead letters with the
    /// reason `absurd_timestamp`. Where more than half of a partition's records are given up, the partition stops.
    #[arg(long, default_value_t = 0.0, value_parser = ratio)]
    pub poison_ratio: f64,
    /// For each event, how often a content gets another title and length, or is added, 0 to 1.
    #[arg(long, default_value_t = 0.0, value_parser = ratio)]
    pub content_churn: f64,
}

fn ratio(text: &str) -> Result<f64, String> {
    let value: f64 = text
        .parse()
        .map_err(|_| format!("{text:?} is no number between 0 and 1"))?;
    if (0.0..=1.0).contains(&value) {
        Ok(value)
    } else {
        Err(format!("{value} is not between 0 and 1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_above_one_is_refused_in_words() {
        assert!(ratio("1.5").unwrap_err().contains("between 0 and 1"));
    }
}
