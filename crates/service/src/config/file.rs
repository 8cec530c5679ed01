//! The TOML file as values that know their line.
//! Invariant: a file that is missing or broken is a problem with the path in it, never an empty configuration.

use std::path::Path as FilePath;
use std::sync::Arc;

use toml::de::{DeTable, DeValue};

use super::Problem;
use super::value::{Node, Origin, Table, Value};

/// Reads `path`. What could be read is returned even when there are problems.
pub(super) fn read(path: &FilePath, problems: &mut Vec<Problem>) -> Table {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, &name, problems),
        Err(error) => {
            problems.push(Problem {
                key: String::new(),
                message: format!("cannot read the configuration file {name}: {error}"),
                origin: None,
                found: None,
                right: Some(
                    "an existing, readable TOML file after --config, or no --config at all".into(),
                ),
            });
            Table::new()
        }
    }
}

/// Parses the text of the file called `name`.
pub(super) fn parse(text: &str, name: &str, problems: &mut Vec<Problem>) -> Table {
    let places = Places {
        name: name.into(),
        text,
    };
    let (root, errors) = DeTable::parse_recoverable(text);
    problems.extend(errors.iter().map(|error| Problem {
        key: String::new(),
        message: format!("not TOML: {}", error.message()),
        origin: Some(places.origin(error.span().map_or(0, |span| span.start))),
        found: None,
        right: None,
    }));
    let mut table = places.table(root.get_ref());
    flatten_properties(&mut table);
    table
}

/// Parses one TOML value (`[..]` or `{..}`) given as text; every part of it has the origin of the text.
pub(super) fn parse_value(text: &str, origin: &Origin) -> Result<Value, String> {
    let value = DeValue::parse(text).map_err(|error| error.message().to_owned())?;
    let places = Places {
        name: "".into(),
        text: "",
    };
    let mut value = places.value(value.get_ref(), 0);
    set_origin(&mut value, origin);
    Ok(value)
}

struct Places<'a> {
    name: Arc<str>,
    text: &'a str,
}

impl Places<'_> {
    fn origin(&self, at: usize) -> Origin {
        let before = self.text.as_bytes().iter().take(at);
        let line = 1 + before.filter(|byte| **byte == b'\n').count();
        Origin::File {
            path: Arc::clone(&self.name),
            line,
        }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        let entries = table.iter().map(|(key, value)| {
            (
                key.get_ref().to_string(),
                self.value(value.get_ref(), key.span().start),
            )
        });
        entries.collect()
    }

    fn value(&self, value: &DeValue<'_>, at: usize) -> Value {
        let node = match value {
            DeValue::String(text) => Node::String(text.to_string()),
            DeValue::Integer(number) => integer(number.as_str(), number.radix()),
            DeValue::Float(number) => number
                .as_str()
                .parse()
                .map_or_else(|_| Node::String(number.to_string()), Node::Float),
            DeValue::Boolean(truth) => Node::Boolean(*truth),
            DeValue::Datetime(time) => Node::String(time.to_string()),
            DeValue::Array(items) => Node::Array(
                items
                    .iter()
                    .map(|item| self.value(item.get_ref(), item.span().start))
                    .collect(),
            ),
            DeValue::Table(table) => Node::Table(self.table(table)),
        };
        Value {
            node,
            origin: self.origin(at),
        }
    }
}

/// A number beyond `i64` stays text, so that the error shows it.
fn integer(digits: &str, radix: u32) -> Node {
    i64::from_str_radix(digits, radix)
        .map_or_else(|_| Node::String(digits.to_owned()), Node::Integer)
}

fn set_origin(value: &mut Value, origin: &Origin) {
    value.origin = origin.clone();
    match &mut value.node {
        Node::Array(items) => items.iter_mut().for_each(|item| set_origin(item, origin)),
        Node::Table(table) => table
            .values_mut()
            .for_each(|value| set_origin(value, origin)),
        _ => {}
    }
}

/// `[kafka.properties] linger.ms = 5` is the property `linger.ms` with the text `5`, not a table `linger`.
fn flatten_properties(root: &mut Table) {
    let Some(Value {
        node: Node::Table(kafka),
        ..
    }) = root.get_mut("kafka")
    else {
        return;
    };
    let Some(Value {
        node: Node::Table(properties),
        ..
    }) = kafka.get_mut("properties")
    else {
        return;
    };
    let mut flat = Table::new();
    flatten(&mut flat, "", std::mem::take(properties));
    *properties = flat;
}

fn flatten(flat: &mut Table, prefix: &str, table: Table) {
    for (key, value) in table {
        let name = if prefix.is_empty() {
            key
        } else {
            format!("{prefix}.{key}")
        };
        match value.node {
            Node::Table(inner) => flatten(flat, &name, inner),
            Node::Array(_) => {
                flat.insert(name, value);
            }
            node => {
                flat.insert(name, Value::text(node.to_string(), value.origin));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::value::{Path, get};
    use super::*;

    fn at(table: &Table, key: &str) -> (String, String) {
        let value = get(table, &Path::parse(key)).unwrap();
        (value.node.to_string(), value.origin.to_string())
    }

    #[test]
    fn every_value_knows_its_line() {
        let mut problems = Vec::new();
        let table = parse(
            "a = 1\n\n[b]\nc = \"x\"\nd = [\n 1,\n 2]\n",
            "f.toml",
            &mut problems,
        );
        assert!(problems.is_empty());
        assert_eq!(at(&table, "a"), ("1".into(), "f.toml:1".into()));
        assert_eq!(at(&table, "b.c"), ("x".into(), "f.toml:4".into()));
        assert_eq!(at(&table, "b.d"), ("[1, 2]".into(), "f.toml:5".into()));
    }

    #[test]
    fn properties_of_librdkafka_keep_their_dots() {
        let mut problems = Vec::new();
        let table = parse(
            "[kafka.properties]\nlinger.ms = 5\n\"a.b\" = true\n",
            "f",
            &mut problems,
        );
        assert_eq!(
            at(&table, "kafka.properties.linger.ms"),
            ("5".into(), "f:2".into())
        );
        assert_eq!(
            at(&table, "kafka.properties.a.b"),
            ("true".into(), "f:3".into())
        );
    }

    #[test]
    fn all_syntax_errors_are_reported_with_their_lines_and_the_rest_is_read() {
        let mut problems = Vec::new();
        let table = parse("a = \nb = 2\nc = = 3\n", "f.toml", &mut problems);
        let lines: Vec<_> = problems
            .iter()
            .map(|problem| problem.origin.as_ref().unwrap().to_string())
            .collect();
        assert!(
            lines.contains(&"f.toml:1".to_owned()) && lines.contains(&"f.toml:3".to_owned()),
            "{problems:?}"
        );
        assert_eq!(at(&table, "b").0, "2");
    }
}
