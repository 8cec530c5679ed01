//! Letters that were chosen, read again, and the copies of them that are sent.
//!
//! Invariant: a letter that has expired since the plan was made is a failure of its own, and keeps no other one.

use std::collections::BTreeMap;
use std::sync::Arc;

use engagement::event::Micros;
use service::Failure;
use stream::OutRecord;
use stream::dead_letter::{Entry, Letter};
use stream::redrive::{Redrive, to_enricher, to_reader};

use super::plan::Work;
use super::send::Sender;
use crate::dlq::summary::Summary;
use crate::kafka::unanswered;

/// Offsets that are read in one go where the letters stand close together.
const CLOSE: i64 = 64;

impl Sender {
    /// The copies of these letters. One that has expired since the plan was made is a failure of its own.
    pub(super) async fn read<'a>(
        &mut self,
        topic: &Arc<str>,
        work: &Work,
        letters: &[&'a Summary],
    ) -> Result<Vec<(&'a Summary, OutRecord)>, Failure> {
        let (partition, now) = (work.partition.1, Micros(service::clock::now()));
        let target = Arc::<str>::from(work.target.as_str());
        let mut copies = Vec::with_capacity(letters.len());
        for chunk in letters.chunk_by(|a, b| b.at.offset - a.at.offset < CLOSE) {
            let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else {
                continue;
            };
            let (from, to) = (first.at.offset, last.at.offset + 1);
            let records = self.probe.read_range(topic, partition, from, to).await;
            let records = records.map_err(unanswered)?;
            let mut read: BTreeMap<i64, Box<Letter>> = records
                .into_iter()
                .filter_map(|record| match Entry::of(record) {
                    Entry::Letter(letter) => Some((letter.at.offset, letter)),
                    Entry::Mark(_) => None,
                })
                .collect();
            for summary in chunk {
                match read.remove(&summary.at.offset) {
                    Some(letter) => {
                        copies.push((*summary, copy(&letter, summary, &target, now)));
                    }
                    None => {
                        let expired = "it has expired since".to_owned();
                        self.sent.failed.push((summary.at.clone(), expired));
                    }
                }
            }
        }
        Ok(copies)
    }
}

fn copy(letter: &Letter, summary: &Summary, target: &Arc<str>, now: Micros) -> OutRecord {
    // the judge lets none pass without its place
    let partition = summary
        .origin
        .as_ref()
        .map_or(summary.at.partition, |place| place.partition);
    match summary.epoch {
        Some(epoch) if summary.service == "enricher" => {
            to_enricher(letter, target, partition, Redrive { now, epoch })
        }
        _ => to_reader(letter, target, partition, now),
    }
}
