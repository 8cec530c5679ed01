//! The table itself: bytes written are bytes read, and the views agree with the output profiles.

use clickhouse_sink::config::ClickHouse;
use clickhouse_sink::fence::Fence;
use clickhouse_sink::http::Http;
use clickhouse_sink::row::{COLUMNS, EventIdType, Row};
use clickhouse_sink::sql::Claim;
use clickhouse_sink::write::{Insert, Writer};
use devstack::{Needs, shared_for_tests};
use engagement::event::{Anomaly, EnrichedEvent, Micros};
use engagement::profile::{Profile, RenderOptions};
use engagement::testing::{EVENT_TS, Sample};
use serde_json::Value;

use crate::bench::event;
use crate::clickhouse::Database;

pub(crate) async fn writer(name: &str) -> (Database, Writer) {
    let stack = shared_for_tests(Needs::none().kafka().clickhouse());
    let database = Database::create(stack.clickhouse(), name, "Int64").await;
    let config = ClickHouse {
        url: database.url.parse().unwrap(),
        user: "admin".into(),
        password: Some("admin".into()),
        database: name.into(),
        ..ClickHouse::default()
    };
    let (writer, found) = Writer::open(Http::new(&config).unwrap(), &config, 2, 1)
        .await
        .unwrap();
    assert!(found.synced);
    (database, writer)
}

/// Events with every field present, absent, negative, zero, long, and beyond what is usual.
fn variety() -> Vec<EnrichedEvent> {
    let at = |offset: i64| event(0, offset);
    let mut odd = at(6).build();
    odd.anomalies = Anomaly::ALL.to_vec();
    odd.raw_payload = Some("\u{0}\u{1f600}\"'\\".repeat(100));
    odd.device = Some(String::new());
    vec![
        at(0).build(),
        at(1).no_content().duration_ms(None).build(),
        at(2).missing().build(),
        at(3).duration_ms(-1_000).length_seconds(8).build(),
        at(4).duration_ms(1_000).length_seconds(8).build(),
        at(5)
            .duration_ms(124_999_960)
            .length_seconds(1_000_000)
            .build(),
        odd,
        at(7).event_ts(Micros(-1)).duration_ms(0).build(),
        at(8)
            .event_ts(Micros(EVENT_TS.0 + 999_999))
            .length_seconds(0)
            .build(),
        at(9)
            .duration_ms(900_000_000)
            .length_seconds(1)
            .event_type("")
            .build(),
    ]
}

fn rows(partition: i32, fence: Fence, events: &[EnrichedEvent]) -> Insert {
    let claim = Claim {
        partition,
        fence,
        stored: None,
    };
    let mut insert = Insert::new(claim, 0);
    for event in events {
        let row = Row::of(event, EventIdType::Int64).unwrap();
        insert.add_row(|data| data.extend_from_slice(row.bytes()));
    }
    insert
}

pub(crate) async fn insert(writer: &Writer, events: &[EnrichedEvent]) -> Vec<u8> {
    let fence = writer.take(0).await.unwrap();
    writer.insert(rows(0, fence, events)).await.unwrap();
    let rows = events
        .iter()
        .map(|event| Row::of(event, EventIdType::Int64));
    rows.flat_map(|row| row.unwrap().bytes().to_vec()).collect()
}

#[tokio::test]
async fn what_is_read_from_the_table_is_byte_for_byte_what_was_sent() {
    let (database, writer) = writer("bytes").await;
    let sent = insert(&writer, &variety()).await;
    assert_eq!(database.bytes(&select_all(&database)).await.unwrap(), sent);
}

/// Every column as it is sent, in the order of the positions.
pub(crate) fn select_all(database: &Database) -> String {
    let casts = COLUMNS.map(|(name, sent_as)| {
        format!(
            "CAST({name}, '{}')",
            if sent_as.is_empty() { "Int64" } else { sent_as }.replace('\'', "\\'")
        )
    });
    format!(
        "SELECT {} FROM {} ORDER BY src_offset FORMAT RowBinary",
        casts.join(", "),
        database.table()
    )
}

#[tokio::test]
async fn a_batch_is_one_part_and_one_under_an_older_fence_writes_nothing() {
    let (database, writer) = writer("parts").await;
    let many: Vec<_> = (0..20_000).map(|offset| event(0, offset).build()).collect();
    insert(&writer, &many).await;
    assert_eq!(
        database
            .run("SELECT count(), uniqExact(_part) FROM parts.events_enriched")
            .await,
        "20000\t1"
    );
    let (older, newer) = (writer.take(1).await.unwrap(), writer.take(1).await.unwrap());
    let mut written = Vec::new();
    for fence in [older, newer] {
        let inserted = writer.insert(rows(1, fence, &[event(1, 0).build()])).await;
        written.push(inserted.map_err(|refused| (refused.error.kind(), refused.shared)));
    }
    assert_eq!(written, [Err(("superseded", false)), Ok(())]);
    let sql = "SELECT count() FROM parts.events_enriched";
    assert_eq!(database.run(sql).await, "20001");
}

