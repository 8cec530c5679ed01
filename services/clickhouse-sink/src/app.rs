//! The service: opens everything once, runs the lanes, and says how it ended.
//!
//! Invariant: nothing is consumed before the table was looked at.

use std::sync::Arc;
use std::time::{Duration, Instant};

use service::config::EnvKey;
use service::metrics::Metric;
use service::{Backoff, Condition, Context, Exit, Failure, Finding, backoff, clock};
use stream::beside::Beside;
use stream::dead_letter::DeadLetters;
use stream::settings::InboxLimits;
use stream::{LanesOptions, Status, contact, lanes};

use crate::answers;
use crate::backfill::Source;
use crate::config::{Config, ENV};
use crate::error::Reaction;
use crate::http::Http;
use crate::memory::Budget;
use crate::metrics::{Metrics, SERVICE};
use crate::outage::Outage;
use crate::pace::Pace;
use crate::server::{Found, TableError, inspect};
use crate::sink::{Sink, lane};
use crate::write::Writer;

/// A server that has just started may answer before it knows its tables; after that a missing table is believed.
const MISSING_GRACE: Duration = Duration::from_secs(10);

/// What a lane holds unread: a second's worth, because rows wait in batches already, and each partition has one of these.
const INBOX: InboxLimits = InboxLimits {
    records: 500,
    kib: 128,
    fetch_kib: 32,
};

/// The service.
pub struct ClickHouseSink;

impl service::App for ClickHouseSink {
    const NAME: &str = SERVICE;
    const ABOUT: &str = "Writes enriched events into ClickHouse, each exactly once";
    const ADMIN_PORT: u16 = 9102;
    const ENV: &'static [EnvKey] = ENV;
    const METRICS: &'static [&'static [Metric]] = &[
        stream::metrics::READER,
        stream::metrics::PRODUCER,
        crate::metrics::OWN,
    ];
    type Config = Config;

    async fn run(config: Config, ctx: Context) -> Result<(), Failure> {
        run(config, ctx).await
    }

    async fn check(config: &Config) -> Vec<Finding> {
        let mut findings = problems(config);
        if findings.is_empty() {
            findings.push(check_table(config).await);
            let kafka = &config.kafka;
            let topics = [
                kafka.enriched_topic.as_str(),
                kafka.dead_letter_topic.as_str(),
            ];
            findings.extend(contact::findings(&kafka.connection, &topics, &kafka.group_id).await);
        }
        findings
    }
}

async fn run(config: Config, ctx: Context) -> Result<(), Failure> {
    if let Some(problem) = config.problems().into_iter().next() {
        return Err(Failure::usage(problem.to_string()).next(format!("{SERVICE} check")));
    }
    let stop = ctx.lifecycle.soft();
    let condition = ctx.health.condition("clickhouse");
    let opened = stop.run_until_cancelled(open(&config, &condition)).await;
    let Some(writer) = opened.transpose()? else {
        return Ok(());
    };
    let answering = ctx.health.condition("clickhouse answers");
    answering.ready();
    let http = client(&config)?;
    let watched = answers::watch(http, answering, stop.clone());
    ctx.lifecycle.spawn("answers", watched);
    let backfill = backfill(&config, &ctx);
    let sink = Arc::new(share(&config, writer, Outage::new(condition), backfill)?);
    let status = Status::new();
    let (ready, alive) = (Arc::clone(&status), Arc::clone(&status));
    ctx.health.readiness("kafka", move || ready.readiness());
    ctx.health.liveness("consumer", move || alive.liveness());
    let kafka = &config.kafka;
    let mut options = LanesOptions::new(
        kafka.connection.clone(),
        &kafka.group_id,
        &kafka.enriched_topic,
        clock::now,
    );
    options.inbox = INBOX;
    let ended = lanes::run(options, stop, status, move |handle| {
        lane(Arc::clone(&sink), handle)
    })
    .await;
    Ok(ended?)
}

/// The topic of backfills, if one is configured; it need not be there yet.
fn backfill(config: &Config, ctx: &Context) -> Option<Source> {
    let kafka = &config.kafka;
    let topic = Some(kafka.backfill_topic.as_str()).filter(|topic| !topic.is_empty())?;
    let condition = ctx.health.condition("backfill");
    condition.ready();
    let stop = ctx.lifecycle.soft();
    let beside = Beside::watch(&kafka.connection, &kafka.group_id, topic, stop);
    Some(Source::new(beside, condition))
}

fn share(
    config: &Config,
    writer: Writer,
    outage: Outage,
    backfill: Option<Source>,
) -> Result<Sink, Failure> {
    let kafka = &config.kafka;
    let letters = DeadLetters::with_topic(&kafka.connection, SERVICE, &kafka.dead_letter_topic);
    Ok(Sink {
        writer,
        letters: letters.map_err(|error| Failure::usage(error.to_string()))?,
        limits: config.batch.limits(),
        pace: Pace::new(config.batch.interval),
        memory: Budget::new(config.batch.total_kib.get()),
        outage,
        backfill,
        metrics: Metrics::default(),
        clock: clock::now,
    })
}

