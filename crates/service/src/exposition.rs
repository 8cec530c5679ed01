//! The Prometheus recorder and the text of `/metrics`.
//! Invariant: every alias shows exactly the samples of the metric it stands for.

use std::time::Duration;

use ::metrics::gauge;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::{Failure, metrics};

/// Histograms keep raw samples until upkeep folds them into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// Everything measured in this process.
#[derive(Clone, Debug)]
pub(crate) struct Exposition {
    handle: PrometheusHandle,
}

impl Exposition {
    /// Installs the recorder of this process.
    pub(crate) fn install() -> Result<Self, Failure> {
        let failed = |error| Failure::internal("cannot install the metrics").cause(error);
        let buckets = [
            (
                Matcher::Full(metrics::FRESHNESS.into()),
                metrics::FRESHNESS_BUCKETS,
            ),
            (Matcher::Full(metrics::STAGE.into()), metrics::STAGE_BUCKETS),
            (
                Matcher::Full(metrics::SINK_BATCH_ROWS.into()),
                metrics::ROWS_BUCKETS,
            ),
            (Matcher::Suffix("_seconds".into()), metrics::SECONDS_BUCKETS),
            (Matcher::Suffix("_rows".into()), metrics::ROWS_BUCKETS),
        ];
        let builder = buckets
            .into_iter()
            .try_fold(PrometheusBuilder::new(), |builder, (matcher, values)| {
                builder.set_buckets_for_metric(matcher, values)
            })
            .map_err(failed)?;
        let handle = builder.install_recorder().map_err(failed)?;
        metrics::describe();
        metrics::begin_traces();
        gauge!(metrics::BUILD_INFO, "version" => crate::VERSION, "git_sha" => crate::GIT_SHA)
            .set(1.0);
        Ok(Self { handle })
    }

    /// The text of `/metrics`.
    pub(crate) fn render(&self) -> String {
        if let Some(bytes) = resident_memory() {
            gauge!(metrics::RESIDENT_MEMORY).set(bytes);
        }
        with_aliases(self.handle.render())
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

/// Bytes, from the kernel's own figure in kB (`statm` counts pages, whose size differs between machines).
fn resident_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u32 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(f64::from(kilobytes) * 1024.0)
}

fn with_aliases(mut text: String) -> String {
    let mut aliases = String::new();
    for (ours, theirs) in metrics::ALIASES {
        for line in text.lines() {
            if let Some((before, after)) = split_name(line, ours) {
                aliases.extend([before, theirs, after, "\n"]);
            }
        }
    }
    text.push_str(&aliases);
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
        let with = with_aliases(text.to_owned());
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
