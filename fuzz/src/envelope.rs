//! Change records: the first line is the key, the rest the value.
//!
//! Invariant: a change that is accepted becomes an enriched event that survives its own wire format.

use engagement::enrich::{Place, enrich};
use engagement::envelope::{CdcRecord, Input, Parser, TableSchema, TimeUnit};
use engagement::event::{Lane, Micros, Position};

/// What the parsers are told of the tables.
fn schemas() -> [TableSchema; 2] {
    let bigint = TableSchema {
        event_key: "event_id".into(),
        content_key: "content_id".into(),
        content_id: "content_id".into(),
        time_unit: TimeUnit::Micros,
    };
    [TableSchema::default(), bigint]
}

pub(crate) fn run(data: &[u8]) {
    let (key, value) = crate::split(data);
    for schema in schemas() {
        let parser = Parser::new(schema);
        for (key, payload) in [(Some(key), Some(value)), (None, Some(data))] {
            let input = Input {
                key,
                payload,
                moved: data.len() % 2 == 1,
            };
            changes(&parser, input);
            // accepted or refused, in words
            if let Err(reject) = parser.content(input) {
                assert!(!reject.message.is_empty());
            }
            let _ = parser.content_key(key);
        }
    }
}

fn changes(parser: &Parser, input: Input<'_>) {
    match parser.event(input) {
        Ok(CdcRecord::Change(change)) => {
            let (lsn, commit_lsn) = (change.meta.lsn, change.meta.commit_lsn.unwrap_or(0));
            let position = Position {
                lane: Lane::Live,
                epoch: 1,
                partition: 3,
                offset: 42,
            };
            let place = Place {
                position,
                prev: 41,
                commit_lsn,
                lsn,
            };
            let event = enrich(change, None, place, Micros(1_800_000_000_000_000));
            crate::wire::survives(&event);
        }
        Ok(_) => {}
        Err(reject) => assert!(!reject.message.is_empty()),
    }
}
