//! What is shown of a service, from two looks at it. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::page::Page;
use crate::freshness::Freshness;

const FRESHNESS: &str = "engage_freshness_seconds_bucket";

/// One look at a service.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub(super) name: String,
    /// When, since some beginning.
    pub(super) at: Duration,
    pub(super) ready: Readiness,
    /// The values of its `/metrics`, if it answered.
    pub(super) metrics: Option<Metrics>,
}

/// What `/metrics` said.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics {
    page: Page,
    freshness: Freshness,
}

impl Metrics {
    pub(super) fn parse(text: &str) -> Self {
        let page = Page::parse(text);
        let sinks = page.by(FRESHNESS, "sink");
        let freshness = sinks
            .keys()
            .map(|sink| Freshness::parse(text, sink))
            .reduce(|a, b| a.plus(&b))
            .unwrap_or_default();
        Self { page, freshness }
    }
}

/// What `/readyz` said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "reasons")]
pub(super) enum Readiness {
    /// Every condition holds.
    Ready,
    /// These do not.
    NotReady(Vec<String>),
    /// It did not answer.
    Away(Vec<String>),
}

/// What is shown of a service; absent is what it does not tell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Shown {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) ready: Readiness,
    /// Records taken a second.
    pub(super) rate: Option<f64>,
    /// Commit to visible, upper bounds of histogram buckets.
    pub(super) freshness_p50_seconds: Option<f64>,
    pub(super) freshness_p99_seconds: Option<f64>,
    /// Age of the oldest record that is not done.
    pub(super) behind_seconds: Option<f64>,
    /// Records that are not done.
    pub(super) lag: Option<f64>,
    /// Failed writes and attempts since the look before.
    pub(super) new_errors: Option<f64>,
    /// The same since the process started.
    pub(super) errors: Option<f64>,
    /// Dead letters since the process started.
    pub(super) dead_letters: Option<f64>,
    /// Partitions that it has, and those of them that are stopped.
    pub(super) partitions: Option<f64>,
    pub(super) stopped: Option<f64>,
    /// Endpoints whose breaker is not closed, and how it is.
    pub(super) breakers: BTreeMap<String, &'static str>,
    pub(super) resident_bytes: Option<f64>,
}

impl Shown {
    /// By the last look, and the one before it.
    pub(super) fn of(now: &Look, before: Option<&Look>) -> Self {
        let seconds = before.map_or(0.0, |before| now.at.saturating_sub(before.at).as_secs_f64());
        let before = before.and_then(|look| look.metrics.as_ref());
        let nothing = Metrics::default();
        let metrics = now.metrics.as_ref().unwrap_or(&nothing);
        let page = &metrics.page;
        let more = |name: &str| {
            let (now, before) = (page.sum(name)?, before?.page.sum(name).unwrap_or(0.0));
            Some(grown(now, before))
        };
        let observed = match before {
            Some(before) if before.freshness.count() <= metrics.freshness.count() => {
                metrics.freshness.since(&before.freshness)
            }
            _ => metrics.freshness.clone(),
        };
        Self {
            name: now.name.clone(),
            ready: now.ready.clone(),
            rate: more("engage_events_consumed_total")
                .filter(|_| seconds > 0.0)
                .map(|count| count / seconds),
            freshness_p50_seconds: observed.quantile(0.5),
            freshness_p99_seconds: observed.quantile(0.99),
            behind_seconds: page.max("engage_behind_seconds"),
            lag: page.sum("engage_consumer_lag"),
            new_errors: more("engage_sink_errors_total"),
            errors: page.sum("engage_sink_errors_total"),
            dead_letters: page.sum("engage_dead_letters_total"),
            partitions: page.sum("engage_partitions_assigned"),
            stopped: page.sum("engage_lane_stopped"),
            breakers: page
                .by("engage_breaker_state", "endpoint")
                .into_iter()
                .filter_map(|(endpoint, state)| Some((endpoint, breaker(state)?)))
                .collect(),
            resident_bytes: page.sum("process_resident_memory_bytes"),
        }
    }

    /// The word about it.
    pub(super) fn word(&self) -> &'static str {
        match self.ready {
            Readiness::Ready => "ready",
            Readiness::NotReady(_) => "not ready",
            Readiness::Away(_) => "away",
        }
    }

    /// Why it is not ready.
    pub(super) fn reasons(&self) -> &[String] {
        match &self.ready {
            Readiness::Ready => &[],
            Readiness::NotReady(reasons) | Readiness::Away(reasons) => reasons,
        }
    }
}

