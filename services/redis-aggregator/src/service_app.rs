//! The service as the process skeleton sees it.
//!
//! Invariant: the process starts only on a server that it may write to; what goes wrong later pauses, and says so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use service::config::EnvKey;
use service::metrics::Metric;
use service::{App, Backoff, Context, Failure, Finding};
use stream::dead_letter::DeadLetters;
use stream::settings::InboxLimits;
use stream::{LanesOptions, Status, contact};

use crate::config::Config;
use crate::connection::Server;
use crate::metrics::SERVICE;
use crate::publish;
use crate::sink::{self, Shared};
use crate::store::Store;
use crate::window::Heard;

/// What a partition may hold untaken: small, since a batch is applied within milliseconds.
const INBOX: InboxLimits = InboxLimits {
    records: 500,
    kib: 256,
    fetch_kib: 128,
};

/// Keeps the last minutes in Redis.
pub struct RedisAggregator;

impl App for RedisAggregator {
    const NAME: &str = SERVICE;
    const ABOUT: &str = "Keeps counts, last events and rolling leaderboards of content in Redis";
    const ADMIN_PORT: u16 = 9103;
    const ENV: &'static [EnvKey] = &[
        EnvKey::plain("KAFKA_ENRICHED_TOPIC", "input.enriched_topic"),
        EnvKey::plain("KAFKA_GROUP_ID", "input.group_id"),
        EnvKey::secret("REDIS_URL", "redis.url"),
        EnvKey::plain("REDIS_SSL_CA_LOCATION", "redis.tls.ca"),
        EnvKey::plain("REDIS_SSL_CERTIFICATE_LOCATION", "redis.tls.certificate"),
        EnvKey::plain("REDIS_SSL_KEY_LOCATION", "redis.tls.key"),
    ];
    const METRICS: &'static [&'static [Metric]] = &[
        stream::metrics::READER,
        stream::metrics::PRODUCER,
        crate::metrics::OWN,
    ];
    type Config = Config;

    async fn run(config: Config, ctx: Context) -> Result<(), Failure> {
        serve(config, ctx).await
    }

    async fn check(config: &Config) -> Vec<Finding> {
        let mut findings: Vec<Finding> = config.problems().into_iter().map(misconfigured).collect();
        findings.push(check_redis(config).await);
        let input = &config.input;
        let topics = [
            input.enriched_topic.as_str(),
            input.dead_letter_topic.as_str(),
        ];
        findings.extend(contact::findings(&config.kafka, &topics, &input.group_id).await);
        findings
    }
}

/// Runs until told to stop.
///
/// # Errors
/// The configuration makes no sense, Redis or Kafka never came up, or nothing is left to do.
pub async fn serve(config: Config, ctx: Context) -> Result<(), Failure> {
    if let Some(problem) = config.problems().into_iter().next() {
        return Err(Failure::usage(problem).next(format!("{SERVICE} check")));
    }
    let store = Store::new(config, ctx.health.condition("redis"))?;
    if !reach(&store, &ctx).await? {
        return Ok(());
    }
    let input = &store.config.input;
    let kafka = store.config.kafka.clone();
    let dead_letters = DeadLetters::with_topic(&kafka, SERVICE, &input.dead_letter_topic)
        .map_err(|error| Failure::usage(error.to_string()).next(format!("{SERVICE} check")))?;
    let mut options = LanesOptions::new(
        kafka,
        &input.group_id,
        &input.enriched_topic,
        service::clock::now,
    );
    options.inbox = INBOX;
    let status = Status::new();
    let (ready, alive) = (Arc::clone(&status), Arc::clone(&status));
    ctx.health.readiness("kafka", move || ready.readiness());
    ctx.health.liveness("kafka", move || alive.liveness());
    let publishing = publish::forever(Arc::clone(&store));
    let shared = Arc::new(Shared {
        store,
        dead_letters,
        heard: Heard::default(),
    });
    let lanes = stream::lanes::run(options, ctx.lifecycle.soft(), status, move |handle| {
        sink::run(handle, Arc::clone(&shared))
    });
    tokio::select! {
        ended = lanes => Ok(ended?),
        () = publishing => Ok(()),
    }
}

/// Waits for Redis; `false`: told to stop meanwhile.
async fn reach(store: &Store, ctx: &Context) -> Result<bool, Failure> {
    let (began, stop) = (Instant::now(), ctx.lifecycle.soft());
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
    loop {
        let Some(opened) = stop.run_until_cancelled(store.lease()).await else {
            return Ok(false);
        };
        match opened {
            Ok(_) => return Ok(true),
            Err(error)
                if error.is_doubt() && began.elapsed() < store.config.redis.start_timeout =>
            {
                tracing::warn!(error = %error, "redis is not there yet");
            }
            Err(error) => return Err(Failure::from(error).next(format!("{SERVICE} check"))),
        }
        if !backoff.wait(&stop).await {
            return Ok(false);
        }
    }
}

fn misconfigured(problem: String) -> Finding {
    Finding::problem(
        "configuration",
        service::Exit::Usage,
        problem,
        "correct the setting named",
    )
}

async fn check_redis(config: &Config) -> Finding {
    let seen = match Server::new(&config.redis) {
        Ok(server) => server.inspect().await,
        Err(error) => Err(error),
    };
    match seen {
        Ok(seen) => Finding::ok("redis", seen),
        Err(error) => {
            let (cause, remedy) = (error.to_string(), error.remedy());
            Finding::problem("redis", Failure::from(error).exit(), cause, remedy)
        }
    }
}
