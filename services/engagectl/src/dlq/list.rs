//! A list of letters, for people and for programs. Pure.
//!
//! Invariant: what is left out is counted, and said.

use std::fmt::Write as _;

use serde_json::{Value, json};
use stream::dead_letter::Place;

use super::stats::counted;
use super::summary::Summary;
use super::topics::Known;
use crate::cli::Output;

/// Letters that are kept before the older ones go.
const ROOM: usize = 1000;

/// The letters that failed last.
#[derive(Debug)]
pub(super) struct Newest {
    most: usize,
    letters: Vec<Summary>,
    older: u64,
}

impl Newest {
    /// So many at most.
    pub(super) const fn new(most: usize) -> Self {
        Self {
            most,
            letters: Vec::new(),
            older: 0,
        }
    }

    /// One more, in whatever order.
    pub(super) fn add(&mut self, letter: Summary) {
        self.letters.push(letter);
        // not at each letter, so that it costs nothing
        if self.letters.len() >= ROOM + 2 * self.most {
            self.drop_older();
        }
    }

    fn drop_older(&mut self) {
        let older = self.letters.len().saturating_sub(self.most);
        self.letters.sort_by_key(|letter| letter.failed_at);
        self.letters.drain(..older);
        self.older += older as u64;
    }

    /// A list of them, the newest last.
    pub(super) fn shown(mut self, known: &Known, output: Output) -> String {
        self.drop_older();
        match output {
            Output::Json => {
                let value = |letter: &Summary| value(letter, known.sent_to(&letter.at));
                let letters: Vec<Value> = self.letters.iter().map(value).collect();
                format!(
                    "{:#}\n",
                    json!({ "letters": letters, "left_out": self.older })
                )
            }
            Output::Table => text(known, &self.letters, self.older),
        }
    }
}

fn text(known: &Known, shown: &[Summary], left_out: u64) -> String {
    let mut text = String::new();
    for letter in shown {
        let origin = letter
            .origin
            .as_ref()
            .map_or_else(|| "unknown".to_owned(), ToString::to_string);
        let redriven = match (known.sent_to(&letter.at), letter.redrives) {
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
    match left_out {
        0 => text + &counted(shown.len() as u64),
        1 => text + &format!("{} shown, an older one left out (--limit)\n", shown.len()),
        more => {
            text + &format!(
                "{} shown, {more} older ones left out (--limit)\n",
                shown.len()
            )
        }
    }
}

/// Messages quote records, which may hold anything.
pub(super) fn one_line(message: &str) -> String {
    message
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// A letter, and where it was sent to.
pub(super) fn value(letter: &Summary, sent_to: Option<&Place>) -> Value {
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
        "redriven_to": sent_to.map(ToString::to_string),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use engagement::event::Micros;

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
        }
    }

    fn known() -> Known {
        let mut known = Known::default();
        let mut progress = Progress::default();
        let done = RedriveMark::Done {
            run: "r".into(),
            letter: 2,
            sent_to: "cdc/3/500".parse().unwrap(),
        };
        progress.take(Some(done), 0);
        let partition = ("engagement.dlq.enricher".to_owned(), 3);
        known.progress.insert(partition, progress);
        known
    }

    fn newest(of: [i64; 3]) -> Newest {
        let mut newest = Newest::new(2);
        for offset in of {
            newest.add(summary(offset, "a"));
        }
        newest
    }

    #[test]
    fn the_newest_letters_are_shown_last_and_what_is_left_out_is_counted() {
        let text = newest([3, 1, 2]).shown(&known(), Output::Table);
        assert!(!text.contains("3:1 "), "{text}");
        assert!(text.find("3:2 ").unwrap() < text.find("3:3 ").unwrap());
        assert!(text.contains("redriven to cdc/3/500"));
        assert!(text.contains("2 shown, an older one left out"));
        assert!(text.contains("it ends here"), "one line each: {text}");
        let value = newest([1, 2, 3]).shown(&known(), Output::Json);
        let value: Value = serde_json::from_str(&value).unwrap();
        assert_eq!(value["left_out"], 1);
        assert_eq!(value["letters"][0]["redriven_to"], "cdc/3/500");
        assert_eq!(value["letters"][1]["origin"], "cdc/3/103");
    }

    #[test]
    fn a_flood_of_letters_leaves_no_more_than_there_is_room_for() {
        let mut newest = Newest::new(2);
        for offset in 0..10_000 {
            newest.add(summary(offset, "a"));
            assert!(newest.letters.len() <= ROOM + 4);
        }
        let text = newest.shown(&known(), Output::Table);
        assert!(text.contains("9998 older ones"), "{text}");
        assert!(text.contains("3:9999 "), "{text}");
    }
}
