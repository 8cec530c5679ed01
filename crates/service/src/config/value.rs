//! A configuration value with the place it came from.
//! Invariant: every node knows its origin, so that an error found later can still name it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A line (from 1) of the configuration file.
    File {
        /// The path as given.
        path: Arc<str>,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment {
        /// Its name.
        name: String,
    },
    /// A file named by an environment variable that ends in `_FILE`.
    SecretFile {
        /// The variable's name, with `_FILE`.
        name: String,
        /// The file it names.
        path: String,
    },
    /// `--set` on the command line.
    Flag,
    /// Nobody set it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment { name } => write!(f, "environment variable {name}"),
            Self::SecretFile { name, path } => {
                write!(f, "file {path} (environment variable {name})")
            }
            Self::Flag => f.write_str("--set"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The keys of one section.
pub(super) type Table = BTreeMap<String, Value>;

/// A node and its origin.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Value {
    pub(super) node: Node,
    pub(super) origin: Origin,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// Text from the environment or a flag: becomes what the field wants it to be.
    Text(String),
    /// A string written as such in TOML (dates too).
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Array(Vec<Value>),
    Table(Table),
    /// An array element that was found wrong: skipped, so that the indices of the others stay.
    Removed,
}

impl Value {
    pub(super) fn text(text: impl Into<String>, origin: Origin) -> Self {
        Self {
            node: Node::Text(text.into()),
            origin,
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) | Self::String(text) => f.write_str(text),
            Self::Integer(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
            Self::Boolean(truth) => truth.fmt(f),
            Self::Array(items) => {
                let items: Vec<_> = items.iter().map(|item| item.node.to_string()).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Self::Table(table) => write!(f, "a table of {} keys", table.len()),
            Self::Removed => Ok(()),
        }
    }
}

/// One step from a value to a value in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Segment {
    Key(String),
    Index(usize),
}

/// The way from the root to a value. Displayed as `endpoint[0].url`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path(pub(super) Vec<Segment>);

impl Path {
    pub(super) fn of(keys: &[impl AsRef<str>]) -> Self {
        Self(
            keys.iter()
                .map(|key| Segment::Key(key.as_ref().to_owned()))
                .collect(),
        )
    }

    /// The path of `key`, as written in `--set` and in [`super::EnvKey`]. What follows `kafka.properties.` is one key.
    pub(super) fn parse(key: &str) -> Self {
        match key.strip_prefix("kafka.properties.") {
            Some(property) => Self::of(&["kafka", "properties", property]),
            None => Self::of(&key.split('.').collect::<Vec<_>>()),
        }
    }

    pub(super) fn then(&self, segment: Segment) -> Self {
        let mut path = self.clone();
        path.0.push(segment);
        path
    }

    pub(super) fn key(&self, key: impl Into<String>) -> Self {
        self.then(Segment::Key(key.into()))
    }

    /// The last key on the way (an index has no name of its own).
    pub(super) fn last_key(&self) -> &str {
        let keys = self.0.iter().rev().filter_map(|segment| match segment {
            Segment::Key(key) => Some(key.as_str()),
            Segment::Index(_) => None,
        });
        keys.into_iter().next().unwrap_or_default()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if index == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Sets the value at `path` (keys only), replacing what was there.
pub(super) fn insert(table: &mut Table, path: &Path, value: Value) {
    let mut at = table;
    let Some((Segment::Key(last), way)) = path.0.split_last() else {
        return;
    };
    for segment in way {
        let Segment::Key(key) = segment else { return };
        let origin = value.origin.clone();
        let next = at.entry(key.clone()).or_insert_with(|| Value {
            node: Node::Table(Table::new()),
            origin,
        });
        if !matches!(next.node, Node::Table(_)) {
            next.node = Node::Table(Table::new());
        }
        let Node::Table(inner) = &mut next.node else {
            return;
        };
        at = inner;
    }
    at.insert(last.clone(), value);
}

/// The value at `path`.
pub(super) fn get<'a>(table: &'a Table, path: &Path) -> Option<&'a Value> {
    let (Segment::Key(first), rest) = path.0.split_first()? else {
        return None;
    };
    rest.iter().try_fold(table.get(first)?, |value, segment| {
        match (&value.node, segment) {
            (Node::Table(table), Segment::Key(key)) => table.get(key),
            (Node::Array(items), Segment::Index(index)) => items.get(*index),
            _ => None,
        }
    })
}

/// Takes the value at `path` away. `false` when there is none.
pub(super) fn remove(table: &mut Table, path: &Path) -> bool {
    let Some((Segment::Key(first), rest)) = path.0.split_first() else {
        return false;
    };
    if rest.is_empty() {
        return table.remove(first).is_some();
    }
    table
        .get_mut(first)
        .is_some_and(|value| remove_in(value, rest))
}

fn remove_in(value: &mut Value, path: &[Segment]) -> bool {
    match (&mut value.node, path) {
        (Node::Table(table), [Segment::Key(key)]) => table.remove(key).is_some(),
        (Node::Table(table), [Segment::Key(key), rest @ ..]) => table
            .get_mut(key)
            .is_some_and(|value| remove_in(value, rest)),
        (Node::Array(items), [Segment::Index(index)]) => {
            items.get_mut(*index).is_some_and(|item| {
                let was = std::mem::replace(&mut item.node, Node::Removed);
                was != Node::Removed
            })
        }
        (Node::Array(items), [Segment::Index(index), rest @ ..]) => items
            .get_mut(*index)
            .is_some_and(|item| remove_in(item, rest)),
        // Text that holds a whole array or table goes as a whole.
        (Node::Text(_), _) => {
            value.node = Node::Removed;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_where_it_was_inserted_and_gone_after_removal() {
        let mut table = Table::new();
        let path = Path::parse("kafka.properties.linger.ms");
        insert(&mut table, &path, Value::text("5", Origin::Flag));
        assert_eq!(path.to_string(), "kafka.properties.linger.ms");
        assert_eq!(path.0.len(), 3);
        assert_eq!(get(&table, &path).unwrap().node, Node::Text("5".into()));
        assert!(remove(&mut table, &path));
        assert!(get(&table, &path).is_none());
        assert!(!remove(&mut table, &path));
    }
}
