//! The enriched topic against what a receiver got.
//!
//! Invariant: whatever the number of messages, only those of slots that differ are fetched.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use reqwest::Client;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::delivery::{Page, Slot, Summary};
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

/// Compares the slots.
pub(crate) async fn compare(
    receiver: &Receiver<'_>,
    implied: &Implied,
    options: &Options,
) -> Result<Compared, Error> {
    options.say("comparing deliveries");
    let begun = Instant::now();
    let summary: Summary = receiver.get("deliveries").await?;
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
        report.notes.push(format!(
            "{} repeats of the same message, which are allowed",
            summary.repeats
        ));
    }
    if summary.full {
        report.violation(
            options.limit,
            "the receiver",
            "got more messages than it keeps apart",
        );
    }
    let (mut slots, mut others) = (HashSet::new(), 0);
    for (index, expected) in implied.slots.iter().enumerate() {
        let found = summary.slots.get(index).copied().unwrap_or_default();
        if *expected == found {
            report.equal += u64::from(found != Slot::default());
        } else if slots.len() < MOST_SLOTS {
            slots.insert(index);
        } else {
            others += 1;
        }
    }
    if others > 0 {
        report.changed += others;
        report.notes.push(format!(
            "{others} more groups of messages differ and were not looked into"
        ));
    }
    Ok(Compared {
        report,
        slots,
        begun,
    })
}

/// Looks into the slots that differ; `implied` has kept their messages.
pub(crate) async fn name(
    receiver: &Receiver<'_>,
    implied: &Implied,
    compared: Compared,
    truncated: bool,
    options: &Options,
) -> Result<SinkReport, Error> {
    let Compared {
        mut report,
        slots,
        begun,
    } = compared;
    if implied.is_full {
        report.violation(
            options.limit,
            "the topic",
            "more messages differ or are under way than can be told apart",
        );
    }
    let mut found = HashMap::new();
    for slot in &slots {
        found.extend(receiver.slot(*slot).await?);
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
    Ok(report)
}
