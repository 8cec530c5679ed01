//! `config show`: every key, its value and where it comes from.
//! Invariant: a secret is shown as asterisks, a URL without its password, in tables, JSON and errors alike.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Serialize, Serializer};

use super::environment::secret_name;
use super::value::{Node, Path, Segment, Table, Value};

const HIDDEN: &str = "********";

/// Which keys hold secrets.
#[derive(Clone, Debug, Default)]
pub(super) struct Secrets {
    pub(super) declared: BTreeSet<Path>,
}

impl Secrets {
    /// Declared as such, or by its name (also inside a list or a map of free names, as `endpoint[0].secrets[1]`).
    pub(super) fn contains(&self, path: &Path) -> bool {
        let declared = self
            .declared
            .iter()
            .any(|secret| path.0.starts_with(&secret.0));
        let named = path
            .0
            .iter()
            .any(|segment| matches!(segment, Segment::Key(key) if secret_name(key)));
        declared || named
    }
}

/// One key of the configuration in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The key, for example `kafka.bootstrap_servers`.
    pub key: String,
    /// The value as set, secrets hidden; `None` where nobody set it and the default holds (see [`fill_defaults`]).
    pub value: Option<String>,
    /// Where it comes from, as text.
    pub origin: String,
    /// The environment variable that sets it, if there is one.
    pub variable: Option<String>,
}

/// Renders entries as aligned lines for a terminal.
#[must_use]
pub fn render(entries: &[Entry]) -> String {
    let width = |of: fn(&Entry) -> &str| {
        entries
            .iter()
            .map(|entry| of(entry).chars().count())
            .max()
            .unwrap_or(0)
    };
    let keys = width(|entry| &entry.key);
    let values = width(|entry| entry.value.as_deref().unwrap_or("-")).min(60);
    let mut text = String::new();
    for Entry {
        key,
        value,
        origin,
        variable,
    } in entries
    {
        let value = value.as_deref().unwrap_or("-");
        let variable = variable
            .as_ref()
            .map(|name| format!(" ({name})"))
            .filter(|_| origin == "default")
            .unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{key:<keys$}  {value:<values$}  {origin}{variable}");
    }
    text
}

/// Gives entries that nobody set the value that holds then. `defaults` is the default configuration, its secrets written by
/// [`hidden_secret`], [`hidden_option`] or [`hidden_url`]; what has no value by default stays without one.
pub fn fill_defaults(entries: &mut [Entry], defaults: &serde_json::Value) {
    for entry in entries.iter_mut().filter(|entry| entry.value.is_none()) {
        let mut way = entry.key.split('.');
        let found = way.try_fold(defaults, |at, name| at.get(name));
        entry.value = found.and_then(default_text);
    }
}

fn default_text(value: &serde_json::Value) -> Option<String> {
    use serde_json::Value;
    match value {
        Value::Null => None,
        Value::String(text) => {
            Some(shown(&Node::String(text.clone()))).filter(|text| !text.is_empty())
        }
        Value::Array(items) => {
            let items: Vec<_> = items.iter().filter_map(default_text).collect();
            Some(format!("[{}]", items.join(", ")))
        }
        Value::Object(map) if map.is_empty() => None,
        other => Some(other.to_string()),
    }
}

/// Writes a secret as asterisks, a URL without its password: `#[serde(serialize_with = "..")]`.
///
/// # Errors
/// The serializer's own.
pub fn hidden_secret<S: Serializer>(
    secret: &SecretString,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&hidden(&Node::Text(secret.expose_secret().to_owned())))
}

/// [`hidden_secret`], if there is one.
///
/// # Errors
/// The serializer's own.
pub fn hidden_option<S: Serializer>(
    secret: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => hidden_secret(secret, serializer),
        None => serializer.serialize_none(),
    }
}

/// Writes a URL without its password: `#[serde(serialize_with = "..")]`.
///
/// # Errors
/// The serializer's own.
pub fn hidden_url<S: Serializer>(url: &url::Url, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&without_password(url.as_str()))
}

/// The values that were set, in the order of their keys.
pub(super) fn set_values(table: &Table, secrets: &Secrets) -> Vec<(Path, String, String)> {
    let mut found = Vec::new();
    for (key, value) in table {
        walk(
            &Path::default().key(key.as_str()),
            value,
            secrets,
            &mut found,
        );
    }
    found
}

