//! The sections that every service has: `[admin]`, `[log]`, `[telemetry]`, `[lifecycle]`.
//! Invariant: the environment names of OpenTelemetry mean what its specification says.

use std::net::SocketAddr;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use tracing_subscriber::EnvFilter;

use super::EnvKey;

/// The environment names of [`CommonConfig`].
pub const COMMON_ENV: &[EnvKey] = &[
    EnvKey::plain("ADMIN_ADDR", "admin.addr"),
    EnvKey::plain("LOG_FORMAT", "log.format"),
    EnvKey::plain("RUST_LOG", "log.filter"),
    EnvKey::plain("DRAIN_DEADLINE", "lifecycle.drain_deadline"),
    EnvKey::plain("OTEL_SDK_DISABLED", "telemetry.disabled"),
    EnvKey::plain("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry.endpoint"),
    EnvKey::plain(
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        "telemetry.traces_endpoint",
    ),
    EnvKey::secret("OTEL_EXPORTER_OTLP_HEADERS", "telemetry.headers"),
    EnvKey::plain("OTEL_SERVICE_NAME", "telemetry.service_name"),
    EnvKey::plain("OTEL_TRACES_SAMPLER", "telemetry.sampler"),
    EnvKey::plain("OTEL_TRACES_SAMPLER_ARG", "telemetry.sampler_arg"),
    EnvKey::plain("OTEL_BSP_MAX_QUEUE_SIZE", "telemetry.max_queue_size"),
    EnvKey::plain("OTEL_BSP_SCHEDULE_DELAY", "telemetry.schedule_delay_ms"),
];

/// What every service can be told.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CommonConfig {
    /// The admin port.
    pub admin: AdminConfig,
    /// Logs.
    pub log: LogConfig,
    /// Traces.
    pub telemetry: TelemetryConfig,
    /// Stopping.
    pub lifecycle: LifecycleConfig,
}

/// `[admin]`: `/livez`, `/readyz`, `/metrics`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Address and port to listen on. Default: 127.0.0.1 and the service's own port; in a container `0.0.0.0:<port>`.
    #[serde(deserialize_with = "address")]
    pub addr: Option<SocketAddr>,
}

/// `[log]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `json` (default) or `pretty`.
    pub format: LogFormat,
    /// What is logged, in the syntax of `RUST_LOG`. Default `info`.
    pub filter: LogFilter,
}

impl LogConfig {
    /// Errors only, for a person: the log of a command whose result is printed.
    pub(crate) fn quiet() -> Self {
        Self {
            format: LogFormat::Pretty,
            filter: LogFilter("error".into()),
        }
    }
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// For a person at a terminal.
    Pretty,
}

/// A filter that was parsed once, so that a broken one is refused at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

impl LogFilter {
    /// The filter for the subscriber.
    #[must_use]
    pub fn to_env_filter(&self) -> EnvFilter {
        EnvFilter::builder().parse_lossy(&self.0)
    }
}

impl Default for LogFilter {
    fn default() -> Self {
        Self("info".into())
    }
}

impl<'de> Deserialize<'de> for LogFilter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match EnvFilter::builder().parse(&text) {
            Ok(_) => Ok(Self(text)),
            Err(error) => Err(de::Error::custom(format!(
                "{error}; `info` or `info,rdkafka=debug` would be right"
            ))),
        }
    }
}

/// `[telemetry]`: OpenTelemetry traces over OTLP/HTTP. Off until an endpoint is set.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Switches traces off whatever else is set.
    pub disabled: bool,
    /// The collector, for example `http://127.0.0.1:4318`; `/v1/traces` is added.
    pub endpoint: Option<url::Url>,
    /// The whole URL for traces; goes before `endpoint`.
    pub traces_endpoint: Option<url::Url>,
    /// `name=value` pairs, separated by commas, sent with every export (percent-encoding is decoded).
    pub headers: Option<secrecy::SecretString>,
    /// The name shown in traces. Default: the service's name.
    pub service_name: Option<String>,
    /// Which traces are kept.
    pub sampler: Sampler,
    /// The share of traces that the `traceidratio` samplers keep, 0 to 1.
    pub sampler_arg: Ratio,
    /// Spans that wait for the exporter at most; further ones are dropped and counted.
    pub max_queue_size: NonZeroUsize,
    /// Milliseconds between two exports.
    pub schedule_delay_ms: NonZeroU64,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            disabled: false,
            endpoint: None,
            traces_endpoint: None,
            headers: None,
            service_name: None,
            sampler: Sampler::default(),
            sampler_arg: Ratio::default(),
            // both as in OpenTelemetry's specification
            max_queue_size: NonZeroUsize::new(2048).expect("not zero"),
            schedule_delay_ms: NonZeroU64::new(5000).expect("not zero"),
        }
    }
}

impl TelemetryConfig {
    /// Time between two exports.
    #[must_use]
    pub fn schedule_delay(&self) -> Duration {
        Duration::from_millis(self.schedule_delay_ms.get())
    }

    /// Where traces go; `None` when they are off.
    #[must_use]
    pub fn traces_url(&self) -> Option<String> {
        if self.disabled {
            return None;
        }
        if let Some(url) = &self.traces_endpoint {
            return Some(url.to_string());
        }
        let base = self.endpoint.as_ref()?.as_str();
        Some(format!("{}/v1/traces", base.trim_end_matches('/')))
    }
}

/// The samplers of the OpenTelemetry specification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// Every trace.
    AlwaysOn,
    /// None.
    AlwaysOff,
    /// The share `sampler_arg`.
    #[serde(rename = "traceidratio")]
    TraceIdRatio,
    /// As the parent; without a parent, every trace.
    #[serde(rename = "parentbased_always_on")]
    ParentAlwaysOn,
    /// As the parent; without a parent, none.
    #[serde(rename = "parentbased_always_off")]
    ParentAlwaysOff,
    /// As the parent; without a parent, the share `sampler_arg`. Our default: a trace per event would cost more than
    /// the event.
    #[default]
    #[serde(rename = "parentbased_traceidratio")]
    ParentTraceIdRatio,
}

/// A share between 0 and 1. Default 0.01.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(f64);

impl Ratio {
    /// The share.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Default for Ratio {
    fn default() -> Self {
        Self(0.01)
    }
}

impl<'de> Deserialize<'de> for Ratio {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let share = f64::deserialize(deserializer)?;
        if (0.0..=1.0).contains(&share) {
            return Ok(Self(share));
        }
        Err(de::Error::invalid_value(
            de::Unexpected::Float(share),
            &"a share between 0 and 1",
        ))
    }
}

/// `[lifecycle]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LifecycleConfig {
    /// How long a stop may take before it is forced. Default 25 s: below the 30 s that Kubernetes gives.
    #[serde(with = "humantime_serde")]
    pub drain_deadline: Duration,
}

impl Default for LifecycleConfig {
    fn default() -> Self {
        Self {
            drain_deadline: Duration::from_secs(25),
        }
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.parse() {
        Ok(addr) => Ok(Some(addr)),
        Err(_) => Err(de::Error::invalid_value(
            de::Unexpected::Str(&text),
            &"an address and a port as in `127.0.0.1:9101`",
        )),
    }
}
