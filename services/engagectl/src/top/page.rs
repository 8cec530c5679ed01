//! The text of a `/metrics` page as samples. Pure.
//!
//! Invariant: a line that is no sample is passed over, never an error.

use std::collections::BTreeMap;

/// One value.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// All values of a page.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Page(Vec<Sample>);

impl Page {
    /// Reads the text form of Prometheus.
    pub(super) fn parse(text: &str) -> Self {
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with('#'));
        Self(lines.filter_map(sample).collect())
    }

    /// Everything of that name together; `None` where there is nothing.
    pub(super) fn sum(&self, name: &str) -> Option<f64> {
        self.of(name)
            .map(|sample| sample.value)
            .reduce(|a, b| a + b)
    }

    /// The highest of that name.
    pub(super) fn max(&self, name: &str) -> Option<f64> {
        self.of(name).map(|sample| sample.value).reduce(f64::max)
    }

    /// Values by a label.
    pub(super) fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut values = BTreeMap::new();
        for sample in self.of(name) {
            if let Some(of) = sample.labels.get(label) {
                *values.entry(of.clone()).or_insert(0.0) += sample.value;
            }
        }
        values
    }

    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        self.0.iter().filter(move |sample| sample.name == name)
    }
}

/// `name{label="value",..} number`, with an optional time after it.
fn sample(line: &str) -> Option<Sample> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (BTreeMap::new(), rest),
    };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// Up to the closing brace, with what follows it. Values may hold `\"`, `\\` and `\n`.
fn labels(text: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = quoted(after)?;
        labels.insert(name.trim().to_owned(), value);
        rest = after;
    }
}

fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "\
# TYPE engage_breaker_state gauge
engage_breaker_state{endpoint=\"crm\"} 2
engage_breaker_state{endpoint=\"a \\\"b\\\" } \\\\\",x=\"y\"} 1
engage_consumer_lag{topic=\"t\",partition=\"0\"} 7
engage_consumer_lag{topic=\"t\",partition=\"1\"} 5 1700000000000
process_start_time_seconds 1.5e9
engage_catalog_entries NaN
nonsense
broken{a=\"b
";

    #[test]
    fn values_are_added_compared_and_told_apart_by_label() {
        let page = Page::parse(TEXT);
        assert_eq!(page.sum("engage_consumer_lag"), Some(12.0));
        assert_eq!(page.max("engage_consumer_lag"), Some(7.0));
        assert_eq!(page.sum("process_start_time_seconds"), Some(1.5e9));
        assert_eq!(page.sum("engage_consumer"), None);
        let breakers = page.by("engage_breaker_state", "endpoint");
        assert_eq!(breakers["crm"], 2.0);
        assert_eq!(breakers["a \"b\" } \\"], 1.0);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\PC|\n|[{}=\"\\\\ ]){0,80}") {
            Page::parse(&text);
        }
    }
}
