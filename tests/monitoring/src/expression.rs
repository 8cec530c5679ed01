//! What a PromQL expression asks for: names of series, and the labels it selects by. Pure.
//!
//! Invariant: no parser of PromQL, only of its words; a word that is no keyword, function or label is a series.

use std::collections::BTreeSet;

const KEYWORDS: &[&str] = &[
    "and",
    "or",
    "unless",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "offset",
    "bool",
    "inf",
    "nan",
    "start",
    "end",
    "atan2",
];
/// Their labels may stand before what they aggregate: `sum by (job) (..)`.
const AGGREGATIONS: &[&str] = &[
    "sum",
    "min",
    "max",
    "avg",
    "count",
    "group",
    "stddev",
    "stdvar",
    "topk",
    "bottomk",
    "quantile",
    "count_values",
];
/// Their parentheses hold labels.
const GROUPINGS: &[&str] = &[
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
];

/// A series, and a label that it is selected by.
pub type Selection = (String, String);

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Series by name.
    pub series: BTreeSet<String>,
    /// Labels in braces, with the series before them.
    pub selections: BTreeSet<Selection>,
    /// Labels in `by (..)` and its like.
    pub groupings: BTreeSet<String>,
}

/// Reads an expression. Grafana's variables (`$name`, `${name}`, `[$__rate_interval]`) are passed over.
#[must_use]
pub fn read(expression: &str) -> Asked {
    let mut reader = Reader {
        rest: expression,
        asked: Asked::default(),
        last: None,
    };
    while reader.step() {}
    reader.asked
}

struct Reader<'a> {
    rest: &'a str,
    asked: Asked,
    /// The series just read, to which a brace belongs.
    last: Option<String>,
}

impl<'a> Reader<'a> {
    fn step(&mut self) -> bool {
        let Some(first) = self.rest.chars().next() else {
            return false;
        };
        match first {
            '"' | '\'' | '`' => {
                self.quoted(first);
            }
            '{' => self.braces(),
            '[' => self.rest = after(self.rest, ']'),
            '$' => {
                self.rest = &self.rest[1..];
                if self.rest.starts_with('{') {
                    self.rest = after(self.rest, '}');
                } else {
                    self.word();
                }
            }
            letter if letter.is_ascii_alphabetic() || letter == '_' || letter == ':' => self.name(),
            digit if digit.is_ascii_digit() => {
                self.word();
            }
            other => self.rest = &self.rest[other.len_utf8()..],
        }
        true
    }

    fn word(&mut self) -> &'a str {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || "_:.".contains(c)))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn name(&mut self) {
        let word = self.word().to_owned();
        let follows = self.rest.trim_start();
        let keyword = word.to_ascii_lowercase();
        if GROUPINGS.contains(&keyword.as_str()) && follows.starts_with('(') {
            let (inside, rest) = follows[1..].split_once(')').unwrap_or((follows, ""));
            let labels = inside.split(',').map(|label| label.trim().to_owned());
            self.asked
                .groupings
                .extend(labels.filter(|l| !l.is_empty()));
            self.rest = rest;
        } else if ![KEYWORDS, AGGREGATIONS]
            .concat()
            .contains(&keyword.as_str())
            && !follows.starts_with('(')
        {
            self.asked.series.insert(word.clone());
            self.last = Some(word);
        }
    }

    fn quoted(&mut self, quote: char) -> &'a str {
        let inside = &self.rest[1..];
        let mut escaped = false;
        for (at, c) in inside.char_indices() {
            if c == quote && !escaped {
                self.rest = &inside[at + 1..];
                return &inside[..at];
            }
            escaped = c == '\\' && !escaped;
        }
        self.rest = "";
        inside
    }

    fn braces(&mut self) {
        self.rest = &self.rest[1..];
        let series = self.last.clone().unwrap_or_default();
        while let Some(first) = self.rest.chars().next() {
            match first {
                '}' => {
                    self.rest = &self.rest[1..];
                    return;
                }
                '"' | '\'' | '`' => {
                    self.quoted(first);
                }
                letter if letter.is_ascii_alphabetic() || letter == '_' => {
                    let label = self.word().to_owned();
                    self.asked.selections.insert((series.clone(), label));
                }
                other => self.rest = &self.rest[other.len_utf8()..],
            }
        }
    }
}

fn after(text: &str, end: char) -> &str {
    text.find(end).map_or("", |at| &text[at + end.len_utf8()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(expression: &str) -> Vec<String> {
        read(expression).series.into_iter().collect()
    }

    #[test]
    fn series_are_told_from_functions_keywords_labels_and_text() {
        let expression = r#"sum by (job, le) (rate(a_bucket{sink=~"b|and}",x!="c"}[5m])) / on (job) group_left () b_count > 0.5 or label_replace(d, "e", "$1", "f", "(.+)") unless absent(g) == bool 1e3"#;
        assert_eq!(series(expression), ["a_bucket", "b_count", "d", "g"]);
        let asked = read(expression);
        let selected: Vec<&str> = asked.selections.iter().map(|(_, l)| l.as_str()).collect();
        assert_eq!(selected, ["sink", "x"]);
        assert!(
            asked
                .selections
                .iter()
                .all(|(series, _)| series == "a_bucket")
        );
        assert_eq!(
            asked.groupings.into_iter().collect::<Vec<_>>(),
            ["job", "le"]
        );
    }

    #[test]
    fn variables_of_grafana_are_no_series() {
        assert_eq!(
            series(r#"rate(a_total{sink=~"$sink"}[$__rate_interval]) * $factor + ${other:csv}"#),
            ["a_total"]
        );
        assert_eq!(series("label_values(a_count, sink)"), ["a_count", "sink"]);
    }
}
