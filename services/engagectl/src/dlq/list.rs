//! Lists and counts of letters, for people and for programs. Pure.
//!
//! Invariant: what is left out is counted, and said.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use engagement::event::Micros;
use serde_json::{Value, json};

use super::topics::{Found, Summary};
use crate::cli::Output;

/// The letters, the newest `limit` of them.
pub(super) fn letters(found: &Found, limit: usize, output: Output) -> String {
    let mut newest: Vec<&Summary> = found.letters.iter().collect();
    newest.sort_by_key(|letter| letter.failed_at);
    let left_out = newest.len().saturating_sub(limit);
    let shown = &newest[left_out..];
    let left_out = found.more + left_out as u64;
    match output {
        Output::Json => {
            let letters: Vec<Value> = shown.iter().map(|letter| value(found, letter)).collect();
            format!(
                "{:#}\n",
                json!({ "letters": letters, "left_out": left_out })
            )
        }
        Output::Table => text(found, shown, left_out),
    }
}

fn text(found: &Found, shown: &[&Summary], left_out: u64) -> String {
    let mut text = String::new();
    for letter in shown {
        let origin = letter
            .origin
            .as_ref()
            .map_or_else(|| "unknown".to_owned(), ToString::to_string);
        let redriven = match (found.sent_to(letter), letter.redrives) {
            (Some(place), _) => format!("  redriven to {place}"),
            (None, 0) => String::new(),
            (None, times) => format!("  failed again after {times} redrives"),
        };
        let _ = writeln!(
            text,
            "{}  {:<24} {}:{}  {:<18} from {origin}{redriven}\n    {}",
            letter.failed_at,
            letter.consumer(),
            letter.at.partition,
            letter.at.offset,
            letter.reason,
            one_line(&letter.message)
        );
    }
    let _ = match (shown.len(), left_out) {
        (0, 0) => writeln!(text, "no letters"),
        (count, 0) => writeln!(text, "{count} letters"),
        (count, more) => writeln!(
            text,
            "{count} letters, {more} older ones left out (--limit)"
        ),
    };
    text
}

/// Messages quote records, which may hold anything.
pub(super) fn one_line(message: &str) -> String {
    message
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn value(found: &Found, letter: &Summary) -> Value {
    json!({
        "at": letter.at.to_string(),
        "service": letter.service,
        "endpoint": letter.endpoint,
        "reason": letter.reason,
        "message": letter.message,
        "failed_at": letter.failed_at.to_string(),
        "attempts": letter.attempts,
        "origin": letter.origin.as_ref().map(ToString::to_string),
        "content_id": letter.content,
        "bytes": letter.bytes,
        "redrives": letter.redrives,
        "redriven_to": found.sent_to(letter).map(ToString::to_string),
    })
}

/// Letters of one service or endpoint with one reason.
#[derive(Debug)]
struct Group<'a> {
    letters: u64,
    redriven: u64,
    first: Micros,
    last: Micros,
    sample: &'a Summary,
}

/// By service or endpoint, and reason.
type Groups<'a> = BTreeMap<(String, &'a str), Group<'a>>;

fn groups(found: &Found) -> Groups<'_> {
    let mut groups = Groups::new();
    for letter in &found.letters {
        let redriven = u64::from(found.sent_to(letter).is_some());
        let group = groups
            .entry((letter.consumer(), letter.reason.as_str()))
            .or_insert(Group {
                letters: 0,
                redriven: 0,
                first: letter.failed_at,
                last: letter.failed_at,
                sample: letter,
            });
        group.letters += 1;
        group.redriven += redriven;
        group.first = group.first.min(letter.failed_at);
        if letter.failed_at >= group.last {
            (group.last, group.sample) = (letter.failed_at, letter);
        }
    }
    groups
}

/// How many there are, by service and reason.
pub(super) fn stats(found: &Found, output: Output) -> String {
    let groups = groups(found);
    match output {
        Output::Json => format!("{:#}\n", stats_value(found, &groups)),
        Output::Table => stats_text(found, &groups),
    }
}

