//! Leaderboards: what they rank, how a score and a member look, and how partitions are merged into one.
//!
//! Invariant: what is stored is a whole number; units, decimals and member names are made here, when it is published.

use std::time::Duration;

use serde::Deserialize;

/// What a leaderboard ranks by, over the events of its window.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// Number of events.
    Events,
    /// Sum of their durations, seconds.
    Seconds,
    /// Mean of duration over length, percent, of the events that have a duration, with today's length.
    MeanPercent,
    /// Sum of the weights of their types, times one plus the mean ratio.
    Weighted,
}

impl Score {
    /// The name in configuration, keys and scripts.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Seconds => "seconds",
            Self::MeanPercent => "mean_percent",
            Self::Weighted => "weighted",
        }
    }

    /// The stored whole number in the unit of the leaderboard, with as many decimals as it has.
    #[must_use]
    pub fn publish(self, stored: i64) -> String {
        match self {
            Self::Events => stored.to_string(),
            Self::Seconds => decimal(stored, 1_000),
            Self::MeanPercent => decimal(stored, 100),
            Self::Weighted => decimal(stored, 1_000_000),
        }
    }
}

/// A whole number of `1 / unit` as decimal text, without trailing zeros.
fn decimal(value: i64, unit: i64) -> String {
    let (whole, rest) = (
        value.unsigned_abs() / unit.unsigned_abs(),
        value.unsigned_abs() % unit.unsigned_abs(),
    );
    let sign = if value < 0 { "-" } else { "" };
    let width = unit.ilog10() as usize;
    let digits = format!("{rest:0width$}");
    match digits.trim_end_matches('0') {
        "" => format!("{sign}{whole}"),
        digits => format!("{sign}{whole}.{digits}"),
    }
}

/// One leaderboard.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leaderboard {
    /// The key readers read.
    pub key: String,
    /// What it ranks by.
    pub score: Score,
    /// How far it looks back; a multiple of the bucket.
    #[serde(with = "humantime_serde", default = "ten_minutes")]
    pub window: Duration,
    /// How many members it has at most.
    #[serde(default = "hundred")]
    pub top: usize,
    /// The member: `{id}`, `{type}` and `{title}` are replaced.
    #[serde(default = "id_alone")]
    pub member: String,
    /// After how long it disappears when nobody publishes it any more.
    #[serde(with = "humantime_serde")]
    pub ttl: Duration,
    /// Whether it is published at all.
    #[serde(default = "yes")]
    pub enabled: bool,
}

fn ten_minutes() -> Duration {
    Duration::from_secs(600)
}

const fn hundred() -> usize {
    100
}

fn id_alone() -> String {
    "{id}".into()
}

const fn yes() -> bool {
    true
}

impl Leaderboard {
    /// The leaderboards of the contract.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        let board = |key: &str, score, ttl, member: &str| Self {
            key: key.into(),
            score,
            window: ten_minutes(),
            top: hundred(),
            member: member.into(),
            ttl: Duration::from_secs(ttl),
            enabled: true,
        };
        vec![
            board("top:content:10m", Score::Events, 120, "{id}"),
            board("engagement:10min", Score::Seconds, 600, "{id}"),
            board(
                "top_engagement:10min",
                Score::MeanPercent,
                600,
                "{id}:{type}:{title}",
            ),
            board("top_content_last_10min", Score::Weighted, 900, "{id}"),
        ]
    }

    /// Whether members show more than the content's id.
    #[must_use]
    pub fn needs_description(&self) -> bool {
        self.member.contains("{type}") || self.member.contains("{title}")
    }

    /// The member for a content.
    #[must_use]
    pub fn member(&self, id: &str, description: &Description) -> String {
        self.member
            .replace("{type}", &description.content_type)
            .replace("{id}", id)
            .replace("{title}", &description.title)
    }
}

/// What is known of a content beside its id; empty where nothing is.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Description {
    /// Its type.
    pub content_type: String,
    /// Its title.
    pub title: String,
}

/// The highest of all partitions; equal scores in the order of the id, so that two publishers agree.
#[must_use]
pub fn merge(
    partitions: impl IntoIterator<Item = Vec<(String, i64)>>,
    top: usize,
) -> Vec<(String, i64)> {
    let mut all: Vec<(String, i64)> = partitions.into_iter().flatten().collect();
    all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    all.truncate(top);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_published_in_their_unit_without_rounding() {
        assert_eq!(Score::Events.publish(7), "7");
        assert_eq!(Score::Seconds.publish(7_050), "7.05");
        assert_eq!(Score::MeanPercent.publish(5_000), "50");
        assert_eq!(Score::MeanPercent.publish(233), "2.33");
        assert_eq!(Score::Weighted.publish(1_023_333), "1.023333");
        assert_eq!(Score::Seconds.publish(-1_500), "-1.5");
    }

    #[test]
    fn the_highest_of_all_partitions_are_kept() {
        let of = |pairs: &[(&str, i64)]| {
            pairs
                .iter()
                .map(|(id, n)| ((*id).to_owned(), *n))
                .collect::<Vec<_>>()
        };
        let merged = merge([of(&[("a", 5), ("b", 1)]), of(&[("d", 5), ("c", 9)])], 3);
        assert_eq!(merged, of(&[("c", 9), ("a", 5), ("d", 5)]));
    }

    #[test]
    fn a_member_shows_what_its_format_names() {
        let board = &Leaderboard::defaults()[2];
        let known = Description {
            content_type: "video".into(),
            title: "A {id} of: titles".into(),
        };
        assert_eq!(board.member("7", &known), "7:video:A {id} of: titles");
        assert!(board.needs_description());
    }
}
