//! From values to a typed configuration, with every problem found in one go.
//! Invariant: a value that was refused is reported once and taken away, so the loop ends and later values are still looked at.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde::de::DeserializeOwned;

use super::de::{Root, Unknown};
use super::refused::{Kind, Refused};
use super::show::{Secrets, holds_password, shown};
use super::value::{Node, Path, Segment, Table, Value, get, remove};
use super::{Problem, flatten, schema, suggest};

/// What is known about the keys, for suggestions.
pub(super) struct Known<'a> {
    /// All keys of the whole configuration.
    pub(super) keys: &'a [String],
    /// Names accepted at the top beside those of the type decoded.
    pub(super) top: &'a [&'static str],
    pub(super) secrets: &'a Secrets,
}

/// Decodes `table`; `None` only when it cannot be read even without the values refused.
pub(super) fn decode<T: DeserializeOwned>(
    mut table: Table,
    known: &Known<'_>,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let original = table.clone();
    let unknown = RefCell::default();
    let mut refused_at = BTreeSet::new();
    let decoded = loop {
        let refused = match T::deserialize(Root {
            table: &table,
            unknown: &unknown,
        }) {
            Ok(decoded) => break Some(decoded),
            Err(refused) => refused,
        };
        let path = exact::<T>(refused.path.clone().unwrap_or_default(), &table);
        let follows =
            matches!(refused.kind, Kind::Missing(field) if refused_at.contains(&path.key(field)));
        if !follows {
            problems.push(problem(&refused, &path, &original, known.secrets));
        }
        refused_at.insert(path.clone());
        if !remove(&mut table, &path) {
            break None;
        }
    };
    unknown_keys(&unknown, &original, known, problems);
    passed_over::<T>(&original, known, problems);
    decoded
}

/// A flattened section is refused as a whole; which of its keys it was is found by trying them.
fn exact<T: DeserializeOwned>(path: Path, table: &Table) -> Path {
    match get(table, &path).map(|value| &value.node) {
        Some(Node::Table(section)) if path.0.len() == 1 => {
            flatten::culprit::<T>(&path, section).unwrap_or(path)
        }
        _ => path,
    }
}

/// Keys of flattened sections that nobody reads.
fn passed_over<T: DeserializeOwned>(table: &Table, known: &Known<'_>, problems: &mut Vec<Problem>) {
    for name in schema::top::<T>()
        .iter()
        .filter(|name| schema::is_flattened::<T>(&[name]))
    {
        let section = Path::of(&[name]);
        let Some(Node::Table(entries)) = get(table, &section).map(|value| &value.node) else {
            continue;
        };
        for (key, value) in entries
            .iter()
            .filter(|(key, _)| !flatten::accepts::<T>(&section, key))
        {
            let prefix = format!("{name}.");
            let siblings: Vec<_> = known
                .keys
                .iter()
                .filter_map(|known| known.strip_prefix(&prefix))
                .collect();
            problems.push(no_such_key(
                &section.then(Segment::Key(key.clone())),
                Some(value),
                &siblings,
                known,
            ));
        }
    }
}

fn problem(refused: &Refused, path: &Path, table: &Table, secrets: &Secrets) -> Problem {
    let value = get(table, path);
    let missing = matches!(refused.kind, Kind::Missing(_));
    let hides = |value: &Value| holds_password(&value.node);
    let secret = !missing && (secrets.contains(path) || value.is_some_and(hides));
    Problem {
        key: path.to_string(),
        message: if secret {
            "the value does not fit (it is a secret and not shown)".into()
        } else {
            refused.message.clone()
        },
        origin: value.map(|value| value.origin.clone()),
        found: value
            .filter(|_| !missing && !secret)
            .map(|value| shown(&value.node)),
        right: Some(right(&refused.kind)),
    }
}

fn right(kind: &Kind) -> String {
    match kind {
        Kind::Expected(expected) => plain(expected),
        Kind::Choice(found, choices) => {
            let list = choices
                .iter()
                .map(|choice| format!("`{choice}`"))
                .collect::<Vec<_>>()
                .join(", ");
            match suggest::nearest(found, choices.iter().copied()) {
                Some(near) => format!("one of {list}; did you mean `{near}`?"),
                None => format!("one of {list}"),
            }
        }
        Kind::Missing(field) => format!("a value for `{field}`"),
        Kind::Other => "another value, or none to use the default".into(),
    }
}

/// Rust's name of what was expected, in words.
fn plain(expected: &str) -> String {
    let text = match expected {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number from 0 up",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        "a nonzero u16" | "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => {
            "a whole number from 1 up"
        }
        "a duration" => "a duration as in `500ms`, `10s` or `5m`",
        "a boolean" => "true or false",
        other => other,
    };
    text.to_owned()
}

fn unknown_keys(unknown: &Unknown, table: &Table, known: &Known<'_>, problems: &mut Vec<Problem>) {
    for (path, fields) in unknown.borrow().iter() {
        let at_top = if path.0.len() == 1 { known.top } else { &[] };
        let siblings: Vec<_> = fields.iter().chain(at_top).copied().collect();
        problems.push(no_such_key(path, get(table, path), &siblings, known));
    }
}

fn no_such_key(
    path: &Path,
    value: Option<&Value>,
    siblings: &[&str],
    known: &Known<'_>,
) -> Problem {
    Problem {
        key: path.to_string(),
        message: "there is no such key".into(),
        origin: value.map(|value| value.origin.clone()),
        found: None,
        right: Some(known_instead(path, siblings, known.keys)),
    }
}

/// What may have been meant by the unknown key at `path`.
fn known_instead(path: &Path, siblings: &[&str], keys: &[String]) -> String {
    let name = path.last_key();
    let whole = path.to_string();
    let parent = whole.strip_suffix(name).unwrap_or_default();
    let sibling =
        suggest::nearest(name, siblings.iter().copied()).map(|near| format!("{parent}{near}"));
    let elsewhere = || {
        keys.iter()
            .find(|key| key.rsplit('.').next() == Some(name))
            .cloned()
    };
    let near = || suggest::nearest(&whole, keys.iter().map(String::as_str)).map(str::to_owned);
    match sibling.or_else(elsewhere).or_else(near) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("known here: {}", siblings.join(", ")),
    }
}
