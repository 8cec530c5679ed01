//! Records that are not produced: to the dead letters, or the end of the lane.
//!
//! Invariant: everything before such a record is acknowledged before anything is done about it.

use bytes::Bytes;
use engagement::event::Micros;
use stream::dead_letter::{self, Reject};
use stream::headers::last_text;
use stream::lineage::Mark;
use stream::{LaneError, Record};

use super::Work;
use crate::chain::Halt;

impl Work {
    /// To the dead letters. All before is acknowledged first, the letter before all after (rule 2).
    pub(super) async fn give_up(
        &mut self,
        record: &Record,
        reject: &Reject,
        mark: Option<Mark>,
        now: Micros,
    ) -> Result<(), LaneError> {
        self.out.drained().await?;
        let letter = letter(record, self.chain.epoch());
        self.shared.dead_letters.send(&letter, reject, now).await?;
        self.pass(record, mark)?;
        // a letter that fails again says nothing about the stream
        if stream::redrive::is_copy(record) {
            return Ok(());
        }
        self.rejects.spend(record, reject)
    }

    /// Everything before is finished and committed, then the lane stops at `record`.
    pub(super) async fn halt(&mut self, record: &Record, halt: &Halt) -> LaneError {
        if let Err(error) = self.out.drained().await {
            return error.into();
        }
        if matches!(halt, Halt::Contradiction(_)) {
            stream::metrics::lineage_violation();
        }
        let at = format!("{}/{}", record.partition, record.offset);
        let Record {
            topic,
            partition,
            offset,
            ..
        } = record;
        let reason = format!(
            "{topic} partition {partition} offset {offset}: {}",
            halt.reason()
        );
        LaneError::stop(reason, halt.remedy(&at))
    }
}

/// The record with the epoch it belongs to: redriven after another one was opened, it must stay older than what is newer.
fn letter(record: &Record, epoch: u8) -> Record {
    let mut letter = record.clone();
    if last_text(&letter.headers, dead_letter::EPOCH).is_none() {
        let epoch = Bytes::from(epoch.to_string());
        letter
            .headers
            .push((dead_letter::EPOCH.to_owned(), Some(epoch)));
    }
    letter
}

pub(super) fn unsendable(kind: &'static str, message: String) -> Reject {
    Reject::new(kind, "produce", "stream::producer", message)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn a_letter_names_the_epoch_of_its_first_failure() {
        let record = Record {
            topic: Arc::from("cdc"),
            partition: 0,
            offset: 1,
            timestamp_ms: None,
            key: None,
            payload: None,
            headers: Vec::new(),
        };
        let first = letter(&record, 1);
        assert_eq!(last_text(&first.headers, dead_letter::EPOCH), Some("1"));
        let again = letter(&first, 2);
        assert_eq!(last_text(&again.headers, dead_letter::EPOCH), Some("1"));
        assert_eq!(again.headers.len(), 1);
    }
}
