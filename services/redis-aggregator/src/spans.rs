//! Which windows there are: the leaderboards say it, the script keeps them.
//!
//! Invariant: leaderboards over the same window share its sums.

use crate::board::{Leaderboard, Score};
use crate::config::Config;
use crate::window::micros;

/// One span of buckets and what is ranked over it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Span {
    /// Whole buckets.
    pub buckets: i64,
    /// What is ranked, without repeats.
    pub scores: Vec<Score>,
}

impl Config {
    /// The leaderboards that are published.
    pub fn published(&self) -> impl Iterator<Item = &Leaderboard> {
        self.leaderboards.0.iter().filter(|board| board.enabled)
    }

    /// The window of a leaderboard in buckets.
    #[must_use]
    pub fn span_of(&self, board: &Leaderboard) -> i64 {
        micros(board.window) / self.window.bucket_us()
    }

    /// The different windows of all published leaderboards, each with what is ranked over it.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for board in self.published() {
            let buckets = self.span_of(board);
            match spans.iter_mut().find(|span| span.buckets == buckets) {
                Some(span) if span.scores.contains(&board.score) => {}
                Some(span) => span.scores.push(board.score),
                None => spans.push(Span {
                    buckets,
                    scores: vec![board.score],
                }),
            }
        }
        spans.sort_by_key(|span| span.buckets);
        spans.iter_mut().for_each(|span| span.scores.sort());
        spans
    }
}
