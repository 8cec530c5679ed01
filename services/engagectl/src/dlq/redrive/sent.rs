//! What became of a run, in words and for programs. Pure.
//!
//! Invariant: what was planned is sent, found sent, failed, or left; nothing is counted twice.

use std::collections::BTreeMap;

use engagement::event::Micros;
use serde_json::{Value, json};
use stream::dead_letter::Place;

use super::settle::{SentCopy, Settled};

/// What became of a run.
#[derive(Debug, Default)]
pub(in crate::dlq) struct Sent {
    pub(super) sent: u64,
    /// Sent by a run before that could not mark it any more.
    pub(super) found: u64,
    pub(super) failed: Vec<(Place, String)>,
    /// The copies of this run.
    pub(super) copies: Vec<SentCopy>,
    /// When the first of the copies may have been sent, where that was before this run.
    pub(super) earliest: Option<Micros>,
    /// Of the partitions that letters of the enricher were sent to: where its output ended before.
    pub(super) output_from: BTreeMap<i32, i64>,
    pub(super) settled: Settled,
}

impl Sent {
    pub(super) fn text(&self, planned: u64) -> String {
        let Self {
            sent,
            found,
            failed,
            ..
        } = self;
        let mut text = format!("{sent} letters sent");
        if *found > 0 {
            text += &format!(", {found} had been sent by the run before");
        }
        for (place, reason) in failed {
            text += &format!("\n{place} was not sent: {reason}");
        }
        let left = planned.saturating_sub(sent + found + failed.len() as u64);
        text += &match left {
            0 => String::new(),
            left => format!("\nstopped, {left} left: run the same command again"),
        };
        if self.settled != Settled::default() {
            text += &format!("\n{}", self.settled.text());
        }
        text + "\nthen compare: engagectl verify"
    }

    pub(super) fn failures(&self) -> Vec<Value> {
        self.failed
            .iter()
            .map(|(place, reason)| json!({ "at": place.to_string(), "why": reason }))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_says_what_was_sent_what_was_not_and_how_many_are_left() {
        let place = || "engagement.dlq.enricher/3/17".parse().unwrap();
        let sent = Sent {
            sent: 5,
            found: 2,
            failed: vec![(place(), "too large".into())],
            ..Sent::default()
        };
        let text = sent.text(10);
        assert!(text.contains("5 letters sent, 2 had been sent by the run before"));
        assert!(text.contains("engagement.dlq.enricher/3/17 was not sent: too large"));
        assert!(text.contains("2 left"), "{text}");
        assert!(sent.text(8).contains("engagectl verify"));
        assert_eq!(sent.failures()[0]["why"], "too large");
    }
}
