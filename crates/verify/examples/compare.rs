//! Time and memory of a comparison: `cargo run --release -p verify --example compare -- 10000000 1000000`.
//!
//! Starts servers of its own, fills Postgres and ClickHouse with so many rows and a topic with so many records, compares,
//! and prints seconds and the peak of its own resident memory.
//!
//! Invariant: both comparisons must be equal, or it fails.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a tool for people, which fails by panicking"
)]

mod bench;

use std::collections::BTreeSet;
use std::time::Instant;

use bench::Writer;
use devstack::{Needs, Stack};
use engagement::event::Micros;
use engagement::testing::Sample;
use md5::{Digest, Md5};
use platform::{ClickHouseSettings, Schema};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use verify::{KafkaSource, Options, PostgresSource, Sink, Sources};

const CONTENTS: u64 = 200;
/// 2026-01-01, and one event every 50 ms.
const BEGIN: i64 = 1_767_225_600_000_000;
const STEP: i64 = 50_000;
const TYPES: [&str; 4] = ["play", "pause", "finish", "click"];

#[tokio::main]
async fn main() {
    let mut sizes = std::env::args()
        .skip(1)
        .map(|text| text.parse::<u64>().unwrap());
    let rows = sizes.next().unwrap_or(10_000_000);
    let records = sizes.next().unwrap_or(1_000_000);
    let needs = Needs::none().postgres().clickhouse().kafka();
    let stack = bench::start(needs).await;
    let sources = sources(&stack);

    let begun = Instant::now();
    fill_postgres(&stack, "big", rows).await;
    fill_postgres(&stack, "small", records).await;
    fill_clickhouse(sources.clickhouse.as_ref().unwrap(), rows).await;
    fill_topic(&sources.kafka, records).await;
    println!("filled in {:.0} s", begun.elapsed().as_secs_f64());

    let servers = Servers::of(&stack);
    Box::pin(measure(
        "Postgres against ClickHouse",
        &servers,
        &sources,
        "big",
        Sink::Clickhouse,
    ))
    .await;
    Box::pin(measure(
        "Postgres against the topic",
        &servers,
        &sources,
        "small",
        Sink::Enriched,
    ))
    .await;
    stack.shutdown().await;
}

async fn measure(what: &str, servers: &Servers, sources: &Sources, schema: &str, sink: Sink) {
    let mut sources = sources.clone();
    sources.postgres.table = format!("{schema}.engagement_events");
    let options = Options {
        sinks: BTreeSet::from([sink]),
        ..Options::default()
    };
    let (before, used) = (bench::forget_peak(), servers.cpu());
    let report = verify::run(&sources, &options).await.unwrap();
    let ended = servers.cpu();
    let of = |index: usize| ended[index] - used[index];
    println!(
        "{what}: {:.1} s; CPU seconds: {:.1} here, {:.1} Postgres, {:.1} ClickHouse; {before} MiB resident before, peak {} MiB\n{report}",
        report.elapsed.as_secs_f64(),
        of(0),
        of(1),
        of(2),
        bench::peak()
    );
    assert!(report.is_equal());
}

/// Whose CPU seconds count.
struct Servers {
    postgres: u32,
    clickhouse: u32,
}

impl Servers {
    fn of(stack: &Stack) -> Self {
        Self {
            postgres: stack.postgres().pid().unwrap(),
            clickhouse: stack.clickhouse().pid().unwrap(),
        }
    }

    /// This process, Postgres, ClickHouse.
    fn cpu(&self) -> [f64; 3] {
        [std::process::id(), self.postgres, self.clickhouse].map(cpu)
    }
}

