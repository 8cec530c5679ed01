//! What is shown, as lines and as cells. Pure.

use serde_json::{Value, json};

use super::state::Shown;
use crate::demo::seconds;

/// The headings of the cells.
pub(super) const HEADINGS: [&str; 10] = [
    "service", "rate", "p50", "p99", "behind", "lag", "errors", "letters", "memory", "state",
];

/// The cells of a service, in the order of [`HEADINGS`].
pub(super) fn cells(shown: &Shown) -> [String; 10] {
    let count =
        |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.0}"));
    let errors = match (shown.errors, shown.new_errors) {
        (Some(all), Some(new)) if new > 0.0 => format!("{all:.0} (+{new:.0})"),
        (all, _) => count(all),
    };
    [
        shown.name.clone(),
        shown
            .rate
            .map_or_else(|| "-".to_owned(), |rate| format!("{rate:.0}/s")),
        seconds(shown.freshness_p50_seconds),
        seconds(shown.freshness_p99_seconds),
        seconds(shown.behind_seconds),
        count(shown.lag),
        errors,
        count(shown.dead_letters),
        shown.resident_bytes.map_or_else(
            || "-".to_owned(),
            |bytes| format!("{:.0} MiB", bytes / 1_048_576.0),
        ),
        shown.word().to_owned(),
    ]
}

/// Why services are not ready.
pub(super) fn reasons(all: &[Shown]) -> Vec<String> {
    let of = |shown: &Shown| {
        let named = |reason: &String| format!("{}: {}", shown.name, printable(reason));
        shown.reasons().iter().map(named).collect::<Vec<_>>()
    };
    all.iter().flat_map(of).collect()
}

/// What else is not as it should be.
pub(super) fn troubles(all: &[Shown]) -> Vec<String> {
    let mut troubles = Vec::new();
    for shown in all {
        let stopped = shown.stopped.filter(|count| *count > 0.0);
        troubles.extend(stopped.map(|count| {
            format!(
                "{}: {count:.0} partitions are stopped; engagectl lineage show says why",
                shown.name
            )
        }));
        let breakers = shown.breakers.iter();
        troubles.extend(breakers.map(|(endpoint, state)| {
            format!(
                "{}: the breaker of endpoint {} is {state}",
                shown.name,
                printable(endpoint)
            )
        }));
    }
    troubles
}

/// One line for each service, where there is no screen.
pub(super) fn lines(all: &[Shown], at: &str) -> String {
    let mut text = String::new();
    for shown in all {
        let [
            name,
            rate,
            p50,
            p99,
            behind,
            lag,
            errors,
            letters,
            memory,
            mut state,
        ] = cells(shown);
        if !shown.reasons().is_empty() {
            state = format!("{state}: {}", printable(&shown.reasons().join("; ")));
        }
        text += &format!(
            "{at} {name} rate {rate} p50 {p50} p99 {p99} behind {behind} lag {lag} errors {errors} letters {letters} \
             memory {memory} {state}\n"
        );
    }
    for trouble in troubles(all) {
        text += &format!("{at} {trouble}\n");
    }
    text
}

/// For a program.
pub(super) fn json(all: &[Shown], at: &str) -> Value {
    json!({ "at": at, "services": all })
}

/// A reason may quote what a server said.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::state::{Look, Metrics, Readiness};
    use super::*;

    fn shown(ready: Readiness) -> Shown {
        let text = "engage_consumer_lag 12\nengage_breaker_state{endpoint=\"crm\"} 2\nengage_lane_stopped 2\n\
                    process_resident_memory_bytes 10485760\n";
        let look = Look {
            name: "webhook-forwarder".into(),
            at: std::time::Duration::from_secs(1),
            ready,
            metrics: Some(Metrics::parse(text)),
        };
        Shown::of(&look, None)
    }

    #[test]
    fn a_line_names_the_service_and_everything_about_it() {
        let text = lines(&[shown(Readiness::Ready)], "T");
        for part in [
            "T webhook-forwarder rate - p50 -",
            "lag 12",
            "memory 10 MiB ready\n",
            "endpoint crm is open",
            "2 partitions are stopped",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
    }

    #[test]
    fn what_a_server_said_cannot_break_the_line() {
        let said = Readiness::NotReady(vec!["kafka: a\nb\u{1b}[2J".into()]);
        let text = lines(&[shown(said)], "T");
        assert!(
            text.lines()
                .next()
                .unwrap()
                .ends_with("not ready: kafka: a b [2J"),
            "{text}"
        );
    }

    #[test]
    fn the_json_form_has_state_and_numbers() {
        let value = json(
            &[
                shown(Readiness::NotReady(vec!["x: y".into()])),
                shown(Readiness::Ready),
            ],
            "T",
        );
        assert_eq!(value["services"][0]["state"], "not_ready");
        assert_eq!(value["services"][0]["reasons"][0], "x: y");
        assert_eq!(value["services"][0]["lag"], 12.0);
        assert_eq!(value["services"][1]["state"], "ready");
        assert_eq!(value["services"][1]["breakers"]["crm"], "open");
    }
}
