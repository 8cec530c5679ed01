//! Connect and Debezium: killed in the middle of large transactions, offsets rolled back.
//!
//! Invariant: each fault heals what it broke before it returns; the rows that a fault inserts are rows like all others.

mod rest;

use std::time::Duration;

use anyhow::Context as _;
use devstack::Kind;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::kafka::end_of_cdc;
use super::{Class, Company, turn};
use crate::{Arena, wait};
use rest::Rest;

/// As `platform` names it.
const SLOT: &str = "engage_cdc";
const OLD_SLOT: &str = "engage_cdc_older";
/// A cold worker on a busy machine.
const ANSWERS_WITHIN: Duration = Duration::from_secs(90);
const ROWS: i64 = 10_000;

/// The classes of this module.
pub const CLASSES: &[Class] = &[
    Class {
        name: "connect.kill",
        about: "kill -9 of Connect with Debezium, and its restart",
        company: Company::Any,
        weight: 2,
        inject: |arena, rng| Box::pin(kill(arena, rng)),
    },
    Class {
        name: "connect.kill-in-copy",
        about: "kill -9 while it sends the rows of a COPY",
        company: Company::Any,
        weight: 1,
        inject: |arena, rng| Box::pin(kill_within(arena, rng, Bulk::Copy)),
    },
    Class {
        name: "connect.kill-in-transaction",
        about: "kill -9 while it sends a transaction of 10,000 rows",
        company: Company::Any,
        weight: 1,
        inject: |arena, rng| Box::pin(kill_within(arena, rng, Bulk::Transaction)),
    },
    Class {
        name: "connect.rollback",
        about: "Debezium's offsets and its slot go back: every change since is sent again",
        company: Company::Any,
        weight: 1,
        inject: |arena, rng| Box::pin(roll_back(arena, rng)),
    },
];

/// How many rows come at once.
#[derive(Clone, Copy, Debug)]
enum Bulk {
    /// Rows share LSNs.
    Copy,
    /// Every row has an LSN of its own.
    Transaction,
}

async fn kill(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let down = Duration::from_millis(rng.random_range(0..2000));
    let _turn = turn::at(Kind::Connect).await;
    kill_and_start(arena, down).await?;
    Ok(format!("killed it, down for {down:?}"))
}

async fn kill_within(arena: &Arena, rng: &mut ChaCha8Rng, bulk: Bulk) -> anyhow::Result<String> {
    let after = rng.random_range(1..ROWS * 3 / 4);
    let _database = turn::at(Kind::Postgres).await;
    let _broker = turn::at(Kind::Kafka).await;
    let _turn = turn::at(Kind::Connect).await;
    let before = end_of_cdc(arena).await?;
    insert(arena, bulk).await.context("inserting many rows")?;
    let what = format!("{after} changes in the change topic");
    wait::until(&what, ANSWERS_WITHIN, || async {
        match end_of_cdc(arena).await {
            Ok(end) if end >= before + after => Ok(()),
            Ok(end) => Err(format!("{} of {after}", end - before)),
            Err(error) => Err(format!("{error:#}")),
        }
    })
    .await?;
    let sent = end_of_cdc(arena).await? - before;
    kill_and_start(arena, Duration::ZERO).await?;
    Ok(format!(
        "killed it when {sent} of {ROWS} rows ({bulk:?}) were out"
    ))
}

async fn kill_and_start(arena: &Arena, down: Duration) -> anyhow::Result<()> {
    let server = arena.stack.connect();
    server.kill9().await?;
    tokio::time::sleep(down).await;
    Ok(server.start().await?)
}

async fn insert(arena: &Arena, bulk: Bulk) -> anyhow::Result<()> {
    let mut postgres = PgConnection::connect(&arena.addresses.postgres_url).await?;
    let contents: Vec<String> = sqlx::query_scalar("SELECT id::text FROM content LIMIT 16")
        .fetch_all(&mut postgres)
        .await?;
    anyhow::ensure!(!contents.is_empty(), "there is no content yet");
    match bulk {
        Bulk::Copy => {
            let columns = "content_id, event_type, duration_ms, device";
            let statement = format!("COPY engagement_events ({columns}) FROM STDIN");
            let mut copy = postgres.copy_in_raw(&statement).await?;
            copy.send(copied_rows(&contents)).await?;
            copy.finish().await?;
        }
        Bulk::Transaction => {
            let statement = format!(
                "INSERT INTO engagement_events (content_id, event_type, duration_ms, device) \
                 SELECT ($1::text[])[1 + n % cardinality($1::text[])]::uuid, 'play', n, 'bulk' FROM generate_series(1, {ROWS}) n"
            );
            let query = sqlx::query(AssertSqlSafe(statement)).bind(&contents);
            query.execute(&mut postgres).await?;
        }
    }
    Ok(postgres.close().await?)
}