/// Seconds of CPU of a process and of its children that have ended, as a backend has when its connection is closed
/// (fields 14 to 17 of its `stat`, in hundredths).
fn cpu(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = fields.split_whitespace().skip(11).take(4);
    ticks.map(|text| text.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

fn sources(stack: &Stack) -> Sources {
    let clickhouse = ClickHouseSettings {
        url: stack.clickhouse().url.parse().unwrap(),
        user: stack.clickhouse().user.clone(),
        password: Some(SecretString::from(stack.clickhouse().password.clone())),
        ..ClickHouseSettings::default()
    };
    Sources {
        postgres: PostgresSource::new(stack.postgres().admin_url.as_str(), Schema::Uuid),
        kafka: bench::kafka(stack),
        clickhouse: Some(clickhouse),
        redis: None,
        receiver: None,
    }
}

async fn fill_postgres(stack: &Stack, schema: &str, rows: u64) {
    let mut connection = PgConnection::connect(&stack.postgres().admin_url)
        .await
        .unwrap();
    let sql = format!(
        "CREATE SCHEMA {schema}; CREATE TABLE {schema}.engagement_events (id bigint PRIMARY KEY, content_id uuid, event_type text, \
         event_ts timestamptz NOT NULL, duration_ms integer); \
         INSERT INTO {schema}.engagement_events SELECT n, md5((n % {CONTENTS})::text)::uuid, \
         (ARRAY['play','pause','finish','click'])[n % 4 + 1], timestamptz 'epoch' + interval '1 microsecond' * ({BEGIN} + n * {STEP}), \
         CASE WHEN n % 20 > 0 THEN n % 100000 END FROM generate_series(0::bigint, {rows} - 1) n; ANALYZE {schema}.engagement_events"
    );
    sqlx::raw_sql(AssertSqlSafe(sql))
        .execute(&mut connection)
        .await
        .unwrap();
}

async fn fill_clickhouse(settings: &ClickHouseSettings, rows: u64) {
    let files = [
        include_str!("../../../deploy/clickhouse/02_events_enriched.sql"),
        include_str!("../../../deploy/clickhouse/03_views.sql"),
    ];
    for statement in files
        .iter()
        .flat_map(|file| file.split(';'))
        .filter(|sql| sql.contains("CREATE"))
    {
        let sql = statement
            .replace("{database}", &settings.database)
            .replace("{event_id_type}", "Int64");
        clickhouse(settings, sql).await;
    }
    let insert = format!(
        "INSERT INTO {}.events_enriched (event_id, content_id, event_ts, deleted, src_row, event_type, duration_ms, revision, src_offset) \
         WITH lower(hex(MD5(toString(number % {CONTENTS})))) AS h SELECT number, \
         concat(substring(h, 1, 8), '-', substring(h, 9, 4), '-', substring(h, 13, 4), '-', substring(h, 17, 4), '-', substring(h, 21, 12)), \
         fromUnixTimestamp64Micro(toInt64({BEGIN} + number * {STEP}), 'UTC'), 0, 1, ['play','pause','finish','click'][number % 4 + 1], \
         if(number % 20 > 0, toNullable(toInt64(number % 100000)), NULL), 1, number FROM numbers({rows})",
        settings.database
    );
    clickhouse(settings, insert).await;
}

async fn clickhouse(settings: &ClickHouseSettings, sql: String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client
        .post(settings.url.clone())
        .header("X-ClickHouse-User", &settings.user)
        .header(
            "X-ClickHouse-Key",
            settings.password.as_ref().unwrap().expose_secret(),
        );
    let response = request.body(sql).send().await.unwrap();
    let failed = !response.status().is_success();
    let text = response.text().await.unwrap();
    assert!(!failed, "{text}");
}

async fn fill_topic(kafka: &KafkaSource, records: u64) {
    let mut writer = Writer::new(kafka, &kafka.enriched_topic).await;
    let contents = contents();
    for n in 0..records {
        let content = usize::try_from(n % CONTENTS).unwrap();
        let partition = content % writer.next.len();
        let kind = TYPES[usize::try_from(n % 4).unwrap()];
        let mut event = Sample::new().event_id(n).event_type(kind).build();
        event.content_id = Some(contents[content].clone());
        event.event_ts = Micros(BEGIN + i64::try_from(n).unwrap() * STEP);
        event.duration_ms = (!n.is_multiple_of(20)).then(|| i64::try_from(n % 100_000).unwrap());
        event.source.partition = i32::try_from(partition).unwrap();
        let at = writer.take(partition);
        (event.source.offset, event.source.prev) = (at, at - 1);
        writer.send(&event, None);
    }
    writer.flush();
}

/// Hashes, as Postgres prints UUIDs made of them.
fn contents() -> Vec<String> {
    let uuid = |n: u64| {
        let hex: String = Md5::digest(n.to_string())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        )
    };
    (0..CONTENTS).map(uuid).collect()
}
