//! What should have been delivered against what a receiver got.
//!
//! Invariant: whatever the number of messages, only those of slots that differ are fetched.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use reqwest::Client;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::backfills::Judged;
use crate::delivery::{Page, SLOTS, Slot, Summary};
use crate::endpoint::ReceiverSource;
use crate::error::Error;
use crate::implied::Implied;
use crate::look::Look;
use crate::report::{Kind, SinkReport};
use crate::share::{RunReport, Share};
use crate::sources::{Options, Sink};

const WHAT: &str = "the receiver";
/// Messages of the receiver that are held at once, about: 40 MiB.
const HELD: u64 = 900_000;
/// Messages in one answer.
const PAGE: usize = 10_000;

/// The slots to look into, and what can be said without.
pub(crate) struct Compared {
    report: SinkReport,
    slots: Vec<usize>,
    /// Slots that are looked into at once.
    at_once: usize,
    live: Share,
    runs: Vec<RunReport>,
    limit: usize,
    begun: Instant,
}

/// A client of one receiver.
pub(crate) struct Receiver<'a> {
    source: &'a ReceiverSource,
    client: Client,
}

impl<'a> Receiver<'a> {
    pub(crate) fn new(source: &'a ReceiverSource) -> Self {
        let client = Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(60))
            .build();
        Self {
            source,
            client: client.expect("a client without certificates of its own builds"),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let url = self.source.url.join(path);
        let url = url.map_err(|e| Error::refused(WHAT, path, e))?;
        let response = self
            .client
            .get(url)
            .send()
            .await
            .map_err(|e| Error::Unreachable {
                what: WHAT,
                place: self.source.url.to_string(),
                cause: e.to_string(),
                setting: "--receiver",
            })?;
        let response = response.error_for_status();
        let body = match response {
            Ok(response) => response.json().await,
            Err(error) => Err(error),
        };
        body.map_err(|e| Error::refused(WHAT, path, e))
    }

    /// Sums over everything that was delivered up to now.
    pub(crate) async fn summary(&self) -> Result<Summary, Error> {
        self.get("deliveries").await
    }

    /// Sums over what it got of these backfills.
    pub(crate) async fn sums_of(&self, runs: &BTreeSet<i64>) -> Result<Vec<Slot>, Error> {
        let mut all = vec![Slot::default(); SLOTS];
        for run in runs {
            let of: Summary = self.get(&format!("deliveries?run={run}")).await?;
            for (sum, slot) in all.iter_mut().zip(of.slots) {
                *sum = sum.with(slot);
            }
        }
        Ok(all)
    }

    /// Hands the messages of some slots to `look`.
    pub(crate) async fn show(&self, look: &mut Look, slots: &HashSet<usize>) -> Result<(), Error> {
        for slot in slots {
            let mut after = 0;
            loop {
                let path = format!("deliveries/{slot}?after={after}&limit={PAGE}");
                let Page(page) = self.get(&path).await?;
                let Some(last) = page.last() else { break };
                after = last.key();
                page.into_iter().for_each(|message| look.found(message));
            }
        }
        Ok(())
    }
}

/// Compares the slots of a summary that was taken after the group's position and before the end of the topics was read;
/// `expired` is what the receiver has of backfills that are not compared.
pub(crate) fn compare(
    summary: &Summary,
    implied: &Implied,
    judged: Vec<Judged>,
    expired: &[Slot],
    options: &Options,
) -> Compared {
    let begun = Instant::now();
    let mut report = rules(summary, implied, options.limit);
    let runs = told(judged, &mut report, options.limit);
    let of_runs = runs.iter().filter(|run| run.compared);
    let of_runs: Vec<&[Slot]> = of_runs
        .filter_map(|run| Some(implied.runs.get(&run.run)?.slots.as_slice()))
        .collect();
    let mut slots = Vec::new();
    for index in 0..SLOTS {
        let live = implied.slots[index];
        let expected = of_runs.iter().fold(live, |sum, of| sum.with(of[index]));
        let found = summary.slots.get(index).copied().unwrap_or_default();
        if expected == found.without(expired[index]) {
            report.equal += u64::from(expected.0 > 0);
        } else {
            slots.push(index);
        }
    }
    let live = Share {
        expected: implied.messages,
        ..Share::default()
    };
    Compared {
        report,
        slots,
        at_once: at_once(summary.slots.iter().map(|slot| slot.0).sum()),
        live,
        runs,
        limit: options.limit,
        begun,
    }
}

