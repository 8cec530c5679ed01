//! One comparison of an endpoint, in the order in which its parts have to be read.
//!
//! Invariant: positions of groups, then what the receiver has, then what runs have noted, then the logs: whatever the receiver has was
//! made from a record before their ends, and whatever a run has noted stands there.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::backfills;
use crate::delivery::Summary;
use crate::implied::{Implied, Passed};
use crate::letters::Places;
use crate::log::{self, Log};
use crate::look::Look;
use crate::runs::Runs;
use crate::sources::KafkaSource;
use crate::topic::Reading;
use crate::webhook::{self, Receiver};
use crate::{Error, Options, ReceiverSource, SinkReport};

/// What was read of an endpoint.
pub(crate) struct Deliveries<'a> {
    kafka: &'a KafkaSource,
    source: &'a ReceiverSource,
    summary: Summary,
    runs: Runs,
    /// The topic of backfills no longer has its first records.
    is_truncated: bool,
}

impl<'a> Deliveries<'a> {
    /// Reads positions and what the receiver has; and what the topics are to be read into.
    pub(crate) async fn begin(
        kafka: &'a KafkaSource,
        source: &'a ReceiverSource,
        undelivered: Places,
    ) -> Result<(Self, Implied), Error> {
        let topic = &kafka.enriched_topic;
        let live = passed(kafka, source, &source.group, topic, undelivered.live).await?;
        let backfill = match source.backfill_group() {
            None => Passed::default(),
            Some(group) => {
                let topic = &kafka.backfill_topic;
                passed(kafka, source, &group, topic, undelivered.backfill).await?
            }
        };
        let begun = Self {
            kafka,
            source,
            summary: Receiver::new(source).summary().await?,
            runs: Runs::default(),
            is_truncated: false,
        };
        Ok((begun, Implied::new(source, live, backfill)))
    }

    /// Reads what backfills have brought, where the endpoint takes that.
    pub(crate) async fn read_backfills(
        &mut self,
        implied: Implied,
        options: &Options,
    ) -> Result<Implied, Error> {
        if !self.source.historical {
            return Ok(implied);
        }
        options.say("reading backfills");
        if implied.look.is_none() {
            self.runs = backfills::runs(self.kafka).await?;
        }
        let (implied, is_truncated) = backfills::read(self.kafka, implied).await?;
        self.is_truncated = is_truncated;
        Ok(implied)
    }

    /// Compares, and looks into the slots that differ. `is_cut`: the enriched topic no longer has its first records.
    pub(crate) async fn compare(
        mut self,
        (mut reading, mut implied): (Reading, Implied),
        is_cut: bool,
        options: &Options,
    ) -> Result<SinkReport, Error> {
        options.say("comparing deliveries");
        let receiver = Receiver::new(self.source);
        let told = self.summary.runs.as_deref();
        let judged = backfills::judge(&self.runs, &implied, told, self.is_truncated);
        let expired = judged.iter().filter(|judged| !judged.report.compared);
        let expired: BTreeSet<i64> = expired.map(|judged| judged.report.run).collect();
        let sums = receiver.sums_of(&self.told_of(&expired)).await?;
        let mut compared = webhook::compare(&self.summary, &implied, judged, &sums, options);
        for slots in compared.rounds() {
            let mut look = Look::new(slots.clone(), expired.clone(), options.limit);
            receiver.show(&mut look, &slots).await?;
            implied.look = Some(look);
            let log = Log::open(self.kafka).await?;
            (reading, implied) = reading.messages(&log, implied, options).await?;
            implied = self.read_backfills(implied, options).await?;
            if let Some(mut look) = implied.look.take() {
                look.end(!is_cut && self.tells_backfills());
                compared.note(look);
            }
        }
        let mut report = compared.finish();
        report.notes.extend(self.notes(&implied, is_cut));
        Ok(report)
    }

    /// Those of these backfills that the receiver has anything of.
    fn told_of(&self, runs: &BTreeSet<i64>) -> BTreeSet<i64> {
        let told = self.summary.runs.iter().flatten().map(|sum| sum.run);
        told.filter(|run| runs.contains(run)).collect()
    }

    /// A delivery of a backfill whose records have expired is known as one.
    fn tells_backfills(&self) -> bool {
        !self.is_truncated || self.summary.runs.is_some()
    }

    fn notes(&self, implied: &Implied, is_cut: bool) -> Vec<String> {
        let mut notes = Vec::new();
        if is_cut {
            notes.push("the topic does not reach back to its first record: surplus deliveries cannot be told".to_owned());
        }
        if !self.tells_backfills() {
            notes.push("records of backfills have expired, and the receiver does not tell which deliveries are theirs: surplus deliveries cannot be told".to_owned());
        }
        let group = self.source.backfill_group();
        if let Some(group) =
            group.filter(|_| !implied.runs.is_empty() && !implied.reads_backfills())
        {
            notes.push(format!(
                "group {group} has no position on {}: nothing of a backfill is delivered before webhook-forwarder reads it (historical = true and input.backfill_topic)",
                self.kafka.backfill_topic
            ));
        }
        notes
    }
}

/// What a group of the endpoint has done of a topic.
async fn passed(
    kafka: &KafkaSource,
    source: &ReceiverSource,
    group: &str,
    topic: &str,
    given_up: HashSet<(i32, i64)>,
) -> Result<Passed, Error> {
    let (done, _) = log::progress(kafka, group, topic).await?;
    let began = match source.since {
        None => BTreeMap::new(),
        Some(at) => log::since(kafka, topic, at).await?,
    };
    Ok(Passed {
        done,
        began,
        given_up,
    })
}
