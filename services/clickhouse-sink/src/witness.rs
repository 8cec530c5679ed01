//! A row that a lane has written and remembers in its commits: is the table still the one that it was written into? Pure.
//!
//! The witness of a batch is its row with the newest `event_ts`, so that retention takes it last. Gone are the witness and
//! everything at or above its position only where the table was emptied, made anew, or restored from an older copy; or
//! where retention has come so far, which its `event_ts` tells. Records that write nothing change no witness.
//! Invariant: what cannot be told from a healthy table is not refused.

use std::collections::HashMap;

use engagement::event::{Lane, Position};
use stream::checkpoint::Stored;

use crate::cells::month;
use crate::plan::Entry;

/// What became of a witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The table holds it.
    Present,
    /// It is gone, as rows go: by retention, or alone. It proves nothing any more.
    Passed,
    /// The table is another one, or was emptied. The highest position that it holds of the partition.
    Emptied(Option<Position>),
}

/// The next command after [`Emptied`].
pub const REMEDY: &str = "restore the table and start again; or stop the sink and have it filled from the log, and from Postgres where that is needed: \
     `engagectl rebuild clickhouse` (single partitions from the log: `engagectl lineage adopt --table refill`); or, if the table is as it should be: `engagectl lineage adopt --table as-is`; \
     then `engagectl verify` names what is missing";

/// A table that lacks what was written into it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "table {table} {}, although rows up to {} had been written: it was emptied, made anew, or restored from an older copy",
    held(*.partition, *.highest), .stored.position
)]
pub struct Emptied {
    /// Database and name.
    pub table: String,
    /// Partition of the topic.
    pub partition: i32,
    /// What the table must hold.
    pub stored: Stored,
    /// The highest position that it holds.
    pub highest: Option<Position>,
}

fn held(partition: i32, highest: Option<Position>) -> String {
    highest.map_or_else(
        || format!("holds no row of partition {partition}"),
        |highest| format!("holds partition {partition} only up to {highest}"),
    )
}

/// The witness among entries whose own rows are in the table.
#[must_use]
pub fn among<'a>(entries: impl Iterator<Item = &'a Entry>) -> Option<Stored> {
    // a deletion may be cleaned away by the server, so a row that stays is preferred
    let of_live = entries.filter(|entry| entry.position.lane == Lane::Live);
    let best = of_live.max_by_key(|entry| {
        let Position { epoch, offset, .. } = entry.position;
        (!entry.deleted, entry.event_ts, epoch, offset)
    })?;
    Some(Stored {
        position: best.position,
        event_ts: best.event_ts,
    })
}

/// The highest position of the live chain, by what the table holds of each lane and epoch.
#[must_use]
pub fn highest(held: &HashMap<(Lane, u8), i64>, partition: i32) -> Option<Position> {
    let live = held.iter().filter(|((lane, _), _)| *lane == Lane::Live);
    let highest = live.map(|((_, epoch), offset)| (*epoch, *offset)).max();
    highest.map(|(epoch, offset)| Position {
        lane: Lane::Live,
        epoch,
        partition,
        offset,
    })
}

/// Whether the table holds the witness' position or a higher one.
#[must_use]
pub fn is_reached(highest: Option<Position>, stored: &Stored) -> bool {
    let order = |position: Position| (position.epoch, position.offset);
    highest.is_some_and(|highest| order(highest) >= order(stored.position))
}

/// Whether the oldest month of the table says that partitions were dropped up to beyond the witness.
#[must_use]
pub fn was_dropped(oldest: Option<u32>, stored: &Stored) -> bool {
    oldest.is_some_and(|oldest| oldest > month(stored.event_ts))
}

/// The expressions by which a table deletes rows after a time, as its `engine_full` spells them.
#[must_use]
pub fn deleting_ttls(engine_full: &str) -> Vec<&str> {
    let Some((_, ttl)) = engine_full.split_once(" TTL ") else {
        return Vec::new();
    };
    let ttl = ttl.split(" SETTINGS ").next().unwrap_or_default();
    let moves = [" TO DISK ", " TO VOLUME ", " RECOMPRESS "];
    rules(ttl)
        .into_iter()
        .filter(|rule| !moves.iter().any(|word| rule.contains(word)))
        .map(|rule| {
            let ends = [" DELETE", " WHERE ", " GROUP BY "];
            let end = ends.iter().filter_map(|word| rule.find(word)).min();
            rule[..end.unwrap_or(rule.len())].trim()
        })
        .collect()
}

