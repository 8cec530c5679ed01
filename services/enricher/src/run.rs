//! The service: opens everything, waits for the catalog, then runs the partitions.
//!
//! Invariant: the group is joined only after the join barrier, so no partition waits at an instance that is not ready.

use std::sync::Arc;
use std::time::Duration;

use engagement::envelope::Parser;
use faults::Point;
use service::config::EnvKey;
use service::metrics::Metric;
use service::{App, Context, Failure, Finding};
use stream::Status;
use stream::lanes::{self, LanesOptions};
use stream::lineage::Database;
use stream::settings::InboxLimits;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config};
use crate::contents::Contents;
use crate::follower::{Follower, Waits};
use crate::lookup::postgres::PostgresContents;
use crate::state::Shared;
use crate::{capture, error, identity, lane, startup};

/// Change records are large beside what is made of them, and with a backlog all inboxes are full.
const INBOX: InboxLimits = InboxLimits {
    records: 1000,
    kib: 256,
    fetch_kib: 16,
};
/// How often the source database's identity is read.
const IDENTITY_EVERY: Duration = Duration::from_secs(30);
/// How often it is read while it is not known.
const IDENTITY_RETRY: Duration = Duration::from_secs(5);

/// The service.
#[derive(Debug)]
pub struct Enricher;

impl App for Enricher {
    const NAME: &str = "enricher";
    const ABOUT: &str =
        "Joins change events with their content and writes enriched events to Kafka";
    const ADMIN_PORT: u16 = 9101;
    const ENV: &'static [EnvKey] = config::ENV;
    const METRICS: &'static [&'static [Metric]] = &[
        stream::metrics::READER,
        stream::metrics::PRODUCER,
        crate::metrics::OWN,
    ];
    type Config = Config;

    async fn run(config: Config, ctx: Context) -> Result<(), Failure> {
        if let Some((what, remedy)) = config::problems(&config).into_iter().next() {
            return Err(Failure::usage(what).remedy(remedy).next("enricher check"));
        }
        let stop = ctx.lifecycle.soft();
        startup::topics(&config, &stop).await?;
        let postgres = connect(&config)?;
        let contents = follow(&config, &ctx)?;
        let database = identify(&postgres, config.database.content_wait, &ctx).await;
        capture::keep(&config, &ctx);
        let shared = Arc::new(Shared::new(
            config,
            Arc::clone(&contents),
            postgres,
            database,
        )?);
        if !barrier(&contents, &stop).await {
            return Ok(());
        }
        faults::reach(Point::EnricherCatalogAfter).await;
        consume(shared, &ctx, stop).await
    }

    async fn check(config: &Config) -> Vec<Finding> {
        startup::findings(config).await
    }
}

fn connect(config: &Config) -> Result<PostgresContents, Failure> {
    let (database, schema) = (&config.database, &config.schema);
    PostgresContents::new(
        database.url.as_ref(),
        &database.content_table,
        &schema.content_id,
        database.content_wait,
    )
    .map_err(|error| {
        let remedy = "write DATABASE_URL as postgres://user:password@host:5432/database";
        Failure::usage("the database URL cannot be used")
            .cause(error)
            .remedy(remedy)
            .next("enricher check")
    })
}

/// Starts the thread that follows the content topic.
fn follow(config: &Config, ctx: &Context) -> Result<Arc<Contents>, Failure> {
    let contents = Arc::new(Contents::default());
    let watched = Arc::clone(&contents);
    ctx.health.readiness("catalog", move || watched.readiness());
    let parser = Parser::new(config.schema.clone());
    let (kafka, topic, shared) = (
        config.kafka.clone(),
        config.input.content_topic.clone(),
        Arc::clone(&contents),
    );
    let (stop, life) = (ctx.lifecycle.soft(), ctx.lifecycle.clone());
    let thread = std::thread::Builder::new()
        .name("contents".into())
        .spawn(
            move || match Follower::new(shared, &kafka, &topic, parser, Waits::default()) {
                Ok(follower) => follower.run(&stop),
                Err(error) => {
                    let what = format!("the content topic {topic} cannot be read");
                    life.fail(
                        Failure::unavailable(what)
                            .cause(error)
                            .remedy("check the broker")
                            .next("enricher check"),
                    );
                }
            },
        );
    thread
        .map(|_| contents)
        .map_err(|error| Failure::internal("no thread for the content topic").cause(error))
}

/// Reads the database's identity now and from time to time.
async fn identify(
    postgres: &PostgresContents,
    timeout: Duration,
    ctx: &Context,
) -> watch::Receiver<Option<Database>> {
    let (sender, receiver) = watch::channel(None);
    let Some(pool) = postgres.pool().cloned() else {
        return receiver;
    };
    sender.send_replace(identity::read(&pool, timeout).await);
    let stop = ctx.lifecycle.soft();
    ctx.lifecycle.spawn("identity", async move {
        loop {
            let known = sender.borrow().is_some();
            let pause = if known {
                IDENTITY_EVERY
            } else {
                IDENTITY_RETRY
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = sender.closed() => return Ok(()),
                () = tokio::time::sleep(pause) => {}
            }
            if let Some(now) = identity::read(&pool, timeout).await {
                sender.send_replace(Some(now));
            }
        }
    });
    receiver
}

/// Waits for the catalog; false: told to stop before.
async fn barrier(contents: &Contents, stop: &CancellationToken) -> bool {
    faults::reach(Point::EnricherCatalogBefore).await;
    let mut loaded = contents.loaded();
    tokio::select! {
        () = stop.cancelled() => false,
        reached = loaded.wait_for(|loaded| *loaded) => reached.is_ok(),
    }
}

async fn consume(
    shared: Arc<Shared>,
    ctx: &Context,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let status = Status::new();
    let (ready, live) = (Arc::clone(&status), Arc::clone(&status));
    ctx.health
        .readiness("partitions", move || ready.readiness());
    ctx.health.liveness("consumer", move || live.liveness());
    let input = &shared.config.input;
    let mut options = LanesOptions::new(
        shared.config.kafka.clone(),
        &input.group_id,
        &input.cdc_topic,
        service::clock::now,
    );
    options.inbox = INBOX;
    let open = Arc::clone(&shared);
    lanes::run(options, stop, status, move |handle| {
        lane::run(handle, Arc::clone(&open))
    })
    .await
    .map_err(error::run)
}
