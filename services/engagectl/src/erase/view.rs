//! What a person sees: what was found, and what is left. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};
use stream::dead_letter::{Place as LetterPlace, TOPIC_PREFIX};

use super::receipt::Outcome;
use super::search::Found;
use crate::cli::Output;

/// Without --execute.
pub(super) fn plan(found: &Found, output: Output) -> String {
    match output {
        Output::Table => plan_text(found),
        Output::Json => format!("{:#}\n", plan_value(found)),
    }
}

fn plan_value(found: &Found) -> Value {
    let letters: Vec<String> = found.letters.iter().map(ToString::to_string).collect();
    json!({ "executed": false, "found": found.places, "dead_letters": letters, "purge": purge(&found.letters) })
}

fn plan_text(found: &Found) -> String {
    let mut text = String::new();
    // writing to a String cannot fail
    for place in &found.places {
        let _ = writeln!(
            text,
            "{:<10}  {:<34} {:>8}",
            place.store, place.name, place.count
        );
    }
    letters(&found.letters, &mut text);
    let _ = match found.total() {
        0 => writeln!(text, "nothing is found of this user"),
        _ => writeln!(
            text,
            "nothing was erased; --execute erases, with --postgres null or delete where Postgres has rows"
        ),
    };
    text
}

/// After a run, beside its receipt.
pub(super) fn summary(outcome: &Outcome) -> String {
    let mut text = String::new();
    for place in outcome.before.union(&outcome.after) {
        let left = outcome.after.count(&place);
        let _ = writeln!(
            text,
            "{:<10}  {:<34} {:>8} found, {left} left",
            place.store, place.name, place.count
        );
    }
    for kept in &outcome.kept {
        let _ = match kept.gone_by {
            Some(at) => writeln!(text, "kafka       {:<34} gone by {at}", kept.topic),
            None => writeln!(
                text,
                "kafka       {:<34} kept for ever: its retention has no end",
                kept.topic
            ),
        };
    }
    letters(&outcome.after.letters, &mut text);
    let _ = match outcome.is_complete() {
        true => writeln!(text, "erased"),
        false => writeln!(
            text,
            "not through: something wrote the user again meanwhile; run the same command again"
        ),
    };
    text
}

fn letters(letters: &[LetterPlace], text: &mut String) {
    for place in letters {
        let _ = writeln!(
            text,
            "kafka       {place} is a dead letter that names the user"
        );
    }
    for command in purge(letters) {
        let _ = writeln!(text, "            older letters go with it: {command}");
    }
}

/// What deletes the letters of each partition; whatever is older goes with them.
fn purge(letters: &[LetterPlace]) -> Vec<String> {
    let mut below: BTreeMap<(&str, i32), i64> = BTreeMap::new();
    for place in letters {
        let end = below.entry((&place.topic, place.partition)).or_insert(0);
        *end = (*end).max(place.offset + 1);
    }
    let mut services: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for ((topic, partition), end) in below {
        let service = topic.strip_prefix(TOPIC_PREFIX).unwrap_or(topic);
        let bound = format!("--to-offset {partition}:{end}");
        services.entry(service).or_default().push(bound);
    }
    let commands = services.into_iter().map(|(service, bounds)| {
        format!(
            "engagectl dlq purge --service {service} {} --execute",
            bounds.join(" ")
        )
    });
    commands.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::erase::receipt::tests::outcome;
    use crate::erase::search::Place;

    fn letter(topic: &str, partition: i32, offset: i64) -> LetterPlace {
        LetterPlace {
            topic: topic.into(),
            partition,
            offset,
        }
    }

    #[test]
    fn the_command_that_purges_goes_just_behind_the_last_letter_of_each_partition() {
        let topic = "engagement.dlq.enricher";
        let letters = [
            letter(topic, 3, 17),
            letter(topic, 3, 20),
            letter(topic, 0, 2),
            letter("engagement.dlq.clickhouse-sink", 1, 5),
        ];
        assert_eq!(
            purge(&letters),
            [
                "engagectl dlq purge --service clickhouse-sink --to-offset 1:6 --execute",
                "engagectl dlq purge --service enricher --to-offset 0:3 --to-offset 3:21 --execute",
            ]
        );
    }

    #[test]
    fn a_plan_says_what_is_where_and_that_nothing_was_done() {
        let found = Found {
            places: vec![Place {
                store: "postgres",
                name: "engagement_events".into(),
                count: 3,
            }],
            letters: vec![letter("engagement.dlq.enricher", 3, 17)],
        };
        let text = plan(&found, Output::Table);
        assert!(text.contains("postgres    engagement_events"), "{text}");
        assert!(text.contains("engagement.dlq.enricher/3/17 is a dead letter"));
        assert!(text.contains("nothing was erased; --execute erases"));
        let value: Value = serde_json::from_str(&plan(&found, Output::Json)).unwrap();
        assert_eq!(value["found"][0]["count"], 3);
        assert_eq!(value["executed"], false);
        assert!(plan(&Found::default(), Output::Table).contains("nothing is found"));
    }

    #[test]
    fn a_summary_says_what_is_left_and_when_the_rest_goes() {
        let text = summary(&outcome(0));
        assert!(text.contains("30 found, 0 left"), "{text}");
        assert!(text.contains("gone by 2026-01-08T"), "{text}");
        assert!(text.ends_with("erased\n"), "{text}");
        assert!(summary(&outcome(2)).contains("not through"));
    }
}