/// Splits at the commas that stand in no parentheses.
fn rules(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut rules) = (0_i32, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                rules.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    rules.push(&text[from..]);
    rules
}

#[cfg(test)]
mod tests {
    use engagement::event::Micros;
    use engagement::testing::{EVENT_TS, Sample};

    use super::*;
    use crate::row::EventIdType;

    const DAY: i64 = 86_400_000_000;

    fn at(offset: i64, days: i64) -> Sample {
        Sample::new()
            .event_id(offset)
            .at_position(3, offset)
            .event_ts(Micros(EVENT_TS.0 + days * DAY))
    }

    fn entry(sample: Sample) -> Entry {
        let event = sample.build();
        Entry::of(&event, event.source.offset, EventIdType::Int64).unwrap()
    }

    fn stored(offset: i64) -> Stored {
        among([entry(at(offset, 0))].iter()).unwrap()
    }

    #[test]
    fn the_witness_is_the_newest_row_that_is_no_deletion() {
        let entries = [
            entry(at(1, 0)),
            entry(at(2, 7)),
            entry(at(3, 2)),
            entry(at(4, 9).deleted()),
        ];
        assert_eq!(among(entries.iter()).map(|it| it.position.offset), Some(2));
        assert_eq!(
            among(entries[3..].iter()).map(|it| it.position.offset),
            Some(4)
        );
        assert_eq!(among([].iter()), None);
    }

    #[test]
    fn only_the_live_chain_reaches_a_witness_and_a_later_epoch_is_beyond() {
        let held = |rows: &[(Lane, u8, i64)]| {
            let rows = rows
                .iter()
                .map(|(lane, epoch, offset)| ((*lane, *epoch), *offset));
            is_reached(highest(&rows.collect(), 3), &stored(42))
        };
        assert!(!held(&[]));
        assert!(!held(&[(Lane::Live, 0, 41), (Lane::Redrive, 0, 99)]));
        assert!(held(&[(Lane::Live, 0, 42)]));
        assert!(held(&[(Lane::Live, 0, 5), (Lane::Live, 1, 0)]));
    }

    #[test]
    fn dropped_months_explain_only_what_is_older_than_what_is_left() {
        let month = month(EVENT_TS);
        assert!(!was_dropped(None, &stored(1)));
        assert!(!was_dropped(Some(month - 1), &stored(1)));
        assert!(!was_dropped(Some(month), &stored(1)));
        assert!(was_dropped(Some(month + 1), &stored(1)));
    }

    #[test]
    fn the_rules_that_delete_are_found_in_the_engine() {
        let of = |ttl: &str| {
            let engine =
                format!("ReplacingMergeTree(revision, deleted) ORDER BY x{ttl} SETTINGS a = 1");
            deleting_ttls(&engine).join("; ")
        };
        assert_eq!(of(""), "");
        assert_eq!(
            of(" TTL toDateTime(event_ts) + toIntervalDay(400)"),
            "toDateTime(event_ts) + toIntervalDay(400)"
        );
        assert_eq!(
            of(
                " TTL a + f(1, 2) TO VOLUME 'cold', b + 1 DELETE WHERE x = 1, c RECOMPRESS CODEC(ZSTD(9))"
            ),
            "b + 1"
        );
    }

    #[test]
    fn the_refusal_names_table_partition_and_both_positions() {
        let emptied = |highest| Emptied {
            table: "engagement.events_enriched".into(),
            partition: 3,
            stored: stored(42),
            highest,
        };
        assert_eq!(
            emptied(None).to_string(),
            "table engagement.events_enriched holds no row of partition 3, although rows up to live/0/3/42 had been written: \
             it was emptied, made anew, or restored from an older copy"
        );
        let older = emptied(Some(stored(17).position)).to_string();
        assert!(
            older.contains("holds partition 3 only up to live/0/3/17,"),
            "{older}"
        );
    }
}