fn stats_value(found: &Found, groups: &Groups<'_>) -> Value {
    let groups: Vec<Value> = groups
        .iter()
        .map(|((consumer, reason), group)| {
            json!({
                "service": consumer, "reason": reason, "letters": group.letters, "redriven": group.redriven,
                "first": group.first.to_string(), "last": group.last.to_string(), "sample": value(found, group.sample),
            })
        })
        .collect();
    json!({ "groups": groups, "left_out": found.more })
}

fn stats_text(found: &Found, groups: &Groups<'_>) -> String {
    let mut text = String::new();
    for ((consumer, reason), group) in groups {
        let Group {
            letters,
            redriven,
            first,
            last,
            sample,
        } = group;
        let _ = writeln!(
            text,
            "{consumer:<24} {reason:<18} {letters:>7}  {redriven:>7} redriven  {first} to {last}\n    {}:{}  {}",
            sample.at.partition,
            sample.at.offset,
            one_line(&sample.message)
        );
    }
    let (letters, more) = (found.letters.len(), found.more);
    let _ = match (letters, more) {
        (0, 0) => writeln!(text, "no letters"),
        (_, 0) => writeln!(text, "{letters} letters"),
        (_, more) => writeln!(
            text,
            "{letters} letters, and {more} more that were not looked at: narrow with --since"
        ),
    };
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::dlq::redrive::Progress;
    use stream::dead_letter::RedriveMark;

    /// A letter of the enricher at partition 3 of its topic.
    pub(in crate::dlq) fn summary(offset: i64, reason: &str) -> Summary {
        Summary {
            at: format!("engagement.dlq.enricher/3/{offset}")
                .parse()
                .unwrap(),
            service: "enricher".into(),
            endpoint: None,
            origin: format!("cdc/3/{}", offset + 100).parse().ok(),
            reason: reason.into(),
            message: "it ends\nhere".into(),
            failed_at: Micros(offset * 1_000_000),
            attempts: Some(1),
            redrives: 0,
            epoch: Some(0),
            content: Some("c1".into()),
            bytes: 7,
            still_rejected: None,
        }
    }

    fn found() -> Found {
        let mut found = Found {
            letters: [(1, "a"), (2, "b"), (3, "a")]
                .map(|(offset, reason)| summary(offset, reason))
                .to_vec(),
            ..Found::default()
        };
        let mut progress = Progress::default();
        let done = RedriveMark::Done {
            run: "r".into(),
            letter: 2,
            sent_to: "cdc/3/500".parse().unwrap(),
        };
        progress.take(Some(done), 0);
        let partition = ("engagement.dlq.enricher".to_owned(), 3);
        found.progress.insert(partition, progress);
        found
    }

    #[test]
    fn the_newest_letters_are_shown_last_and_what_is_left_out_is_counted() {
        let text = letters(&found(), 2, Output::Table);
        assert!(!text.contains("3:1 "), "{text}");
        assert!(text.find("3:2 ").unwrap() < text.find("3:3 ").unwrap());
        assert!(text.contains("redriven to cdc/3/500"));
        assert!(text.contains("1 older ones left out"));
        assert!(text.contains("it ends here"), "one line each: {text}");
        let value: Value = serde_json::from_str(&letters(&found(), 2, Output::Json)).unwrap();
        assert_eq!(value["left_out"], 1);
        assert_eq!(value["letters"][0]["redriven_to"], "cdc/3/500");
        assert_eq!(value["letters"][1]["origin"], "cdc/3/103");
    }

    #[test]
    fn letters_are_counted_by_service_and_reason_with_the_last_as_sample() {
        let value: Value = serde_json::from_str(&stats(&found(), Output::Json)).unwrap();
        let groups = value["groups"].as_array().unwrap();
        assert_eq!(groups.len(), 2);
        assert_eq!(
            (&groups[0]["reason"], &groups[0]["letters"]),
            (&json!("a"), &json!(2))
        );
        assert_eq!(groups[0]["first"], "1970-01-01T00:00:01Z");
        assert_eq!(groups[0]["last"], "1970-01-01T00:00:03Z");
        assert_eq!(groups[0]["sample"]["at"], "engagement.dlq.enricher/3/3");
        assert_eq!(groups[1]["redriven"], 1);
        assert!(stats(&Found::default(), Output::Table).contains("no letters"));
    }
}
