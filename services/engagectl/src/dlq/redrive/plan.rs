//! What is to be done with each letter. Pure.
//!
//! Invariant: what is not sent is counted with its reason; how much is kept does not depend on how much is refused.

use std::collections::BTreeMap;

use stream::dead_letter::{Letter, Place};

use super::judge::{Facts, Reader, Refusal, Verdict};
use crate::dlq::summary::{Summary, shortened};

/// Letters of a plan: so many summaries fit into memory.
pub(super) const MOST: u64 = 200_000;

/// Letters of one partition that are sent, in their order, and where to.
#[derive(Debug)]
pub(super) struct Work {
    /// Dead-letter topic and partition.
    pub(super) partition: (String, i32),
    pub(super) target: String,
    pub(super) letters: Vec<Summary>,
}

/// Letters that are not sent for the same reason.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) letters: u64,
    /// One of them, and what would be wrong with it.
    pub(super) sample: (Place, Option<String>),
}

/// What is to be done with all letters that pass.
#[derive(Debug, Default)]
pub(super) struct Plan {
    work: BTreeMap<(String, i32), Work>,
    pub(super) to_send: u64,
    /// Letters that would be sent too.
    pub(super) more: u64,
    pub(super) done: u64,
    /// By consumer and refusal.
    pub(super) refused: BTreeMap<(String, Refusal), Refused>,
}

impl Plan {
    /// The next letter that passes, which was sent to `done` before, if anywhere.
    pub(super) fn take(
        &mut self,
        facts: &Facts,
        reader: &Reader,
        letter: Letter,
        done: Option<&Place>,
    ) {
        let still = reader.still_rejected(&letter);
        let letter = Summary::of(letter);
        match facts.judge(
            &letter,
            done,
            still.as_ref().map(|still| still.kind.as_str()),
        ) {
            Verdict::Done => self.done += 1,
            Verdict::Refused(refusal) => {
                let message = still.map(|still| shortened(&still.message));
                self.refuse(letter, refusal, message);
            }
            Verdict::Send(_) if self.to_send >= MOST => self.more += 1,
            Verdict::Send(target) => {
                self.to_send += 1;
                let partition = (letter.at.topic.clone(), letter.at.partition);
                let work = self.work.entry(partition.clone()).or_insert_with(|| Work {
                    partition,
                    target,
                    letters: Vec::new(),
                });
                work.letters.push(letter);
            }
        }
    }

    fn refuse(&mut self, letter: Summary, refusal: Refusal, message: Option<String>) {
        let group = (letter.consumer(), refusal);
        let refused = self.refused.entry(group).or_insert_with(|| Refused {
            letters: 0,
            sample: (letter.at, message),
        });
        refused.letters += 1;
    }

    /// The partitions whose letters are sent.
    pub(super) fn work(&self) -> impl Iterator<Item = &Work> {
        self.work.values()
    }

    /// How many letters go where, by consumer.
    pub(super) fn targets(&self) -> BTreeMap<(String, &str), u64> {
        let mut targets = BTreeMap::new();
        for work in self.work() {
            for letter in &work.letters {
                let target = (letter.consumer(), work.target.as_str());
                *targets.entry(target).or_insert(0) += 1;
            }
        }
        targets
    }
}
