//! Where a partition stands in the table is known without reading the table.

use clickhouse_sink::write::Writer;

use crate::clickhouse::Database;
use crate::table::writer;

/// Rows that a test begins with, in eight parts.
const ROWS: u64 = 400_000;
/// Rows that the answer may cost: a part has one for each partition, lane and epoch.
const FEW: u64 = 2_000;

/// Eight parts of two months: sixteen partitions, of which each eighth row was redriven, in the epochs 0 and 1.
async fn fill(database: &Database) {
    for part in 0..8 {
        let (rows, from) = (ROWS / 8, part * ROWS / 8);
        let sql = format!(
            "INSERT INTO {} (event_id, content_id, event_ts, deleted, src_row, revision, src_lane, src_epoch, src_partition, src_offset) \
             SELECT number, toString(number % 977), toDateTime64('2026-01-15 00:00:00', 6, 'UTC') + number * 7 + {part} % 2 * 2592000, 0, 1, 5, \
             if(intDiv(number, 16) % 8 = 0, 'redrive', 'live'), number >= {ROWS} / 2, number % 16, intDiv(number, 16) \
             FROM numbers({from}, {rows})",
            database.table()
        );
        database.run(&sql).await;
    }
}

/// The answer of the sink's question, which must be that of a look at every row; and what it cost.
async fn agrees(database: &Database, writer: &Writer, partition: i32) -> (String, u64) {
    let highest = writer.highest(partition).await.unwrap();
    let mut found: Vec<String> = highest
        .iter()
        .map(|((lane, epoch), offset)| format!("{}\t{epoch}\t{offset}", lane.name()))
        .collect();
    found.sort_unstable();
    let found = found.join("\n");
    let by_hand = format!(
        "SELECT src_lane, src_epoch, max(src_offset) FROM {} WHERE src_partition = {partition} GROUP BY ALL \
         ORDER BY toString(src_lane), src_epoch SETTINGS optimize_use_projections = 0",
        database.table()
    );
    assert_eq!(found, database.run(&by_hand).await, "partition {partition}");
    let cost = database.rows_read(&writer.table().highest(partition)).await;
    (found, cost)
}

/// After `sql`, a few rows still say where every partition stands.
async fn is_cheap_after(database: &Database, writer: &Writer, sql: &str) {
    database
        .run(&sql.replace("{table}", &database.table()))
        .await;
    for partition in [0, 3, 15, 99] {
        let (_, cost) = agrees(database, writer, partition).await;
        assert!(cost <= FEW, "{cost} rows read after {sql}");
    }
}

#[tokio::test]
async fn the_highest_positions_cost_a_few_rows_and_are_those_of_the_rows_that_are_there() {
    let (database, writer) = writer("highest").await;
    fill(&database).await;
    is_cheap_after(&database, &writer, "SELECT 1").await;
    let (found, _) = agrees(&database, &writer, 3).await;
    assert_eq!(
        found,
        "live\t0\t12499\nlive\t1\t24999\nredrive\t0\t12496\nredrive\t1\t24992"
    );
    // a later revision from another lane takes the place of what was highest
    let replaced = "INSERT INTO {table} (event_id, content_id, event_ts, src_row, revision, src_lane, src_epoch, src_partition, src_offset) \
         SELECT event_id, content_id, event_ts, 1, 9, 'backfill', 2, src_partition, 1 FROM {table} \
         WHERE src_lane = 'live' AND src_epoch = 1 AND src_offset = 24999";
    is_cheap_after(&database, &writer, replaced).await;
    for change in [
        "OPTIMIZE TABLE {table} FINAL",
        "DELETE FROM {table} WHERE src_lane = 'live' AND src_epoch = 1 AND src_offset > 24000",
        "ALTER TABLE {table} DELETE WHERE src_epoch = 1 AND src_offset > 23000 SETTINGS mutations_sync = 2",
        "OPTIMIZE TABLE {table} FINAL",
        "ALTER TABLE {table} DROP PARTITION 202601",
        "TRUNCATE TABLE {table}",
    ] {
        is_cheap_after(&database, &writer, change).await;
    }
}

#[tokio::test]
async fn rows_that_a_ttl_takes_away_are_no_highest_position_any_more() {
    let (database, writer) = writer("highest_ttl").await;
    fill(&database).await;
    // whatever happened before February 2nd
    let age = database.run("SELECT toUnixTimestamp(now()) - 1770000000");
    let ttl = format!(
        "ALTER TABLE {{table}} MODIFY TTL toDateTime(event_ts) + toIntervalSecond({}) SETTINGS mutations_sync = 2",
        age.await
    );
    for change in [ttl.as_str(), "OPTIMIZE TABLE {table} FINAL"] {
        is_cheap_after(&database, &writer, change).await;
    }
    let left = database.run("SELECT count() FROM highest_ttl.events_enriched");
    let left: u64 = left.await.parse().unwrap();
    assert!((1..ROWS).contains(&left), "{left} rows left");
}

#[tokio::test]
async fn a_table_of_an_earlier_version_answers_the_same_and_is_brought_up_to_date_by_two_statements()
 {
    let (database, writer) = writer("highest_earlier").await;
    fill(&database).await;
    let (expected, _) = agrees(&database, &writer, 7).await;
    let run = async |sql: &str| {
        database
            .run(&sql.replace("{table}", &database.table()))
            .await
    };
    run("ALTER TABLE {table} DROP PROJECTION highest_position SETTINGS mutations_sync = 2").await;
    let (found, cost) = agrees(&database, &writer, 7).await;
    assert_eq!(found, expected);
    assert!(cost > ROWS / 20, "only {cost} rows read without it");
    // docs/upgrade.md
    run("ALTER TABLE {table} ADD PROJECTION highest_position \
         (SELECT src_partition, src_lane, src_epoch, max(src_offset) GROUP BY src_partition, src_lane, src_epoch)").await;
    let materialise =
        "ALTER TABLE {table} MATERIALIZE PROJECTION highest_position SETTINGS mutations_sync = 2";
    is_cheap_after(&database, &writer, materialise).await;
    let (found, _) = agrees(&database, &writer, 7).await;
    assert_eq!(found, expected);
}
