//! What backfills have brought to an endpoint, and what there is to say of each before messages are looked at one by one.
//!
//! Invariant: rows that are not written yet, and records that have expired, are never missing; rows that a run has noted as
//! written and that the topic has lost are.

use std::collections::BTreeSet;

use crate::delivery::RunSum;
use crate::error::Error;
use crate::implied::Implied;
use crate::log::{Log, read_topic};
use crate::runs::{Run, Runs};
use crate::share::{RunReport, RunState, Share};
use crate::sources::KafkaSource;

/// Plans and progress of all runs.
pub(crate) async fn runs(kafka: &KafkaSource) -> Result<Runs, Error> {
    read_topic(kafka, &kafka.runs_topic, Runs::default(), |runs, record| {
        let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default());
        runs.apply(&key, record.payload.as_deref());
    })
    .await
}

/// Reads all records of backfills; and whether the topic no longer has its first ones.
pub(crate) async fn read(kafka: &KafkaSource, implied: Implied) -> Result<(Implied, bool), Error> {
    let log = Log::backfills(kafka).await?;
    let implied = log.read(implied, |implied, record| implied.take_backfill(&record));
    Ok((implied.await?, log.is_truncated()))
}

/// What is known of a run before messages are looked at one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) report: RunReport,
    /// Records that its notes promise and the topic lacks, although none has expired.
    pub(crate) lost: u64,
}

/// Every run of which there is anything to say, the oldest first. `told` is what the receiver has of each; `is_truncated`: the
/// topic of backfills no longer has its first records.
pub(crate) fn judge(
    runs: &Runs,
    implied: &Implied,
    told: Option<&[RunSum]>,
    is_truncated: bool,
) -> Vec<Judged> {
    let got = told.unwrap_or_default();
    let mut all: BTreeSet<i64> = implied.runs.keys().copied().collect();
    all.extend(got.iter().map(|sum| sum.run));
    all.extend(runs.for_webhooks());
    let judged = all.into_iter().filter_map(|run| {
        let got = got.iter().find(|sum| sum.run == run);
        let judged = one(run, runs, implied, is_truncated);
        // of a run of long ago nothing is left anywhere; of one that found no row there never was anything
        let is_past = is_truncated || judged.report.state == RunState::Finished;
        let is_nothing = got.is_none() && judged.report.records == 0 && judged.lost == 0;
        let repeats = told.map(|_| got.map_or(0, |sum| sum.repeats));
        let report = RunReport {
            repeats,
            ..judged.report
        };
        (!(is_past && is_nothing)).then_some(Judged { report, ..judged })
    });
    judged.collect()
}

fn one(run: i64, runs: &Runs, implied: &Implied, is_truncated: bool) -> Judged {
    let (known, of) = (runs.get(run), implied.runs.get(&run));
    let records = of.map_or(0, |of| of.records);
    let lacks = match known {
        Some(known) if known.for_webhooks => known.records().saturating_sub(records),
        // it was never to bring anything
        Some(_) => 0,
        // nobody knows how much there was
        None => u64::from(is_truncated),
    };
    let report = RunReport {
        run,
        state: known.map_or(RunState::Unknown, Run::state),
        planned: known.map_or(0, |known| known.planned),
        rows: known.map_or(0, Run::rows),
        records,
        compared: !(is_truncated && lacks > 0),
        share: Share {
            expected: of.map_or(0, |of| of.messages),
            ..Share::default()
        },
        under_way: of.map_or(0, |of| of.under_way),
        given_up: of.map_or(0, |of| of.given_up),
        before: of.map_or(0, |of| of.before),
        repeats: None,
    };
    let lost = if is_truncated { 0 } else { lacks };
    Judged { report, lost }
}

impl RunReport {
    /// What a person should know who reads that a run is not complete.
    pub(crate) fn note(&self) -> Option<String> {
        let Self { run, .. } = self;
        let what = match self.state {
            RunState::Finished => return None,
            RunState::Unknown => {
                "is not in the topic of runs: whether it is complete is not known".to_owned()
            }
            RunState::Open => format!(
                "is not complete, {} of about {} rows are written; what is not is not missing; `engagectl backfill --resume {run}` goes on",
                self.rows, self.planned
            ),
            RunState::Written => format!(
                "is written, but was not ended; `engagectl backfill --resume {run}` ends it"
            ),
        };
        Some(format!("backfill {run} {what}"))
    }
}

#[cfg(test)]
mod tests;
