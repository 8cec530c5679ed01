//! How each service is started: its arguments and environment. Pure, but for writing the endpoint's file.

use std::path::PathBuf;

use devstack::Launch;
use service::Failure;

use super::{Addresses, RECEIVER, Site};

/// The demo's signing secret. It protects nothing: both ends are on loopback.
const DEMO_SECRET: &str = service::config::demo::WEBHOOK_SECRET;

/// The process of a service of [`super::SERVICES`], or of the receiver.
#[must_use]
pub fn launch(name: &'static str, addresses: &Addresses, site: &Site) -> Launch {
    let launch = untraced(name, addresses, site);
    match &addresses.traces {
        None => launch,
        Some(traces) => launch
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", &traces.otlp_url)
            .env("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
            .env("OTEL_TRACES_SAMPLER_ARG", traces.share.to_string())
            // somebody is looking: not only every five seconds
            .env("OTEL_BSP_SCHEDULE_DELAY", "500"),
    }
}

fn untraced(name: &'static str, addresses: &Addresses, site: &Site) -> Launch {
    if name == RECEIVER {
        return Launch::new(name, site.bin.join("engagectl"), site.log(name))
            .args([
                "webhook",
                "listen",
                "--addr",
                &addresses.receiver.to_string(),
                "--record",
                &site.dir.join("deliveries.jsonl").to_string_lossy(),
            ])
            .env("WEBHOOK_SECRET", DEMO_SECRET);
    }
    let launch = Launch::new(name, site.bin.join(name), site.log(name))
        .env("KAFKA_BOOTSTRAP_SERVERS", addresses.kafka_of(name))
        .env("ADMIN_ADDR", addresses.admin(name).to_string())
        .env("LOG_FORMAT", "json")
        .ports(&[addresses.admin(name).port()]);
    match name {
        "enricher" => launch
            .env("DATABASE_URL", &addresses.postgres_url)
            .env("CONNECT_URL", &addresses.connect_url)
            .env("EVENT_KEY", addresses.schema.event_key())
            .env("CONTENT_KEY", addresses.schema.content_key()),
        "clickhouse-sink" => launch
            .env("CLICKHOUSE_URL", &addresses.clickhouse_url)
            .env("CLICKHOUSE_USER", &addresses.clickhouse_user)
            .env("CLICKHOUSE_PASSWORD", &addresses.clickhouse_password)
            .env("CLICKHOUSE_DATABASE", &addresses.clickhouse_database),
        "redis-aggregator" => launch.env("REDIS_URL", &addresses.redis_url),
        _ => launch.arg("--config").arg(webhook_config_path(site)),
    }
}

fn webhook_config_path(site: &Site) -> PathBuf {
    site.dir.join("config").join("webhook-forwarder.toml")
}

/// The one endpoint of a local pipeline: the receiver, over plain HTTP on loopback, from the first event on. It asks for
/// the order of each event only, so that a popular content is not held to one request after the other.
///
/// # Errors
/// Where the file cannot be written (64).
pub fn write_webhook_config(addresses: &Addresses, site: &Site) -> Result<(), Failure> {
    let path = webhook_config_path(site);
    let text = format!(
        "[[endpoint]]\nname = \"demo\"\nurl = \"http://{}/webhook\"\nsecrets = [\"{DEMO_SECRET}\"]\n\
         order = \"event\"\nstart = \"earliest\"\nhistorical = true\nallow_insecure = true\nallow_private = true\n",
        addresses.receiver
    );
    std::fs::write(&path, text)
        .map_err(|e| Failure::usage(format!("cannot write {}", path.display())).cause(e))
}