fn client(config: &Config) -> Result<Http, Failure> {
    Http::new(&config.clickhouse).map_err(|error| {
        Failure::usage("ClickHouse cannot be reached as configured")
            .cause(error)
            .remedy("correct the setting named")
            .next(format!("{SERVICE} check"))
    })
}

/// Opens the table, waiting for a server that does not answer yet.
async fn open(config: &Config, condition: &Condition) -> Result<Writer, Failure> {
    let http = client(config)?;
    let until = Instant::now() + config.clickhouse.startup;
    let inserts = config.batch.concurrent_inserts.get() as usize;
    let (mut missing, mut pause) = (Missing::default(), Backoff::default());
    loop {
        let opened = Writer::open(http.clone(), &config.clickhouse, inserts, backoff::random());
        match opened.await {
            Ok((writer, found)) => {
                report(config, &found);
                return Ok(writer);
            }
            Err(error)
                if missing.is_final(error.reaction(), Instant::now())
                    || Instant::now() >= until =>
            {
                return Err(refusal(&error));
            }
            Err(error) => {
                tracing::warn!(%error, "waiting for ClickHouse");
                condition.not_ready(format!("waiting for ClickHouse: {error}"));
                tokio::time::sleep(
                    pause
                        .next_delay(backoff::random())
                        .min(Duration::from_secs(2)),
                )
                .await;
            }
        }
    }
}

fn report(config: &Config, found: &Found) {
    let table = config.clickhouse.table();
    tracing::info!(
        database = table.database,
        table = table.name,
        event_id = found.id_type.name(),
        "table found"
    );
    if !found.synced {
        tracing::warn!(
            database = table.database,
            table = table.name,
            "answered inserts may be lost with the machine's power: ALTER TABLE .. MODIFY SETTING fsync_after_insert = 1, fsync_part_directory = 1"
        );
    }
}

/// Since when the server, which answers, has said that the table is not there: one that has just begun to answer may still
/// be loading it, however long it was away before.
#[derive(Debug, Default)]
struct Missing(Option<Instant>);

impl Missing {
    fn is_final(&mut self, reaction: Reaction, now: Instant) -> bool {
        if reaction != Reaction::Missing {
            self.0 = None;
            return reaction == Reaction::Stop;
        }
        now.duration_since(*self.0.get_or_insert(now)) >= MISSING_GRACE
    }
}

fn refusal(error: &TableError) -> Failure {
    Failure::new(exit(error), error.to_string())
        .remedy(error.remedy())
        .next(format!("{SERVICE} check"))
}

fn exit(error: &TableError) -> Exit {
    match error.reaction() {
        Reaction::Missing | Reaction::Stop => Exit::Repair,
        Reaction::Retry | Reaction::Halve => Exit::Unavailable,
    }
}

fn problems(config: &Config) -> Vec<Finding> {
    let expected = "correct the value in the file, the environment or --set";
    let ours = config
        .problems()
        .into_iter()
        .map(|problem| problem.to_string());
    let kafka = config
        .kafka
        .connection
        .problems()
        .into_iter()
        .map(|problem| problem.to_string());
    ours.chain(kafka)
        .map(|problem| Finding::problem("configuration", Exit::Usage, problem, expected))
        .collect()
}

async fn check_table(config: &Config) -> Finding {
    let table = config.clickhouse.table();
    let what = format!("clickhouse table {}.{}", table.database, table.name);
    let http = match Http::new(&config.clickhouse) {
        Ok(http) => http,
        Err(error) => {
            let cause = error.to_string();
            return Finding::problem(what, Exit::Usage, cause, "correct the setting named");
        }
    };
    match inspect(&http, &table).await {
        Ok(found) if found.synced => {
            Finding::ok(what, format!("event_id is {}", found.id_type.name()))
        }
        Ok(_) => Finding::ok(
            what,
            "an answered insert may be lost with the machine's power (fsync_after_insert is off)",
        ),
        Err(error) => Finding::problem(what, exit(&error), error.to_string(), error.remedy()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_was_away_has_as_long_to_load_its_table_as_any_other() {
        let (mut missing, begun) = (Missing::default(), Instant::now());
        let after = |seconds| begun + Duration::from_secs(seconds);
        assert!(!missing.is_final(Reaction::Retry, after(9)));
        assert!(!missing.is_final(Reaction::Missing, after(9)));
        assert!(!missing.is_final(Reaction::Missing, after(18)));
        assert!(!missing.is_final(Reaction::Retry, after(20)));
        assert!(!missing.is_final(Reaction::Missing, after(21)));
        assert!(missing.is_final(Reaction::Missing, after(21) + MISSING_GRACE));
        assert!(missing.is_final(Reaction::Stop, after(22)));
    }
}
