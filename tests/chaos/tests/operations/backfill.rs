//! What a backfill does in a second: as fast as it can, beside a plain script over the same rows, and beside a live stream.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use chaos::Arena;
use chaos::freshness::Watch;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::world::{WITHIN, World};

/// Who runs: no backfill here is for webhooks, which cost a request an event on both ends.
const SERVICES: [&str; 3] = ["enricher", "clickhouse-sink", "redis-aggregator"];
/// Rows that only a backfill brings; `BACKFILL_ROWS`.
const ROWS: u32 = 200_000;
/// Live rows a second beside a backfill; `BACKFILL_LIVE_RATE`.
const LIVE: f64 = 200.0;
/// Rows that the plain script writes one by one.
const SINGLE: u32 = 5_000;
/// Live rows a second otherwise.
const IDLE: f64 = 5.0;
/// Beyond this an event is late.
const PROMISED: f64 = 5.0;
/// What the tool may hold, whatever the size of the range.
const MEMORY_MIB: u64 = 150;

/// How long the tool took and what it held.
struct Ran {
    took: Duration,
    peak_mib: u64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backfill_that_is_not_throttled_beside_a_plain_script_over_the_same_rows() {
    let rows = number("BACKFILL_ROWS", ROWS);
    let world = World::start("backfill", &SERVICES, 1, IDLE).await;
    let world = world.alone(IDLE, async |arena| unseen_rows(arena, rows).await);
    let world = world.await;
    let ran = backfill(&world).await;
    let ours = f64::from(rows) / ran.took.as_secs_f64();
    eprintln!(
        "backfill: {rows} rows in {:.1} s, {ours:.0} rows/s; {} MiB",
        ran.took.as_secs_f64(),
        ran.peak_mib
    );
    assert!(ran.peak_mib <= MEMORY_MIB, "{} MiB", ran.peak_mib);
    match std::env::var_os("BACKFILL_PYTHON") {
        None => eprintln!("no plain script: BACKFILL_PYTHON names no interpreter"),
        Some(python) => {
            for (style, rows) in [("blocks", rows), ("placeholders", rows.min(SINGLE))] {
                let took = plain_script(&world, &python, style, rows).await;
                let plain = f64::from(rows) / took.as_secs_f64();
                eprintln!(
                    "plain script, {style}: {rows} rows in {:.1} s, {plain:.0} rows/s; the backfill is {:.1} times as fast",
                    took.as_secs_f64(),
                    ours / plain
                );
            }
        }
    }
    // Redis is not asked for: it has not seen these rows, and shall not
    world.ends_equal_in(&[verify::Sink::Clickhouse]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backfill_leaves_the_live_stream_as_fresh_as_it_was_promised() {
    let (rows, live) = (
        number("BACKFILL_ROWS", ROWS),
        number("BACKFILL_LIVE_RATE", LIVE),
    );
    let world = World::start("beside", &SERVICES, 1, IDLE).await;
    let world = world.alone(live, async |arena| unseen_rows(arena, rows).await);
    let world = world.await;
    let watch = Watch::begin(&world.arena).await;
    let ran = backfill(&world).await;
    let seen = watch.end().await.unwrap();
    eprintln!("backfill: {rows} rows in {:.1} s", ran.took.as_secs_f64());
    for sink in ["clickhouse-sink", "redis-aggregator"] {
        let fresh = &seen[sink];
        let (p50, p99) = (fresh.quantile(0.5), fresh.quantile(0.99));
        eprintln!(
            "{sink}: {} live events meanwhile, p50 {p50:?} s, p99 {p99:?} s",
            fresh.count()
        );
        assert!(p99.is_some_and(|p99| p99 <= PROMISED), "{sink}: {fresh:?}");
    }
    // Redis is not asked for: it has not seen these rows, and shall not
    world.ends_equal_in(&[verify::Sink::Clickhouse]).await;
}

fn number<T: std::str::FromStr>(variable: &str, otherwise: T) -> T {
    let set = std::env::var(variable).ok();
    set.map_or(otherwise, |text| {
        let number = text.parse().ok();
        number.unwrap_or_else(|| panic!("{variable}={text} is no number"))
    })
}

/// Rows of two days ago, written while the publication leaves the table out: the live stream never sees them.
async fn unseen_rows(arena: &Arena, rows: u32) {
    let url = &arena.addresses.postgres_admin_url;
    let mut connection = PgConnection::connect(url).await.unwrap();
    let publication = platform::PUBLICATION;
    let sql = format!(
        "ALTER PUBLICATION {publication} DROP TABLE engagement_events; \
         INSERT INTO engagement_events (content_id, user_id, event_type, event_ts, duration_ms, device) \
         SELECT c.id, md5((n % 5000)::text)::uuid, 'play', now() - interval '2 days' + n * interval '20 ms', n % 900000, 'web' \
         FROM generate_series(1, {rows}) n JOIN (SELECT id, row_number() OVER () - 1 AS i FROM content LIMIT 100) c ON c.i = n % 100; \
         ALTER PUBLICATION {publication} ADD TABLE engagement_events"
    );
    // statements of one text are one transaction, in which the table would be published again
    for statement in sql.split("; ") {
        let done = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection);
        done.await.unwrap();
    }
    passed(&mut connection).await;
}

/// Waits until Debezium has read the log up to here: what a backfill waits for first is not to be what was just made.
async fn passed(connection: &mut PgConnection) {
    let sql = "SELECT pg_current_wal_insert_lsn()::text";
    let here: String = sqlx::query_scalar(sql)
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE confirmed_flush_lsn < $1::pg_lsn";
    let begun = Instant::now();
    loop {
        let behind = sqlx::query_scalar(slots).bind(&here);
        let behind: i64 = behind.fetch_one(&mut *connection).await.unwrap();
        if behind == 0 {
            return;
        }
        assert!(begun.elapsed() < WITHIN, "the slot does not get to {here}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Of all those rows, until `engagectl` has compared the result.
async fn backfill(world: &World) -> Ran {
    let addresses = &world.arena.addresses;
    let mut command = Command::new(devstack::program_beside_test("engagectl"));
    command
        .args(["backfill", "--yes", "--start", "-3d", "--end", "-1d"])
        .stdin(Stdio::null())
        .env("KAFKA_BOOTSTRAP_SERVERS", &addresses.kafka)
        .env("DATABASE_URL", &addresses.postgres_url)
        .env("CLICKHOUSE_URL", &addresses.clickhouse_url)
        .env("CLICKHOUSE_USER", &addresses.clickhouse_user)
        .env("CLICKHOUSE_PASSWORD", &addresses.clickhouse_password)
        .env("CLICKHOUSE_DATABASE", &addresses.clickhouse_database);
    let (began, mut peak_mib) = (Instant::now(), 0);
    let mut child = command.spawn().unwrap();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        peak_mib = peak_mib.max(held(child.id()));
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(status.success(), "{status}");
    Ran {
        took: began.elapsed(),
        peak_mib,
    }
}

/// The most that a process has held, in MiB; 0 once it has ended.
fn held(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    peak.and_then(|kib| kib.trim().parse::<u64>().ok())
        .unwrap_or(0)
        / 1024
}

/// The same rows by a script as people write it, into a table of the same kind beside the other.
async fn plain_script(world: &World, python: &std::ffi::OsStr, style: &str, rows: u32) -> Duration {
    let addresses = &world.arena.addresses;
    let mut command = Command::new(python);
    command
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/operations/plain.py"
        ))
        .args([style, &rows.to_string()])
        .env("DATABASE_URL", &addresses.postgres_url)
        .env("CLICKHOUSE_URL", &addresses.clickhouse_url)
        .env(
            "CLICKHOUSE_USER",
            &world.arena.stack.clickhouse().admin_user,
        )
        .env(
            "CLICKHOUSE_PASSWORD",
            &world.arena.stack.clickhouse().admin_password,
        )
        .env("CLICKHOUSE_DATABASE", &addresses.clickhouse_database);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut words = said.split_whitespace();
    let (written, seconds) = (words.next().unwrap(), words.next().unwrap());
    assert_eq!(written, rows.to_string(), "{said}");
    Duration::from_secs_f64(seconds.parse().unwrap())
}
