//! Reads a page of `/metrics`: families with their kinds, and the labels of their series. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// One family of a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Family {
    /// `counter`, `gauge`, `histogram`.
    pub kind: String,
    /// Names of all labels, without `le`.
    pub labels: BTreeSet<String>,
    /// Whether it is described.
    pub described: bool,
}

/// The families of a page by name.
#[must_use]
pub fn families(page: &str) -> BTreeMap<String, Family> {
    let mut all: BTreeMap<String, Family> = BTreeMap::new();
    for line in page.lines() {
        if let Some((name, kind)) = comment(line, "# TYPE ") {
            kind.clone_into(&mut all.entry(name.to_owned()).or_default().kind);
        } else if let Some((name, _)) = comment(line, "# HELP ") {
            all.entry(name.to_owned()).or_default().described = true;
        }
    }
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        let family = ["", "_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|part| name.strip_suffix(part))
            .find(|name| all.contains_key(*name));
        if let Some(family) = family.map(str::to_owned) {
            let entry = all.entry(family).or_default();
            entry
                .labels
                .extend(labels(line).filter(|label| label != "le"));
        }
    }
    all
}

/// The value of the series whose name is this and which has all of these labels.
#[must_use]
pub fn value(page: &str, name: &str, wanted: &[(&str, &str)]) -> Option<f64> {
    let is_it = |line: &&str| {
        line.split(['{', ' ']).next() == Some(name)
            && wanted
                .iter()
                .all(|(label, value)| line.contains(&format!("{label}=\"{value}\"")))
    };
    let line = page.lines().find(is_it)?;
    line.rsplit(' ').next()?.parse().ok()
}

fn comment<'a>(line: &'a str, start: &str) -> Option<(&'a str, &'a str)> {
    line.strip_prefix(start)?.split_once(' ')
}

/// Label values are names of ours, which hold no quotes.
fn labels(line: &str) -> impl Iterator<Item = String> {
    let inside = line
        .split_once('{')
        .and_then(|(_, rest)| rest.rsplit_once('}'));
    let pairs = inside.map_or("", |(inside, _)| inside).split("\",");
    pairs.filter_map(|pair| pair.split_once("=\"").map(|(name, _)| name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP a_seconds How long.\n# TYPE a_seconds histogram\na_seconds_bucket{sink=\"x\",le=\"1\"} 2\n\
                        a_seconds_count{sink=\"x\"} 2\n# TYPE b counter\nb{topic=\"t\",reason=\"r s\"} 3\nb 4\n";

    #[test]
    fn a_page_is_families_with_kinds_and_labels() {
        let all = families(PAGE);
        assert_eq!(all.len(), 2);
        assert_eq!(all["a_seconds"].kind, "histogram");
        assert!(all["a_seconds"].described && !all["b"].described);
        assert_eq!(all["a_seconds"].labels, ["sink".to_owned()].into());
        assert_eq!(
            all["b"].labels,
            ["reason".to_owned(), "topic".to_owned()].into()
        );
    }

    #[test]
    fn a_value_is_found_by_name_and_labels() {
        assert_eq!(value(PAGE, "b", &[("reason", "r s")]), Some(3.0));
        assert_eq!(value(PAGE, "a_seconds_count", &[("sink", "x")]), Some(2.0));
        assert_eq!(value(PAGE, "a_seconds_count", &[("sink", "y")]), None);
    }
}
