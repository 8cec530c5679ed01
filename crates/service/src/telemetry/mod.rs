//! Logs and traces of a process.
//! Invariant: what was logged or traced before the end is written before the process exits.

mod export;
mod json;
mod repeats;
mod traces;

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::Failure;
use crate::config::{CommonConfig, LogConfig, LogFormat, TelemetryConfig};

/// Where log lines go. Reports for a person and the output of commands go to the other stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTo {
    /// Standard output: a service at work.
    Stdout,
    /// Standard error: a command whose result is on standard output.
    Stderr,
}

/// Keeps telemetry running; [`Telemetry::shutdown`] writes what is left.
#[derive(Debug)]
#[must_use = "spans are lost unless it is shut down at the end"]
pub struct Telemetry {
    traces: Option<traces::Exporting>,
}

/// How long the end waits for the collector: with the drain and its grace it stays below the 30 s that Kubernetes gives.
const LAST_EXPORT: Duration = Duration::from_secs(2);

/// Installs logs, and traces where an OTLP endpoint is set. Call it once, outside of an async runtime.
///
/// # Errors
/// The OTLP settings do not fit, or telemetry is installed already.
pub fn init(service: &'static str, config: &CommonConfig, to: LogTo) -> Result<Telemetry, Failure> {
    opentelemetry::global::set_text_map_propagator(
        opentelemetry_sdk::propagation::TraceContextPropagator::new(),
    );
    let exporting = traces::start(service, &config.telemetry)?;
    // Below INFO are details, and an exporter that traces its own requests would never rest.
    let traced = Targets::new().with_default(LevelFilter::INFO).with_targets(
        [
            "hyper",
            "hyper_util",
            "reqwest",
            "h2",
            "rustls",
            "opentelemetry",
        ]
        .map(|target| (target, LevelFilter::OFF)),
    );
    let spans = exporting.as_ref().map(|exporting| {
        tracing_opentelemetry::layer()
            .with_tracer(exporting.logged.tracer(service))
            .with_filter(traced)
    });
    let installed = tracing_subscriber::registry()
        .with(log_layer(service, &config.log, to))
        .with(spans)
        .try_init();
    installed.map_err(|error| Failure::internal("cannot install the log").cause(error))?;
    Ok(Telemetry { traces: exporting })
}

/// Installs traces alone, for a tool that prints no log.
///
/// # Errors
/// The OTLP settings do not fit.
pub fn traces_only(service: &'static str, config: &TelemetryConfig) -> Result<Telemetry, Failure> {
    let traces = traces::start(service, config)?;
    Ok(Telemetry { traces })
}

impl Telemetry {
    /// Sends what is left of the traces, and waits at most 2 s for that. Blocks.
    pub fn shutdown(self) {
        let Some(traces) = self.traces else {
            return;
        };
        if let Err(error) = traces.shutdown(LAST_EXPORT) {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

fn log_layer(
    service: &'static str,
    config: &LogConfig,
    to: LogTo,
) -> Box<dyn tracing_subscriber::Layer<Registry> + Send + Sync> {
    let writer = match to {
        LogTo::Stdout => BoxMakeWriter::new(std::io::stdout),
        LogTo::Stderr => BoxMakeWriter::new(std::io::stderr),
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let filter = config.filter.to_env_filter();
    match config.format {
        LogFormat::Json => layer
            .fmt_fields(JsonFields::new())
            .event_format(json::Lines {
                service,
                repeats: repeats::Repeats::default(),
            })
            .with_filter(filter)
            .boxed(),
        LogFormat::Pretty => layer.with_ansi(terminal(to)).with_filter(filter).boxed(),
    }
}

/// Colours only on a terminal, and never with `NO_COLOR`.
fn terminal(to: LogTo) -> bool {
    use std::io::IsTerminal as _;
    let terminal = match to {
        LogTo::Stdout => std::io::stdout().is_terminal(),
        LogTo::Stderr => std::io::stderr().is_terminal(),
    };
    terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
