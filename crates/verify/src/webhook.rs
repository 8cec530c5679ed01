//! The enriched topic against what a receiver got.
//!
//! Invariant: whatever the number of messages, only those of slots that differ are fetched.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use reqwest::Client;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::delivery::{Page, Summary, slot_of};
use crate::error::Error;
use crate::implied::Implied;
use crate::report::{Kind, SinkReport};
use crate::sources::{Options, ReceiverSource, Sink};

const WHAT: &str = "the receiver";
/// Slots that are looked into.
const MOST_SLOTS: usize = 256;
/// Messages in one answer.
const PAGE: usize = 10_000;

/// The slots to look into, and what can be said without.
pub(crate) struct Compared {
    pub(crate) report: SinkReport,
    pub(crate) slots: HashSet<usize>,
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

    /// The messages of some slots, body by key.
    pub(crate) async fn messages(
        &self,
        slots: &HashSet<usize>,
    ) -> Result<HashMap<u64, u64>, Error> {
        let mut all = HashMap::new();
        for slot in slots {
            all.extend(self.slot(*slot).await?);
        }
        Ok(all)
    }

    async fn slot(&self, slot: usize) -> Result<HashMap<u64, u64>, Error> {
        let (mut all, mut after) = (HashMap::new(), 0);
        loop {
            let path = format!("deliveries/{slot}?after={after}&limit={PAGE}");
            let Page(page) = self.get(&path).await?;
            let Some((last, _)) = page.last() else {
                return Ok(all);
            };
            after = *last;
            all.extend(page);
        }
    }
}

/// Compares the slots of a summary that was taken after the group's position and before the end of the topic was read.
pub(crate) fn compare(summary: &Summary, implied: &Implied, options: &Options) -> Compared {
    let begun = Instant::now();
    let mut report = SinkReport::new(Sink::Webhook);
    report.compared = implied.messages;
    for id in &summary.changed_ids {
        report.name(
            options.limit,
            Kind::Violation,
            id,
            "was delivered again with another body",
        );
    }
    report.violations = summary.changed;
    if summary.repeats > 0 {
        let repeats = summary.repeats;
        report.notes.push(format!(
            "{repeats} repeats of the same message, which are allowed"
        ));
    }
    if summary.full {
        report.violation(
            options.limit,
            "the receiver",
            "got more messages than it keeps apart",
        );
    }
    let slots = differing(summary, implied, &mut report);
    Compared {
        report,
        slots,
        begun,
    }
}

/// The slots to look into. One with messages under way may differ for them: it comes last.
fn differing(summary: &Summary, implied: &Implied, report: &mut SinkReport) -> HashSet<usize> {
    let moving: HashSet<usize> = implied.pending.keys().map(|key| slot_of(*key)).collect();
    let found = |index: usize| summary.slots.get(index).copied().unwrap_or_default();
    let all = implied.slots.iter().enumerate();
    let (differ, agree): (Vec<_>, Vec<_>) =
        all.partition(|(index, expected)| **expected != found(*index));
    report.equal = agree.iter().map(|(_, slot)| u64::from(slot.0 > 0)).sum();
    let (under_way, at_rest): (Vec<usize>, Vec<usize>) = differ
        .iter()
        .map(|(index, _)| *index)
        .partition(|index| moving.contains(index));
    let rest = at_rest.len().saturating_sub(MOST_SLOTS);
    if rest > 0 {
        report.changed += rest as u64;
        report.notes.push(format!(
            "{rest} more groups of messages differ and were not looked into"
        ));
    }
    let slots: HashSet<usize> = at_rest
        .iter()
        .chain(&under_way)
        .copied()
        .take(MOST_SLOTS)
        .collect();
    let undecided = under_way
        .iter()
        .filter(|index| !slots.contains(index))
        .count();
    if undecided > 0 {
        report.notes.push(format!(
            "{undecided} groups of messages, some of them under way, were not decided: compare when less is under way"
        ));
    }
    slots
}

/// Names what differs in the slots looked into: `found` was read before the end of the topic from which `implied` kept.
pub(crate) fn name(
    mut found: HashMap<u64, u64>,
    implied: &Implied,
    compared: Compared,
    truncated: bool,
    options: &Options,
) -> SinkReport {
    let Compared {
        mut report, begun, ..
    } = compared;
    if implied.is_full {
        report.violation(
            options.limit,
            "the topic",
            "more messages differ or are under way than can be told apart",
        );
    }
    for (key, message) in &implied.kept {
        match found.remove(key) {
            None => {
                report.missing += 1;
                report.name(options.limit, Kind::Missing, &message.id, &message.about);
            }
            Some(body) if body != message.body => {
                report.changed += 1;
                let what = format!(
                    "{}: the body is not the one that the topic implies",
                    message.about
                );
                report.name(options.limit, Kind::Changed, &message.id, what);
            }
            Some(_) => {}
        }
    }
    let unknown = found
        .keys()
        .filter(|key| !implied.pending.contains_key(key));
    if truncated {
        report.notes.push(
            "the topic does not reach back to its first record: surplus deliveries cannot be told"
                .into(),
        );
    } else {
        for key in unknown {
            report.surplus += 1;
            let id = format!("msg_{key:016x}..");
            report.name(
                options.limit,
                Kind::Surplus,
                id,
                "no record of the topic implies it",
            );
        }
    }
    report.differences.sort();
    report.elapsed = begun.elapsed();
    report
}
