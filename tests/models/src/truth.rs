//! What the database has committed, in the order in which Debezium decodes it.
//!
//! Invariant: changes rise in (commit LSN of the transaction before, own LSN); those of one statement may share a pair.

use std::borrow::Cow;

use engagement::envelope::{EventChange, EventRow, Meta, Op};
use engagement::event::{EnrichedEvent, Lane, Micros, Source};
use engagement::testing::{EVENT_TS, Sample};
use rand::Rng;

/// How a change fares on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Fine,
    /// The enricher cannot read it.
    Unreadable,
    /// The store refuses its row, the receiver its message.
    Refused,
}

/// One row inserted; its event id is its index.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) fate: Fate,
    pub(crate) event: EventChange<'static>,
}

/// A whole run's changes.
#[derive(Debug)]
pub(crate) struct Truth(Vec<Change>);

impl Truth {
    /// Changes whose fates are given, in transactions of these sizes; the rows of a transaction share LSNs in twos.
    pub(crate) fn new(transactions: &[usize], fates: &[(usize, Fate)]) -> Self {
        let (mut changes, mut lsn, mut before) = (Vec::new(), 100_u64, 50_u64);
        for (tx, rows) in transactions.iter().enumerate() {
            for row in 0..*rows {
                lsn += if row % 2 == 0 { 3 } else { 0 };
                let index = changes.len();
                let fate = fates.iter().find(|(at, _)| *at == index);
                changes.push(Change {
                    fate: fate.map_or(Fate::Fine, |(_, fate)| *fate),
                    event: change(index, tx, before, lsn),
                });
            }
            before = lsn + 5;
            lsn += 10;
        }
        Self(changes)
    }

    /// Some transactions, one change in eight not fine.
    pub(crate) fn random(random: &mut impl Rng) -> Self {
        let transactions: Vec<usize> = (0..random.random_range(1..4))
            .map(|_| random.random_range(1..4))
            .collect();
        let count: usize = transactions.iter().sum();
        let fates: Vec<(usize, Fate)> = (0..count)
            .filter_map(|index| match random.random_range(0..16) {
                0 => Some((index, Fate::Unreadable)),
                1 => Some((index, Fate::Refused)),
                _ => None,
            })
            .collect();
        Self::new(&transactions, &fates)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the sink cannot take one of them.
    pub(crate) fn refuses(&self) -> bool {
        self.0.iter().any(|change| change.fate == Fate::Refused)
    }

    pub(crate) fn get(&self, index: usize) -> &Change {
        &self.0[index]
    }

    /// The enriched event of a change at a place in the chain.
    pub(crate) fn enriched(&self, index: usize, source: &Source) -> EnrichedEvent {
        // two table partitions, so that a batch takes two inserts
        let month = i64::try_from(index % 2).unwrap_or(0) * 31 * 86_400_000_000;
        let at = Micros(EVENT_TS.0 + month);
        let mut event = Sample::new().event_id(index).event_ts(at).build();
        event.revision = source.lsn;
        event.source = *source;
        event
    }
}

fn change(index: usize, tx: usize, commit_lsn: u64, lsn: u64) -> EventChange<'static> {
    let number = i64::try_from(tx).expect("a model is small");
    EventChange {
        meta: Meta {
            op: Op::Create,
            lsn,
            commit_lsn: Some(commit_lsn),
            has_sequence: true,
            tx_id: Some(number),
            committed_at: Some(Micros(EVENT_TS.0 + number)),
        },
        row: EventRow {
            event_id: Cow::Owned(index.to_string()),
            content_id: Some(Cow::Borrowed("c")),
            user_id: None,
            event_type: Some(Cow::Borrowed("play")),
            event_ts: EVENT_TS,
            duration_ms: Some(7000),
            device: None,
            raw_payload: None,
        },
        before: None,
        moved: false,
    }
}

/// The source of a record made from a change.
pub(crate) fn source(place: &engagement::enrich::Place, meta: &Meta) -> Source {
    let position = place.position;
    Source {
        lane: Lane::Live,
        epoch: position.epoch,
        partition: position.partition,
        offset: position.offset,
        prev: place.prev,
        commit_lsn: place.commit_lsn,
        lsn: place.lsn,
        tx_id: meta.tx_id,
        committed_at: meta.committed_at.unwrap_or_default(),
        snapshot: false,
    }
}