/// What came since; a counter that is lower was begun anew.
fn grown(now: f64, before: f64) -> f64 {
    if now >= before { now - before } else { now }
}

/// `None`: closed, as it should be.
fn breaker(state: f64) -> Option<&'static str> {
    match state {
        s if s < 0.5 => None,
        s if s < 1.5 => Some("half-open"),
        s if s < 2.5 => Some("open"),
        _ => Some("disabled"),
    }
}

/// The failing conditions of a `/readyz`.
pub(super) fn reasons(report: &serde_json::Value) -> Vec<String> {
    let conditions = report["conditions"].as_array().into_iter().flatten();
    let failing = conditions.filter(|condition| condition["ok"] == false);
    let text =
        |value: &serde_json::Value, otherwise: &str| value.as_str().unwrap_or(otherwise).to_owned();
    failing
        .map(|condition| {
            format!(
                "{}: {}",
                text(&condition["name"], "?"),
                text(&condition["reason"], "no reason given")
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: u64, text: &str) -> Look {
        Look {
            name: "webhook-forwarder".into(),
            at: Duration::from_secs(at),
            ready: Readiness::Ready,
            metrics: Some(Metrics::parse(text)),
        }
    }

    const BEFORE: &str = "\
engage_events_consumed_total{topic=\"a\"} 100
engage_events_consumed_total{topic=\"b\"} 50
engage_sink_errors_total{sink=\"x\",kind=\"timeout\"} 3
engage_freshness_seconds_bucket{sink=\"x\",le=\"0.1\"} 10
engage_freshness_seconds_bucket{sink=\"x\",le=\"+Inf\"} 10
";
    const NOW: &str = "\
engage_events_consumed_total{topic=\"a\"} 290
engage_events_consumed_total{topic=\"b\"} 60
engage_sink_errors_total{sink=\"x\",kind=\"timeout\"} 5
engage_freshness_seconds_bucket{sink=\"x\",le=\"0.1\"} 10
engage_freshness_seconds_bucket{sink=\"x\",le=\"0.5\"} 30
engage_freshness_seconds_bucket{sink=\"x\",le=\"+Inf\"} 30
engage_breaker_state{endpoint=\"crm\"} 2
engage_breaker_state{endpoint=\"ok\"} 0
engage_behind_seconds{partition=\"0\"} 1.5
engage_behind_seconds{partition=\"1\"} 4
engage_lane_stopped{partition=\"1\"} 1
";

    #[test]
    fn rates_errors_and_freshness_are_those_since_the_look_before() {
        let shown = Shown::of(&look(20, NOW), Some(&look(10, BEFORE)));
        assert_eq!(shown.rate, Some(20.0));
        assert_eq!((shown.new_errors, shown.errors), (Some(2.0), Some(5.0)));
        assert_eq!(
            shown.freshness_p50_seconds,
            Some(0.5),
            "the first ten were before"
        );
        assert_eq!(shown.behind_seconds, Some(4.0));
        assert_eq!(shown.stopped, Some(1.0));
        assert_eq!(shown.breakers, [("crm".to_owned(), "open")].into());
    }

    #[test]
    fn a_process_that_was_started_anew_has_no_negative_rate() {
        let shown = Shown::of(&look(20, BEFORE), Some(&look(10, NOW)));
        assert_eq!(shown.rate, Some(15.0));
        assert_eq!(shown.freshness_p50_seconds, Some(0.1));
    }

    #[test]
    fn the_first_look_gives_no_rate_and_a_service_that_is_away_gives_nothing() {
        let shown = Shown::of(&look(20, NOW), None);
        assert_eq!((shown.rate, shown.new_errors), (None, None));
        let away = Look {
            ready: Readiness::Away(vec!["connection refused".into()]),
            metrics: None,
            ..look(20, "")
        };
        let shown = Shown::of(&away, Some(&look(10, NOW)));
        assert_eq!(
            (shown.rate, shown.lag, shown.freshness_p50_seconds),
            (None, None, None)
        );
        assert_eq!(
            (shown.word(), shown.reasons()),
            ("away", &["connection refused".to_owned()][..])
        );
    }

    #[test]
    fn every_failing_condition_is_a_reason() {
        let report = serde_json::json!({"conditions": [{"name": "kafka", "ok": true},
            {"name": "redis", "ok": false, "reason": "refused"}, {"name": "lanes", "ok": false}]});
        assert_eq!(
            reasons(&report),
            ["redis: refused", "lanes: no reason given"]
        );
    }
}