#[tokio::test]
async fn inserts_of_the_same_time_are_one_part_and_leave_out_the_one_under_an_older_fence() {
    let (database, writer) = writer("shared").await;
    let mut fences = Vec::new();
    for partition in 0..3 {
        fences.push(writer.take(partition).await.unwrap());
    }
    let inserts = async |offset| {
        let insert = |partition: i32| {
            let events = [
                event(partition, offset).build(),
                event(partition, offset + 1).build(),
            ];
            writer.insert(rows(partition, fences[partition as usize], &events))
        };
        let (one, two, three) = tokio::join!(insert(0), insert(1), insert(2));
        [one, two, three]
            .map(|inserted| inserted.map_err(|refused| (refused.error.kind(), refused.shared)))
    };
    let counts = "SELECT count(), uniqExact(_part) FROM shared.events_enriched";
    assert_eq!(inserts(0).await, [Ok(()), Ok(()), Ok(())]);
    assert_eq!(database.run(counts).await, "6\t1");

    writer.take(1).await.unwrap();
    assert_eq!(inserts(2).await, [Err(("superseded", true)); 3]);
    assert_eq!(database.run(counts).await, "10\t2");
    let others =
        "SELECT groupUniqArray(src_partition) FROM shared.events_enriched WHERE src_offset >= 2";
    assert_eq!(database.run(others).await, "[0,2]");
}

#[tokio::test]
async fn the_view_of_each_profile_says_what_the_profile_says() {
    let (database, writer) = writer("profiles").await;
    let events = variety();
    insert(&writer, &events).await;
    assert_views(&database, &events).await;
}

/// Profiles that have a view, with its name and its column of the event's id.
const VIEWS: [(Profile, &str, &str); 4] = [
    (Profile::Ratio4, "events_ratio4", "id"),
    (Profile::Ratio2, "events_ratio2", "event_id"),
    (Profile::Percent2, "events_percent2", "event_id"),
    (Profile::Percentage, "events_percentage", "event_id"),
];

/// Each view shows each of these events, sorted by id, as its profile renders it.
pub(crate) async fn assert_views(database: &Database, events: &[EnrichedEvent]) {
    for (profile, view, key) in VIEWS {
        assert_view(database, events, (profile, view, key)).await;
    }
}

async fn assert_view(
    database: &Database,
    events: &[EnrichedEvent],
    (profile, view, key): (Profile, &str, &str),
) {
    let table = database.table();
    let (name, _) = table.split_once('.').unwrap();
    let rows = database
        .json(&format!("SELECT * FROM {name}.{view} ORDER BY {key}"))
        .await;
    assert_eq!(rows.len(), events.len(), "{view}");
    for (event, row) in events.iter().zip(rows) {
        let expected = profile.value(event, &RenderOptions::complete());
        let fields = expected.as_object().unwrap();
        assert_eq!(row.as_object().unwrap().len(), fields.len(), "{view}");
        for (name, value) in fields {
            assert_eq!(
                plain(&row[name]),
                plain(value),
                "{view}.{name} of event {}",
                event.event_id
            );
        }
    }
}

/// Numbers and times by value, whatever their spelling.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::Number(number) => number.as_f64().unwrap().to_string(),
        Value::String(text) => match (text.parse::<Micros>(), text.parse::<i64>()) {
            (Ok(at), _) => format!("at {}", at.0),
            (_, Ok(number)) => number.to_string(),
            _ => text.clone(),
        },
        other => other.to_string(),
    }
}

#[tokio::test]
async fn totals_of_the_last_ten_minutes_and_of_each_hour_are_sums_of_integers() {
    let (database, writer) = writer("totals").await;
    let now: i64 = database
        .run("SELECT toUnixTimestamp64Micro(now64(6))")
        .await
        .parse()
        .unwrap();
    let at = |offset: i64, ago: i64| event(0, offset).event_ts(Micros(now - ago * 1_000_000));
    let events = [
        at(0, 30).build(),
        at(1, 60).event_type("finish").build(),
        at(2, 700).build(),
        at(3, -60).build(),
        at(4, 5).content_id("b").build(),
    ];
    insert(&writer, &events).await;
    let gone = Sample::new()
        .event_id(4)
        .at_position(0, 5)
        .content_id("b")
        .event_ts(events[4].event_ts)
        .deleted()
        .build();
    insert(&writer, &[gone]).await;
    let rows = database.run("SELECT content_id, events, plays, finishes, duration_ms, engagement_seconds FROM totals.content_10m").await;
    assert_eq!(
        rows,
        "5b6962dd-3f90-4c93-8f61-eabfa4a803e2\t2\t1\t1\t14000\t14"
    );
    assert_eq!(
        database
            .run("SELECT sum(events), sum(duration_ms) FROM totals.content_hourly")
            .await,
        "4\t28000"
    );
}
