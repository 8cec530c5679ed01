//! The way of an event in words. Pure.

use std::fmt::Write as _;

use super::way::{Change, State, Step, Way};

/// For a program.
pub(super) fn json(way: &Way) -> String {
    let value = serde_json::to_value(way).unwrap_or_default();
    format!("{value:#}")
}

/// For a person.
pub(super) fn text(way: &Way) -> String {
    let mut text = String::new();
    if way.changes.is_empty() {
        let _ = writeln!(text, "event {}: committed", way.event_id);
    }
    for change in &way.changes {
        changed(&mut text, &way.event_id, change);
    }
    if way.in_postgres == Some(false) {
        text += "  the row is no longer in Postgres\n";
    }
    for note in &way.notes {
        let _ = writeln!(text, "  note: {note}");
    }
    text
}

fn changed(text: &mut String, event_id: &str, change: &Change) {
    let transaction = change.tx_id.map(|tx| format!("transaction {tx}, "));
    let _ = writeln!(
        text,
        "event {event_id} {}: committed {} ({}LSN {:X}/{:X})",
        change.operation,
        change.committed_at,
        transaction.unwrap_or_default(),
        change.lsn >> 32,
        change.lsn & 0xffff_ffff
    );
    for step in &change.steps {
        let _ = writeln!(
            text,
            "  {:<18} {:>10}  {}",
            step.name,
            when(step),
            step.detail
        );
    }
    match &change.trace_url {
        Some(url) => {
            let _ = writeln!(text, "  trace {url}");
        }
        None if change.sampled => {
            let _ = writeln!(text, "  trace {} (traced)", change.trace_id);
        }
        None => {
            let _ = writeln!(text, "  trace {} (not traced)", change.trace_id);
        }
    }
    for span in &change.spans {
        let after = (span.start - change.committed_at.0).div_euclid(1000);
        let took = (span.end - span.start).div_euclid(1000);
        let failed = span.attributes.get("error.type");
        let failed = failed.map_or_else(String::new, |kind| format!("  {kind}"));
        let _ = writeln!(
            text,
            "    {:>10} {:>9}  {:<18} {}{failed}",
            format!("+{after} ms"),
            format!("{took} ms"),
            span.service,
            span.name
        );
    }
}

fn when(step: &Step) -> String {
    match (step.state, step.after_ms) {
        (State::Waiting, _) => "waiting".to_owned(),
        (State::Unknown, _) => "unknown".to_owned(),
        (State::DeadLetter, None) => "given up".to_owned(),
        (_, Some(millis)) => format!("+{millis} ms"),
        (State::Done, None) => "done".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use engagement::event::Micros;
    use serde_json::Value;

    use super::*;
    use crate::jaeger::Span;

    fn way() -> Way {
        let step = Step {
            name: "captured".into(),
            state: State::Done,
            at: Some(Micros(1_015_000)),
            after_ms: Some(15),
            detail: "cdc/3 offset 42".into(),
        };
        let change = Change {
            operation: "created",
            committed_at: Micros(1_000_000),
            lsn: 0x1_0000_00ff,
            tx_id: Some(812),
            source: "live/0/3/42".into(),
            trace_id: "abc".into(),
            sampled: true,
            trace_url: Some("http://jaeger/trace/abc".into()),
            steps: vec![step],
            spans: vec![Span {
                service: "enricher".into(),
                name: "capture cdc".into(),
                start: 1_000_000,
                end: 1_015_000,
                ..Span::default()
            }],
        };
        Way {
            event_id: "7".into(),
            in_postgres: Some(true),
            changes: vec![change],
            notes: vec!["Redis sleeps".into()],
        }
    }

    #[test]
    fn every_step_is_a_line_with_its_distance_from_the_commit() {
        let text = text(&way());
        for part in [
            "event 7 created: committed 1970-01-01T00:00:01Z (transaction 812, LSN 1/FF)",
            "captured               +15 ms  cdc/3 offset 42",
            "trace http://jaeger/trace/abc",
            "+0 ms     15 ms  enricher           capture cdc",
            "note: Redis sleeps",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
    }

    #[test]
    fn the_same_is_there_for_programs() {
        let value: Value = serde_json::from_str(&json(&way())).unwrap();
        assert_eq!(
            value["changes"][0]["steps"][0]["at"],
            "1970-01-01T00:00:01.015Z"
        );
        assert_eq!(value["changes"][0]["steps"][0]["state"], "done");
        assert_eq!(value["changes"][0]["spans"][0]["service"], "enricher");
    }
}