/// How many slots hold as many messages as are held at once, of so many in all.
fn at_once(messages: u64) -> usize {
    let slots = HELD * SLOTS as u64 / messages.max(1);
    usize::try_from(slots).unwrap_or(SLOTS).clamp(1, SLOTS)
}

/// What can be said without comparing.
fn rules(summary: &Summary, implied: &Implied, limit: usize) -> SinkReport {
    let mut report = SinkReport::new(Sink::Webhook);
    for id in &summary.changed_ids {
        let what = "was delivered again with another body";
        report.name(limit, Kind::Violation, id, what);
    }
    for (place, what) in &implied.unreadable {
        report.name(limit, Kind::Violation, place, what);
    }
    report.violations = summary.changed + implied.all_unreadable;
    if summary.repeats > 0 {
        let repeats = summary.repeats;
        report.notes.push(format!(
            "{repeats} repeats of the same message, which are allowed"
        ));
    }
    if summary.full {
        let what = "got more messages than it keeps apart";
        report.violation(limit, "the receiver", what);
    }
    if implied.is_full {
        let what = "holds more runs than can be told apart";
        report.violation(limit, "the topic of backfills", what);
    }
    report
}

/// The reports of the runs; what is to be said of some is said.
fn told(judged: Vec<Judged>, report: &mut SinkReport, limit: usize) -> Vec<RunReport> {
    for Judged { report: run, lost } in &judged {
        report.notes.extend(run.note());
        if *lost > 0 {
            let what = format!(
                "the topic of backfills lacks {lost} of the {} rows that the run has noted as written: run it again over the same time",
                run.rows
            );
            report.violation(limit, format!("backfill {}", run.run), what);
        }
    }
    judged.into_iter().map(|judged| judged.report).collect()
}

impl Compared {
    /// The differing slots, so many at a time that their messages fit into memory.
    pub(crate) fn rounds(&self) -> Vec<HashSet<usize>> {
        let rounds = self.slots.chunks(self.at_once);
        rounds
            .map(|slots| slots.iter().copied().collect())
            .collect()
    }

    /// Takes over what was found in the slots of one round.
    pub(crate) fn note(&mut self, look: Look) {
        for (run, counts) in look.shares {
            let share = self.share(run);
            share.missing += counts.missing;
            share.surplus += counts.surplus;
            share.changed += counts.changed;
        }
        for found in look.named {
            self.report
                .name(self.limit, found.kind, found.id, found.what);
        }
        if look.is_full {
            let what = "more messages are missing than can be told apart";
            self.report.violation(self.limit, "the topic", what);
        }
    }

    /// What is counted of a backfill, or of none. One that only a delivery of this moment names counts as the live stream.
    fn share(&mut self, run: Option<i64>) -> &mut Share {
        let known = run.and_then(|run| self.runs.iter_mut().find(|one| one.run == run));
        match known {
            Some(known) => &mut known.share,
            None => &mut self.live,
        }
    }

    /// The report, after the last round.
    pub(crate) fn finish(mut self) -> SinkReport {
        let of_runs = self.runs.iter_mut().filter(|run| run.compared);
        for share in of_runs.map(|run| &mut run.share).chain([&mut self.live]) {
            share.delivered = share.expected.saturating_sub(share.missing);
            self.report.compared += share.expected;
            self.report.missing += share.missing;
            self.report.surplus += share.surplus;
            self.report.changed += share.changed;
        }
        if !self.runs.is_empty() {
            self.report.live = Some(self.live);
        }
        self.report.runs = self.runs;
        self.report.differences.sort();
        self.report.elapsed = self.begun.elapsed();
        self.report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_messages_are_looked_at_in_one_reading_and_many_in_bounded_ones() {
        assert_eq!(at_once(0), SLOTS);
        assert_eq!(at_once(HELD), SLOTS);
        assert_eq!(at_once(10_000_000), 368);
        assert_eq!(at_once(u64::MAX), 1);
    }
}
