//! The smallest service with every feature of the skeleton; the integration tests run it as a real process.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use service::config::EnvKey;
use service::metrics::{Label, Metric};
use service::{App, Context, Exit, Failure, Finding, metrics};

struct Sample;

/// How it behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Mode {
    /// Stops when asked to.
    #[default]
    Obedient,
    /// Stops only when forced.
    Slow,
    /// Never stops.
    Deaf,
    /// Panics in a task of its own.
    PanicInTask,
    /// Panics in a thread that nobody watches.
    PanicInThread,
    /// Needs a repair.
    Broken,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    mode: Mode,
    /// Ready while this file exists.
    gate: PathBuf,
    batch: Batch,
    database: Database,
    kafka: Kafka,
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Batch {
    rows: NonZeroU32,
    #[serde(with = "humantime_serde")]
    every: Duration,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            rows: NonZeroU32::MIN,
            every: Duration::from_secs(1),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Database {
    url: SecretString,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Kafka {
    bootstrap_servers: String,
    security_protocol: String,
    properties: BTreeMap<String, String>,
}

impl App for Sample {
    const NAME: &str = "sample";
    const ABOUT: &str = "Does nothing, in every way a service can";
    const ADMIN_PORT: u16 = 9199;
    const ENV: &'static [EnvKey] = &[
        EnvKey::plain("SAMPLE_MODE", "mode"),
        EnvKey::plain("SAMPLE_GATE", "gate"),
        EnvKey::plain("BATCH_ROWS", "batch.rows"),
        EnvKey::plain("BATCH_EVERY", "batch.every"),
        EnvKey::secret("DATABASE_URL", "database.url"),
    ];
    const METRICS: &'static [&'static [Metric]] = &[&[
        metrics::FRESHNESS_METRIC,
        metrics::sink_errors_metric(&[
            Label::service("sink"),
            Label::one_of("kind", &["outage", "bad_row"]),
        ]),
        Metric::counter(metrics::EVENTS_CONSUMED, "Records read.")
            .with(&[Label::any("topic", "a topic")])
            .also("processed_events_total"),
    ]];
    type Config = Config;

    async fn run(config: Config, ctx: Context) -> Result<(), Failure> {
        metrics::sink_freshness("sample", 0.042);
        metrics::sink_error("sample", "outage");
        metrics::events_consumed("topic", 3);
        let gate = config.gate;
        let open = move || {
            if gate.exists() {
                Ok(())
            } else {
                Err(format!("{} does not exist", gate.display()))
            }
        };
        ctx.health.readiness("gate", open);
        let url_length = config.database.url.expose_secret().len();
        tracing::info_span!("begin", rows = config.batch.rows).in_scope(|| {
            tracing::info!(url_length, kafka = ?config.kafka, every = ?config.batch.every, "began");
        });
        let mode = config.mode;
        match mode {
            Mode::Broken => {
                return Err(Failure::repair("the sample is broken")
                    .cause("a test")
                    .next("engagectl check"));
            }
            Mode::PanicInTask => ctx.lifecycle.spawn("loop", async { panic!("as asked") }),
            Mode::PanicInThread => drop(std::thread::spawn(|| panic!("as asked"))),
            Mode::Obedient | Mode::Slow | Mode::Deaf => {}
        }
        match mode {
            Mode::Deaf => std::future::pending().await,
            Mode::Slow => ctx.lifecycle.hard().cancelled().await,
            _ => ctx.lifecycle.soft().cancelled().await,
        }
        Ok(())
    }

    async fn check(config: &Config) -> Vec<Finding> {
        let found = tokio::fs::try_exists(&config.gate).await.unwrap_or(false);
        vec![if found {
            Finding::ok("gate", "open")
        } else {
            Finding::problem("gate", Exit::Unavailable, "closed", "create the file")
        }]
    }
}

fn main() -> ExitCode {
    service::main::<Sample>()
}
