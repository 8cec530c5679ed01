//! What the table holds of a batch is asked of the batch's own times, and how far a partition was written of what was
//! committed lately, however large the table is.

use std::time::{Duration, Instant};

use clickhouse_sink::batch::{Batch, Span};
use clickhouse_sink::owner::Since;
use clickhouse_sink::plan::Entry;
use clickhouse_sink::row::EventIdType;
use engagement::event::Micros;
use engagement::testing::{EVENT_TS, Sample};

use crate::clickhouse::Database;
use crate::table::writer;

/// Rows in the table: sixteen partitions take turns, one row every seven seconds, about a month in all. Where the others
/// stand has nothing to do with the time, so that no granule says much of offsets.
const ROWS: i64 = 400_000;
const EVERY: i64 = 7_000_000;
const PARTITION: i32 = 3;

fn event_ts(offset: i64) -> Micros {
    Micros(EVENT_TS.0 + (offset * 16 + i64::from(PARTITION)) * EVERY)
}

/// Every second row of [`PARTITION`] is missing.
async fn fill(database: &Database) {
    let sql = format!(
        "INSERT INTO {} (event_id, content_id, event_ts, deleted, src_row, revision, src_lane, src_epoch, src_partition, src_offset, \
         src_commit_lsn) \
         SELECT number, 'c', fromUnixTimestamp64Micro({} + number * {EVERY}, 'UTC'), 0, 1, 5, 'live', 0, number % 16, \
         if(number % 16 = {PARTITION}, intDiv(number, 16), cityHash64(number) % 25000), number \
         FROM numbers({ROWS}) WHERE number % 32 != {PARTITION}",
        database.table(),
        EVENT_TS.0,
    );
    database.run(&sql).await;
}

fn batch(offsets: impl Iterator<Item = i64>) -> Batch {
    let mut batch = Batch::default();
    for offset in offsets {
        let sample = Sample::new().at_position(PARTITION, offset);
        let event = sample.event_ts(event_ts(offset)).build();
        let entry = Entry::of(&event, offset, EventIdType::Int64).unwrap();
        batch.push(entry, Instant::now(), Duration::ZERO);
    }
    batch
}

#[tokio::test]
async fn a_batch_in_doubt_costs_rows_of_its_own_times_and_finds_what_is_there() {
    let (database, writer) = writer("read_back").await;
    fill(&database).await;
    let batch = batch(10_000..10_500);
    let held = writer.read_back(&batch).await.unwrap();
    let mut found: Vec<i64> = held
        .positions
        .iter()
        .map(|(position, _)| position.offset)
        .collect();
    found.sort_unstable();
    let expected: Vec<i64> = (10_000..10_500).filter(|offset| offset % 2 == 1).collect();
    assert_eq!(found, expected);

    let [span] = batch.spans().try_into().unwrap();
    let cost = database.rows_read(&writer.table().read_back(&[span])).await;
    assert!(cost < 40_000, "{cost} of {ROWS} rows read for 500");
    let whenever = Span {
        since: Micros(0),
        until: event_ts(ROWS),
        ..span
    };
    let cost = database
        .rows_read(&writer.table().read_back(&[whenever]))
        .await;
    assert!(cost > 300_000, "{cost} rows read whatever the times are");
}

#[tokio::test]
async fn a_lane_that_goes_on_costs_rows_of_what_was_committed_since() {
    let (database, writer) = writer("reached").await;
    fill(&database).await;
    let newest = u64::try_from(ROWS).unwrap();
    let since = Since {
        epoch: 0,
        commit_lsn: newest - 2000,
    };
    let of_all = writer.reached(PARTITION, None).await.unwrap();
    let of_late = writer.reached(PARTITION, Some(since)).await.unwrap();
    assert_eq!(of_late.highest, of_all.highest);
    assert_eq!(of_late.highest.len(), 1);
    let cost = async |from| {
        let sql = writer.table().reached(&[(PARTITION, from)]);
        database.rows_read(&sql).await
    };
    let (late, all) = (cost(since.commit_lsn).await, cost(0).await);
    assert!(late < 20_000, "{late} of {ROWS} rows read");
    assert!(all > 300_000, "{all} rows read from the beginning");
    let nothing = Since {
        commit_lsn: newest,
        ..since
    };
    let reached = writer.reached(PARTITION, Some(nothing)).await.unwrap();
    assert_eq!((reached.highest.len(), reached.backfilled), (0, 0));
}
