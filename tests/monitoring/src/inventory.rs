//! Every metric of every process, from the lists that the processes themselves are started with.

use std::collections::BTreeMap;

use service::App;
use service::metrics::{Kind, Metric, PROCESS};

/// A process and what it exports.
#[derive(Clone, Debug)]
pub struct Exporter {
    /// Its name, as the job in Prometheus.
    pub name: &'static str,
    /// Its admin port.
    pub port: u16,
    /// What it exports.
    pub metrics: Vec<Metric>,
}

/// All processes that have an admin port.
#[must_use]
pub fn exporters() -> Vec<Exporter> {
    vec![
        exporter::<enricher::Enricher>(),
        exporter::<clickhouse_sink::app::ClickHouseSink>(),
        exporter::<redis_aggregator::RedisAggregator>(),
        exporter::<webhook_forwarder::WebhookForwarder>(),
        exporter::<engagectl::canary::Canary>(),
    ]
}

fn exporter<A: App>() -> Exporter {
    let lists = [PROCESS];
    let lists = lists.iter().chain(A::METRICS);
    Exporter {
        name: A::NAME,
        port: A::ADMIN_PORT,
        metrics: lists.flat_map(|list| list.iter().copied()).collect(),
    }
}

/// Every series name that can be asked for, with its metric and the processes that export it: a histogram has three, an alias
/// stands for its metric.
#[must_use]
pub fn series() -> BTreeMap<String, (Metric, Vec<&'static str>)> {
    let mut all: BTreeMap<String, (Metric, Vec<&'static str>)> = BTreeMap::new();
    for exporter in exporters() {
        for metric in &exporter.metrics {
            for name in std::iter::once(metric.name).chain(metric.alias) {
                for series in names(name, metric.kind) {
                    let (_, by) = all.entry(series).or_insert((*metric, Vec::new()));
                    by.push(exporter.name);
                }
            }
        }
    }
    all
}

fn names(name: &str, kind: Kind) -> Vec<String> {
    match kind {
        Kind::Histogram(_) => ["_bucket", "_sum", "_count"]
            .map(|part| format!("{name}{part}"))
            .to_vec(),
        Kind::Counter | Kind::Gauge => vec![name.to_owned()],
    }
}
