//! How far a partition is applied, as it stands in Redis beside the sums it vouches for.
//!
//! Invariant: the position and the sums change in the same script, so the one always describes the other.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use engagement::event::{Micros, Position};

use crate::history::History;

/// How far a partition is applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Applied {
    /// Source position of the last applied record; `None` before the first.
    pub source: Option<Position>,
    /// Source position that the record at `enriched` carries, for the proof on resume. It differs from `source` when
    /// that record was dropped as a duplicate; `None` when it could not be read, or there is none.
    pub before: Option<Position>,
    /// Offset of the last record done in the enriched topic; reading goes on at the next. One below the first offset
    /// before the first record.
    pub enriched: i64,
}

impl Applied {
    /// Before the first record, which stands at `first` in the enriched topic.
    #[must_use]
    pub const fn nothing_before(first: i64) -> Self {
        Self {
            source: None,
            before: None,
            enriched: first - 1,
        }
    }
}

impl fmt::Display for Applied {
    /// `live/0/3/41@57`; `live/0/3/41~live/0/3/40@57` after a duplicate; `-@-1` before the first record.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_position(f, self.source)?;
        if self.before != self.source {
            f.write_str("~")?;
            write_position(f, self.before)?;
        }
        write!(f, "@{}", self.enriched)
    }
}

fn write_position(f: &mut fmt::Formatter<'_>, position: Option<Position>) -> fmt::Result {
    match position {
        Some(position) => write!(f, "{position}"),
        None => f.write_str("-"),
    }
}

/// As much of a text as a message quotes of it.
pub(crate) fn beginning(text: &str) -> String {
    text.chars().take(80).collect()
}

impl FromStr for Applied {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || {
            let found = beginning(text);
            format!("position {found:?} is not <source>@<offset>, such as live/0/3/41@57")
        };
        let position = |part: &str| match part {
            "-" => Ok(None),
            part => part.parse().map(Some).map_err(|_| bad()),
        };
        let (chain, enriched) = text.split_once('@').ok_or_else(bad)?;
        let (source, before) = chain.split_once('~').unwrap_or((chain, chain));
        Ok(Self {
            source: position(source)?,
            before: position(before)?,
            enriched: enriched.parse().map_err(|_| bad())?,
        })
    }
}

/// Everything `eng:{p}:pos` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// How far the partition is applied.
    pub applied: Applied,
    /// What kinds of records were counted.
    pub history: History,
    /// The watermark, as a bucket number.
    pub watermark: i64,
    /// The newest commit applied.
    pub newest_commit: Option<Micros>,
    /// Length of a bucket in microseconds, fixed when the state was made.
    pub bucket_us: i64,
    /// Kafka cluster and topic that the state was made from.
    pub origin: String,
}

impl State {
    /// Reads the fields of `eng:{p}:pos`.
    ///
    /// # Errors
    /// A field is missing or does not parse: the key is not ours or was edited.
    pub fn parse(fields: &HashMap<String, String>) -> Result<Self, String> {
        let field = |name: &str| {
            fields
                .get(name)
                .ok_or_else(|| format!("field {name} is missing"))
        };
        let number = |name: &str| {
            let text = field(name)?;
            text.parse::<i64>()
                .map_err(|_| format!("field {name} holds {text:?}, not a whole number"))
        };
        let commit = number("commit")?;
        Ok(Self {
            applied: field("at")?.parse()?,
            history: field("history")?.parse()?,
            watermark: number("hi")?,
            newest_commit: (commit != 0).then_some(Micros(commit)),
            bucket_us: number("bucket")?,
            origin: field("origin")?.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stored_form_reads_back() {
        for text in [
            "-@-1",
            "live/0/3/41@57",
            "live/0/3/41~live/0/3/40@57",
            "live/0/3/41~-@57",
            "-~live/0/3/40@57",
        ] {
            assert_eq!(text.parse::<Applied>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_text_that_is_no_position_is_named() {
        for text in ["", "live/0/3/41", "live/0/3@1", "-@x"] {
            assert!(text.parse::<Applied>().unwrap_err().contains(text));
        }
    }

    #[test]
    fn a_state_without_a_field_says_which() {
        let mut fields: HashMap<String, String> = [
            ("at", "-@-1"),
            ("history", "empty"),
            ("hi", "1"),
            ("commit", "0"),
            ("bucket", "10000000"),
            ("origin", "c/t"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into();
        assert_eq!(State::parse(&fields).unwrap().newest_commit, None);
        fields.remove("hi");
        assert_eq!(State::parse(&fields).unwrap_err(), "field hi is missing");
    }
}
