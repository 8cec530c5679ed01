//! The Prometheus recorder and the text of `/metrics`.
//! Invariant: every alias shows exactly the samples of the metric it stands for.

use std::time::Duration;

use ::metrics::gauge;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::metrics::{self, Kind, Metric};
use crate::{App, Failure, Health};

/// Histograms keep raw samples until upkeep folds them into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// Everything measured in this process.
#[derive(Clone, Debug)]
pub(crate) struct Exposition {
    handle: PrometheusHandle,
    /// Ours and theirs.
    aliases: Vec<(&'static str, &'static str)>,
}

impl Exposition {
    /// Installs the recorder of this process, with all that the service exports.
    pub(crate) fn install<A: App>() -> Result<Self, Failure> {
        let all: Vec<Metric> = [metrics::PROCESS]
            .iter()
            .chain(A::METRICS)
            .flat_map(|list| list.iter().copied())
            .collect();
        let handle = recorder(&all)?;
        for metric in &all {
            metric.begin(A::NAME);
        }
        gauge!(metrics::BUILD_INFO, "version" => crate::VERSION, "git_sha" => crate::GIT_SHA)
            .set(1.0);
        gauge!(metrics::START_TIME).set(now_seconds());
        let alias = |metric: &Metric| metric.alias.map(|alias| (metric.name, alias));
        Ok(Self {
            handle,
            aliases: all.iter().filter_map(alias).collect(),
        })
    }

    /// The text of `/metrics`.
    pub(crate) fn render(&self, health: &Health) -> String {
        if let Some(bytes) = resident_memory() {
            gauge!(metrics::RESIDENT_MEMORY).set(bytes);
        }
        for condition in health.ready().conditions {
            gauge!(metrics::READY, "condition" => condition.name)
                .set(f64::from(u8::from(condition.ok)));
        }
        with_aliases(self.handle.render(), &self.aliases)
    }

    /// Folds histograms for ever.
    pub(crate) async fn upkeep(self) {
        let mut tick = tokio::time::interval(UPKEEP);
        loop {
            tick.tick().await;
            self.handle.run_upkeep();
        }
    }
}

/// The recorder, with the buckets of every histogram. What no list names has buckets by its ending.
fn recorder(all: &[Metric]) -> Result<PrometheusHandle, Failure> {
    let failed = |error| Failure::internal("cannot install the metrics").cause(error);
    let listed = all.iter().filter_map(|metric| match metric.kind {
        Kind::Histogram(buckets) => Some((Matcher::Full(metric.name.into()), buckets)),
        Kind::Counter | Kind::Gauge => None,
    });
    let by_ending = [
        (Matcher::Suffix("_seconds".into()), metrics::SECONDS_BUCKETS),
        (Matcher::Suffix("_rows".into()), metrics::ROWS_BUCKETS),
    ];
    let builder = listed
        .chain(by_ending)
        .try_fold(PrometheusBuilder::new(), |builder, (matcher, values)| {
            builder.set_buckets_for_metric(matcher, values)
        })
        .map_err(failed)?;
    builder.install_recorder().map_err(failed)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a time of day; exact to the microsecond until the year 2255"
)]
fn now_seconds() -> f64 {
    crate::clock::now() as f64 / 1e6
}

/// Bytes, from the kernel's own figure in kB (`statm` counts pages, whose size differs between machines).
fn resident_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u32 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(f64::from(kilobytes) * 1024.0)
}

fn with_aliases(mut text: String, aliases: &[(&str, &str)]) -> String {
    let mut added = String::new();
    for (ours, theirs) in aliases {
        for line in text.lines() {
            if let Some((before, after)) = split_name(line, ours) {
                added.extend([before, theirs, after, "\n"]);
            }
        }
    }
    text.push_str(&added);
    text
}

/// What stands before and after `name` in a line of its family.
fn split_name<'a>(line: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let before = ["# HELP ", "# TYPE "]
        .into_iter()
        .find(|comment| line.starts_with(comment))
        .unwrap_or("");
    let after = line[before.len()..].strip_prefix(name)?;
    let family = after.starts_with([' ', '{'])
        || ["_bucket", "_sum", "_count"]
            .iter()
            .any(|part| after.starts_with(part));
    family.then(|| (&line[..before.len()], after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_repeat_the_family_and_nothing_else() {
        let text = "# TYPE engage_freshness_seconds histogram\nengage_freshness_seconds_bucket{sink=\"redis\",le=\"1\"} 2\n\
                    engage_freshness_seconds_count{sink=\"redis\"} 2\nengage_freshness_seconds_other 1\nengage_behind_seconds{topic=\"t\"} 0.5\n";
        let aliases = [
            ("engage_freshness_seconds", "processing_latency_seconds"),
            ("engage_behind_seconds", "kafka_lag_seconds"),
        ];
        let with = with_aliases(text.to_owned(), &aliases);
        assert_eq!(
            with.strip_prefix(text).unwrap(),
            "# TYPE processing_latency_seconds histogram\nprocessing_latency_seconds_bucket{sink=\"redis\",le=\"1\"} 2\n\
             processing_latency_seconds_count{sink=\"redis\"} 2\nkafka_lag_seconds{topic=\"t\"} 0.5\n"
        );
    }

    #[test]
    fn memory_is_read_from_the_kernel() {
        let bytes = resident_memory().unwrap();
        assert!(bytes > 1e6 && bytes < 1e11, "{bytes}");
    }
}
