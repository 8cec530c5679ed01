//! The enriched topic against what a receiver got.
//!
//! Invariant: whatever the number of messages, only those of slots that differ are fetched.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use reqwest::Client;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::delivery::{Page, Summary};
use crate::error::Error;
use crate::implied::Implied;
use crate::report::{Kind, SinkReport};
use crate::sources::{Options, ReceiverSource, Sink};

const WHAT: &str = "the receiver";
/// Slots that are looked into at once: an eighth of all messages at most.
const AT_ONCE: usize = 512;
/// Messages in one answer.
const PAGE: usize = 10_000;

/// The slots to look into, and what can be said without.
pub(crate) struct Compared {
    pub(crate) report: SinkReport,
    slots: Vec<usize>,
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
        let what = "got more messages than it keeps apart";
        report.violation(options.limit, "the receiver", what);
    }
    let found = |index: usize| summary.slots.get(index).copied().unwrap_or_default();
    let mut slots = Vec::new();
    for (index, expected) in implied.slots.iter().enumerate() {
        if *expected == found(index) {
            report.equal += u64::from(expected.0 > 0);
        } else {
            slots.push(index);
        }
    }
    Compared {
        report,
        slots,
        begun,
    }
}

impl Compared {
    /// The differing slots, so many at a time that their messages fit into memory.
    pub(crate) fn rounds(&self) -> Vec<HashSet<usize>> {
        let rounds = self.slots.chunks(AT_ONCE);
        rounds
            .map(|slots| slots.iter().copied().collect())
            .collect()
    }

    /// Names what differs in the slots of one round: `found` was read before the end of the topic from which `implied` kept.
    pub(crate) fn name(
        &mut self,
        mut found: HashMap<u64, u64>,
        implied: &Implied,
        truncated: bool,
        options: &Options,
    ) {
        let (report, limit) = (&mut self.report, options.limit);
        for (key, message) in &implied.kept {
            match found.remove(key) {
                None => {
                    report.missing += 1;
                    report.name(limit, Kind::Missing, &message.id, &message.about);
                }
                Some(body) if body != message.body => {
                    report.changed += 1;
                    let what = format!("{}: not the body that the topic implies", message.about);
                    report.name(limit, Kind::Changed, &message.id, what);
                }
                Some(_) => {}
            }
        }
        found.retain(|key, _| !truncated && !implied.pending.contains_key(key));
        for key in found.keys() {
            report.surplus += 1;
            let id = format!("msg_{key:016x}..");
            report.name(
                limit,
                Kind::Surplus,
                id,
                "no record of the topic implies it",
            );
        }
    }

    /// The report, after the last round.
    pub(crate) fn finish(
        mut self,
        implied: &Implied,
        truncated: bool,
        options: &Options,
    ) -> SinkReport {
        if implied.is_full {
            let what = "more messages differ or are under way than can be told apart";
            self.report.violation(options.limit, "the topic", what);
        }
        if truncated {
            self.report.notes.push(
                "the topic does not reach back to its first record: surplus deliveries cannot be told".into(),
            );
        }
        self.report.differences.sort();
        self.report.elapsed = self.begun.elapsed();
        self.report
    }
}
