//! Sections built with `#[serde(flatten)]`: serde shows neither their names nor which keys it passed over, so each key
//! is tried. Invariant: in such a section too, a key that nobody reads is refused.

use std::cell::RefCell;

use serde::de::DeserializeOwned;

use super::de::Root;
use super::value::{Node, Origin, Path, Table, Value, insert};

/// The names of a `[kafka]` section, which services put beside keys of their own in this way.
const KAFKA: &[&str] = &[
    "bootstrap_servers",
    "security_protocol",
    "sasl_mechanism",
    "sasl_username",
    "sasl_password",
    "ssl_ca_location",
    "ssl_certificate_location",
    "ssl_key_location",
    "ssl_key_password",
    "properties",
];

/// Whether the section at `way` can be empty and passes over what it does not know. (A map of free names takes
/// everything.)
pub(super) fn passes_over<T: DeserializeOwned>(way: &[&'static str]) -> bool {
    let path = Path::of(way);
    reads::<T>(&path, Node::Table(Table::new())) && !accepts::<T>(&path, "\0")
}

/// The names that the flattened section at `way` is known to have.
pub(super) fn names<T: DeserializeOwned>(way: &[&'static str]) -> Vec<&'static str> {
    KAFKA
        .iter()
        .copied()
        .filter(|name| accepts::<T>(&Path::of(way), name))
        .collect()
}

/// Whether the section at `section` reads `key`: no field fits both an array and a table, so one of them is refused.
pub(super) fn accepts<T: DeserializeOwned>(section: &Path, key: &str) -> bool {
    let table = Node::Table([("\0".to_owned(), value(Node::Boolean(true)))].into());
    let path = section.key(key);
    !(reads::<T>(&path, Node::Array(Vec::new())) && reads::<T>(&path, table))
}

/// The key of `section` whose value is refused even when it stands alone.
pub(super) fn culprit<T: DeserializeOwned>(section: &Path, table: &Table) -> Option<Path> {
    let keys = table
        .iter()
        .map(|(key, value)| (section.key(key.as_str()), value));
    keys.into_iter()
        .find(|(path, value)| !reads::<T>(path, value.node.clone()))
        .map(|(path, _)| path)
}

fn reads<T: DeserializeOwned>(path: &Path, node: Node) -> bool {
    let mut table = Table::new();
    insert(&mut table, path, value(node));
    T::deserialize(Root {
        table: &table,
        unknown: &RefCell::default(),
    })
    .is_ok()
}

fn value(node: Node) -> Value {
    Value {
        node,
        origin: Origin::Default,
    }
}