fn copied_rows(contents: &[String]) -> Vec<u8> {
    let rows = contents.iter().cycle().zip(0..ROWS);
    let lines = rows.map(|(content, n)| format!("{content}\tfinish\t{n}\tbulk\n"));
    lines.collect::<String>().into_bytes()
}

async fn roll_back(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let span = Duration::from_millis(rng.random_range(1500..6000));
    let _database = turn::at(Kind::Postgres).await;
    let _broker = turn::at(Kind::Kafka).await;
    let _turn = turn::at(Kind::Connect).await;
    let then = Delivered::now(arena).await?;
    tokio::time::sleep(span).await;
    stop(arena).await?;
    then.restore(arena).await?;
    resume(arena).await?;
    Ok(format!("sent the changes of the last {span:?} again"))
}

/// Stops the connector, and waits until it has.
///
/// # Errors
/// The worker does not do it in time.
pub async fn stop(arena: &Arena) -> anyhow::Result<()> {
    let rest = Rest::of(arena)?;
    rest.put("stop").await?;
    rest.wait_state("STOPPED").await
}

/// Lets a stopped connector go on, and waits until it does.
///
/// # Errors
/// The worker does not do it in time.
pub async fn resume(arena: &Arena) -> anyhow::Result<()> {
    let rest = Rest::of(arena)?;
    rest.put("resume").await?;
    rest.wait_state("RUNNING").await
}

/// How far the connector had delivered: its offsets and its slot together, as when Postgres and Kafka are restored. With the
/// offsets alone Postgres would still begin where the slot was confirmed.
pub struct Delivered {
    offsets: Value,
}

impl Delivered {
    /// As it is now.
    ///
    /// # Errors
    /// Postgres or the worker does not answer.
    pub async fn now(arena: &Arena) -> anyhow::Result<Self> {
        let offsets = Rest::of(arena)?.offsets().await?;
        let mut postgres = PgConnection::connect(&arena.addresses.postgres_admin_url).await?;
        copy_slot(&mut postgres, SLOT, OLD_SLOT).await?;
        Ok(Self { offsets })
    }

    /// Makes it so again: everything since is sent once more. The connector is stopped.
    ///
    /// # Errors
    /// Postgres or the worker does not do it in time.
    pub async fn restore(self, arena: &Arena) -> anyhow::Result<()> {
        let mut postgres = PgConnection::connect(&arena.addresses.postgres_admin_url).await?;
        drop_slot(&mut postgres, SLOT).await?;
        copy_slot(&mut postgres, OLD_SLOT, SLOT).await?;
        drop_slot(&mut postgres, OLD_SLOT).await?;
        Rest::of(arena)?.set_offsets(&self.offsets).await
    }
}

async fn copy_slot(postgres: &mut PgConnection, from: &str, to: &str) -> anyhow::Result<()> {
    let copy = sqlx::query("SELECT pg_copy_logical_replication_slot($1, $2)::text");
    copy.bind(from.to_owned())
        .bind(to.to_owned())
        .execute(postgres)
        .await
        .with_context(|| format!("copying slot {from} to {to}"))?;
    Ok(())
}

/// Waits for the walsender that holds it.
async fn drop_slot(postgres: &mut PgConnection, slot: &str) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + ANSWERS_WITHIN;
    loop {
        let drop = sqlx::query("SELECT pg_drop_replication_slot($1)").bind(slot.to_owned());
        match drop.execute(&mut *postgres).await {
            Ok(_) => return Ok(()),
            Err(error) if tokio::time::Instant::now() > deadline => {
                return Err(error).with_context(|| format!("dropping slot {slot}"));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