fn walk(path: &Path, value: &Value, secrets: &Secrets, found: &mut Vec<(Path, String, String)>) {
    match &value.node {
        Node::Table(table) => {
            table
                .iter()
                .for_each(|(key, value)| walk(&path.key(key.as_str()), value, secrets, found));
        }
        Node::Array(items) if items.iter().any(|item| matches!(item.node, Node::Table(_))) => {
            items.iter().enumerate().for_each(|(index, item)| {
                walk(&path.then(Segment::Index(index)), item, secrets, found);
            });
        }
        node => {
            let text = if secrets.contains(path) {
                hidden(node)
            } else {
                shown(node)
            };
            found.push((path.clone(), text, value.origin.to_string()));
        }
    }
}

/// A value for display: URLs without their password, long texts cut.
pub(super) fn shown(node: &Node) -> String {
    const LONGEST: usize = 120;
    let text = without_password(&node.to_string());
    if text.chars().count() <= LONGEST {
        return text;
    }
    format!("{}..", text.chars().take(LONGEST).collect::<String>())
}

/// A secret that is a URL still says which server it means.
fn hidden(node: &Node) -> String {
    let text = node.to_string();
    let Ok(url) = url::Url::parse(&text) else {
        return HIDDEN.into();
    };
    if !url.has_host() || url.query().is_some() {
        return HIDDEN.into();
    }
    without_password(&text)
}

/// Whether a value must not be repeated in an error, although its key does not look secret.
pub(super) fn holds_password(node: &Node) -> bool {
    let text = node.to_string();
    without_password(&text) != text
}

fn without_password(text: &str) -> String {
    match url::Url::parse(text) {
        Ok(mut url) if url.password().is_some() => match url.set_password(Some(HIDDEN)) {
            Ok(()) => url.to_string(),
            Err(()) => HIDDEN.into(),
        },
        Ok(_) => text.to_owned(),
        // Not a URL for the parser, but perhaps for the one who wrote it.
        Err(_) if text.contains("://") && text.contains('@') => HIDDEN.into(),
        Err(_) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_never_show() {
        let node = |text: &str| Node::Text(text.into());
        assert_eq!(
            shown(&node("postgres://engage:hush@db:5432/engage")),
            "postgres://engage:********@db:5432/engage"
        );
        assert_eq!(
            hidden(&node("postgres://engage:hush@db:5432/engage")),
            "postgres://engage:********@db:5432/engage"
        );
        assert_eq!(hidden(&node("hush")), HIDDEN);
        assert_eq!(shown(&node("postgres://engage:hu sh@[db/engage")), HIDDEN);
        assert_eq!(shown(&node("127.0.0.1:9092")), "127.0.0.1:9092");
    }

    #[derive(Serialize)]
    struct Settings {
        #[serde(serialize_with = "hidden_secret")]
        url: SecretString,
        #[serde(serialize_with = "hidden_option")]
        password: Option<SecretString>,
        #[serde(serialize_with = "hidden_option")]
        other: Option<SecretString>,
        names: Vec<&'static str>,
        rows: u32,
    }

    #[test]
    fn what_nobody_set_has_its_default_and_no_secret_shows() {
        let defaults = serde_json::json!({"store": Settings {
            url: "redis://u:hush@a:1/".into(),
            password: Some("hush".into()),
            other: None,
            names: vec!["a", "b"],
            rows: 7,
        }});
        let keys = ["url", "password", "other", "names", "rows", "unknown"];
        let entry = |key: &str| Entry {
            key: format!("store.{key}"),
            value: None,
            origin: "default".into(),
            variable: None,
        };
        let mut entries: Vec<_> = keys.into_iter().map(entry).collect();
        entries[4].value = Some("9".into());
        fill_defaults(&mut entries, &defaults);
        let values: Vec<_> = entries.iter().map(|entry| entry.value.as_deref()).collect();
        let expected = [
            Some("redis://u:********@a:1/"),
            Some(HIDDEN),
            None,
            Some("[a, b]"),
            Some("9"),
            None,
        ];
        assert_eq!(values, expected);
    }

    #[test]
    fn secrets_are_known_by_declaration_and_by_name() {
        let secrets = Secrets {
            declared: [Path::parse("database.url")].into(),
        };
        assert!(secrets.contains(&Path::parse("database.url")));
        assert!(secrets.contains(&Path::parse("kafka.properties.sasl.password")));
        assert!(
            secrets.contains(
                &Path::parse("endpoint")
                    .then(Segment::Index(0))
                    .key("secrets")
                    .then(Segment::Index(1))
            )
        );
        assert!(!secrets.contains(&Path::parse("database.pool")));
    }
}
