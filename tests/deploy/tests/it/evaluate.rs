//! What the queries of autoscalers answer, by Prometheus' own tool.

use std::process::Command;

use serde_json::json;

/// A series and its value.
pub(crate) type Series = (String, u32);

pub(crate) fn behind(group: &str, partition: u32, seconds: u32) -> Series {
    lane(stream::metrics::BEHIND_SECONDS, group, partition, seconds)
}

pub(crate) fn stopped(group: &str, partition: u32) -> Series {
    lane(stream::metrics::LANE_STOPPED, group, partition, 1)
}

pub(crate) fn breaker(endpoint: &str, state: u32) -> Series {
    let metric = webhook_forwarder::metrics::BREAKER;
    let labels = format!("namespace=\"engage\",endpoint=\"{endpoint}\"");
    (format!("{metric}{{{labels}}}"), state)
}

/// Prometheus' own tool evaluates a query: each case is a name, series, and the one answer (`None`: no data, which KEDA takes for
/// an error).
pub(crate) fn assert_answers(query: &str, cases: &[(&str, Vec<Series>, Option<u32>)]) {
    let test = |(name, series, answer): &(&str, Vec<Series>, Option<u32>)| {
        let series = series.iter();
        let series = series.map(|(series, value)| json!({"series": series, "values": value}));
        let sample = answer.map(|value| json!({"labels": "{}", "value": value}));
        let samples: Vec<_> = sample.into_iter().collect();
        json!({
            "name": name,
            "input_series": series.collect::<Vec<_>>(),
            "promql_expr_test": [{"expr": query, "eval_time": "0s", "exp_samples": samples}],
        })
    };
    let tests: Vec<_> = cases.iter().map(test).collect();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("scaling.json");
    std::fs::write(&file, json!({ "tests": tests }).to_string()).unwrap();
    let run = Command::new("promtool")
        .args(["test", "rules"])
        .arg(&file)
        .output();
    let output = run.unwrap_or_else(|error| {
        panic!("promtool: {error}; it comes with deploy/provision/provision.sh --dev")
    });
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
}

fn lane(metric: &str, group: &str, partition: u32, value: u32) -> Series {
    let labels =
        format!("namespace=\"engage\",group=\"{group}\",topic=\"a\",partition=\"{partition}\"");
    (format!("{metric}{{{labels}}}"), value)
}
