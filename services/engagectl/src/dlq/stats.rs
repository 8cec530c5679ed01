//! Counts of letters by service and reason, for people and for programs. Pure.
//!
//! Invariant: every letter is counted; of each group one is kept, the last.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use engagement::event::Micros;
use serde_json::{Value, json};
use stream::dead_letter::Place;

use super::list::{one_line, value};
use super::summary::Summary;
use crate::cli::Output;

/// By service or endpoint, and reason.
#[derive(Debug, Default)]
pub(super) struct Counts(BTreeMap<(String, String), Group>);

#[derive(Debug)]
struct Group {
    letters: u64,
    redriven: u64,
    first: Micros,
    /// The last one, and where it was sent to.
    sample: (Summary, Option<Place>),
}

impl Counts {
    /// One more, and where it was sent to.
    pub(super) fn add(&mut self, letter: Summary, sent_to: Option<Place>) {
        let (key, failed_at) = ((letter.consumer(), letter.reason.clone()), letter.failed_at);
        let redriven = u64::from(sent_to.is_some());
        let Some(group) = self.0.get_mut(&key) else {
            let group = Group {
                letters: 1,
                redriven,
                first: failed_at,
                sample: (letter, sent_to),
            };
            self.0.insert(key, group);
            return;
        };
        group.letters += 1;
        group.redriven += redriven;
        group.first = group.first.min(failed_at);
        if failed_at >= group.sample.0.failed_at {
            group.sample = (letter, sent_to);
        }
    }

    /// How many nobody has sent back, by service or endpoint.
    pub(super) fn unsent(&self) -> BTreeMap<String, u64> {
        let mut unsent = BTreeMap::new();
        for ((consumer, _), group) in &self.0 {
            *unsent.entry(consumer.clone()).or_insert(0) += group.letters - group.redriven;
        }
        unsent.retain(|_, letters| *letters > 0);
        unsent
    }

    /// How many there are.
    pub(super) fn shown(&self, output: Output) -> String {
        match output {
            Output::Json => format!("{:#}\n", self.value()),
            Output::Table => self.text(),
        }
    }

    fn value(&self) -> Value {
        let group = |((consumer, reason), group): (&(String, String), &Group)| {
            let (sample, sent_to) = &group.sample;
            json!({
                "service": consumer, "reason": reason, "letters": group.letters, "redriven": group.redriven,
                "first": group.first.to_string(), "last": sample.failed_at.to_string(),
                "sample": value(sample, sent_to.as_ref()),
            })
        };
        json!({ "groups": self.0.iter().map(group).collect::<Vec<_>>() })
    }

    fn text(&self) -> String {
        let (mut text, mut all) = (String::new(), 0);
        for ((consumer, reason), group) in &self.0 {
            let Group {
                letters,
                redriven,
                first,
                sample: (sample, _),
            } = group;
            let _ = writeln!(
                text,
                "{consumer:<24} {reason:<18} {letters:>7}  {redriven:>7} redriven  {first} to {}\n    {}:{}  {}",
                sample.failed_at,
                sample.at.partition,
                sample.at.offset,
                one_line(&sample.message)
            );
            all += letters;
        }
        text + &counted(all)
    }
}

/// A line that says how many.
pub(super) fn counted(letters: u64) -> String {
    match letters {
        0 => "no letters\n".to_owned(),
        1 => "1 letter\n".to_owned(),
        letters => format!("{letters} letters\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dlq::list::tests::summary;

    fn counts() -> Counts {
        let mut counts = Counts::default();
        counts.add(summary(3, "a"), None);
        counts.add(summary(1, "a"), None);
        counts.add(summary(2, "b"), "cdc/3/500".parse().ok());
        counts
    }

    #[test]
    fn letters_are_counted_by_service_and_reason_with_the_last_as_sample() {
        let value: Value = serde_json::from_str(&counts().shown(Output::Json)).unwrap();
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
        assert_eq!(groups[1]["sample"]["redriven_to"], "cdc/3/500");
        let text = counts().shown(Output::Table);
        assert!(text.ends_with("\n3 letters\n"), "{text}");
        assert_eq!(Counts::default().shown(Output::Table), "no letters\n");
    }

    #[test]
    fn what_nobody_has_sent_back_is_counted_by_service() {
        let unsent = BTreeMap::from([("enricher".to_owned(), 2)]);
        assert_eq!(counts().unsent(), unsent);
    }
}
