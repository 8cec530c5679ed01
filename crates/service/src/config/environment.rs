//! Environment variables, the files that `*_FILE` names, and the properties in `KAFKA_PROP_*`.
//! Invariant: an empty variable is an unset one; a secret set in two ways is refused, not chosen between.

use std::collections::BTreeMap;

use super::value::{Origin, Path, Value};
use super::{Problem, suggest};

const PROPERTY: &str = "KAFKA_PROP_";

/// Names of the contract that some services read and others do not: one `.env` serves them all without warnings.
const OTHERS: &[&str] = &[
    "KAFKA_CDC_TOPIC",
    "KAFKA_CONTENT_TOPIC",
    "KAFKA_ENRICHED_TOPIC",
    "KAFKA_BACKFILL_TOPIC",
    "KAFKA_ERASURES_TOPIC",
    "KAFKA_GROUP_ID",
    "KAFKA_DEAD_LETTER_TOPIC",
    "ENGAGE_CONFIG",
    "ENGAGE_CDC_PASSWORD",
];

/// A variable and the key that it sets.
#[derive(Clone, Debug)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) path: Path,
    pub(super) secret: bool,
}

/// What the environment holds for this process.
#[derive(Default)]
pub(super) struct Found {
    pub(super) values: Vec<(Path, Value)>,
    pub(super) warnings: Vec<String>,
}

/// Reads `variables` (and `KAFKA_PROP_*`, where there is a `[kafka]`) from `environment`.
pub(super) fn read(
    environment: &BTreeMap<String, String>,
    variables: &[Variable],
    kafka: bool,
    problems: &mut Vec<Problem>,
) -> Found {
    let mut found = Found::default();
    let properties = if kafka {
        properties(environment)
    } else {
        Vec::new()
    };
    for variable in variables.iter().chain(&properties) {
        if let Some(value) = value(environment, variable, problems) {
            found.values.push((variable.path.clone(), value));
        }
    }
    found.warnings = warnings(environment, variables, kafka);
    found
}

fn value(
    environment: &BTreeMap<String, String>,
    variable: &Variable,
    problems: &mut Vec<Problem>,
) -> Option<Value> {
    let set = |name: &str| environment.get(name).filter(|value| !value.is_empty());
    let name = &variable.name;
    let file_name = format!("{name}_FILE");
    let found = match (set(name), set(&file_name).filter(|_| variable.secret)) {
        (None, None) => return None,
        (Some(text), None) => direct(variable, text),
        (None, Some(path)) => from_file(variable, file_name, path),
        (Some(_), Some(_)) => {
            let message = format!("{name} and {file_name} are both set");
            let right = format!("only one of {name} and {file_name}");
            Err(refused(variable, name, message, right))
        }
    };
    found.map_err(|problem| problems.push(*problem)).ok()
}

fn direct(variable: &Variable, text: &str) -> Result<Value, Box<Problem>> {
    let name = &variable.name;
    if text.contains(char::REPLACEMENT_CHARACTER) {
        return Err(refused(
            variable,
            name,
            "the value is not UTF-8".into(),
            "UTF-8 text".into(),
        ));
    }
    Ok(Value::text(
        text,
        Origin::Environment { name: name.clone() },
    ))
}

/// The value in a secret's file; its last line break does not belong to it.
fn from_file(variable: &Variable, file_name: String, path: &str) -> Result<Value, Box<Problem>> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let right = format!(
            "a readable file that holds the value, or {} instead",
            variable.name
        );
        refused(
            variable,
            &file_name,
            format!("cannot read {path}: {error}"),
            right,
        )
    })?;
    let origin = Origin::SecretFile {
        name: file_name,
        path: path.to_owned(),
    };
    Ok(Value::text(text.trim_end_matches(['\r', '\n']), origin))
}

fn refused(variable: &Variable, name: &str, message: String, right: String) -> Box<Problem> {
    let origin = Some(Origin::Environment {
        name: name.to_owned(),
    });
    Box::new(Problem {
        key: variable.path.to_string(),
        message,
        origin,
        found: None,
        right: Some(right),
    })
}

/// `KAFKA_PROP_QUEUED_MIN_MESSAGES` is the property `queued.min.messages`. A secret one may end in `_FILE`.
fn properties(environment: &BTreeMap<String, String>) -> Vec<Variable> {
    let names = environment
        .keys()
        .filter_map(|name| name.strip_prefix(PROPERTY))
        .filter(|name| !name.is_empty());
    let mut properties: Vec<Variable> = names
        .map(|name| {
            let stem = name
                .strip_suffix("_FILE")
                .filter(|stem| secret_name(stem))
                .unwrap_or(name);
            let property = stem.to_ascii_lowercase().replace('_', ".");
            let path = Path::of(&["kafka", "properties", property.as_str()]);
            Variable {
                name: format!("{PROPERTY}{stem}"),
                path,
                secret: secret_name(stem),
            }
        })
        .collect();
    properties.dedup_by(|a, b| a.name == b.name);
    properties
}

/// Whether a name says that its value is a secret.
pub(super) fn secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [
        "password",
        "secret",
        "token",
        "credential",
        "authorization",
        "bearer",
        "headers",
        "api_key",
        "api-key",
        "apikey",
        "key_pem",
        "key.pem",
    ]
    .iter()
    .any(|word| name.contains(word))
}

/// Variables that look meant for us but are not known.
fn warnings(
    environment: &BTreeMap<String, String>,
    variables: &[Variable],
    kafka: bool,
) -> Vec<String> {
    let known = |name: &str| {
        let stem = name.strip_suffix("_FILE").unwrap_or(name);
        let property = kafka && name.starts_with(PROPERTY);
        property
            || OTHERS.contains(&name)
            || faults::VARIABLES.contains(&name)
            || variables
                .iter()
                .any(|variable| variable.name == name || (variable.secret && variable.name == stem))
    };
    let ours = |name: &str| {
        name.starts_with("ENGAGE_") || (kafka && name.starts_with("KAFKA_") && !service_link(name))
    };
    let set = environment
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, _)| name);
    let unknown = set.filter(|name| ours(name) && !known(name));
    unknown
        .map(|name| {
            match suggest::nearest(
                name,
                variables.iter().map(|variable| variable.name.as_str()),
            ) {
                Some(near) => format!(
                    "environment variable {name} is not known and not used; did you mean {near}?"
                ),
                None => format!("environment variable {name} is not known and not used"),
            }
        })
        .collect()
}

/// Kubernetes sets these in every pod for a Service called `kafka`.
fn service_link(name: &str) -> bool {
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || name.ends_with("_PORT")
        || name.contains("_PORT_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn read_all(pairs: &[(&str, &str)]) -> (Found, Vec<Problem>) {
        let url = Variable {
            name: "DATABASE_URL".into(),
            path: Path::parse("database.url"),
            secret: true,
        };
        let group = Variable {
            name: "KAFKA_GROUP_ID".into(),
            path: Path::parse("group_id"),
            secret: false,
        };
        let mut problems = Vec::new();
        let found = read(&environment(pairs), &[url, group], true, &mut problems);
        (found, problems)
    }

    #[test]
    fn properties_become_dotted_lower_case_names() {
        let (found, _) = read_all(&[("KAFKA_PROP_QUEUED_MIN_MESSAGES", "7")]);
        let (path, value) = &found.values[0];
        assert_eq!(path.last_key(), "queued.min.messages");
        assert_eq!(value.node.to_string(), "7");
    }

    #[test]
    fn an_empty_variable_is_unset() {
        let (found, problems) = read_all(&[("DATABASE_URL", ""), ("KAFKA_GROUP_ID", "")]);
        assert!(found.values.is_empty() && problems.is_empty());
    }

    #[test]
    fn a_secret_set_twice_is_refused_and_a_missing_file_is_named() {
        let (_, problems) = read_all(&[("DATABASE_URL", "x"), ("DATABASE_URL_FILE", "/y")]);
        assert_eq!(
            problems[0].message,
            "DATABASE_URL and DATABASE_URL_FILE are both set"
        );
        let (_, problems) = read_all(&[("DATABASE_URL_FILE", "/nowhere/y")]);
        assert!(
            problems[0].message.starts_with("cannot read /nowhere/y: "),
            "{problems:?}"
        );
    }

    #[test]
    fn what_arms_the_fault_points_is_known_to_a_build_with_the_points_only() {
        let pairs = [("ENGAGE_BROKEN_RULE", "x"), ("ENGAGE_FAULTS", "x")];
        let (found, _) = read_all(&pairs);
        let unknown =
            pairs.map(|(name, _)| format!("environment variable {name} is not known and not used"));
        match faults::VARIABLES {
            [] => assert_eq!(found.warnings, unknown),
            _ => assert_eq!(found.warnings, [""; 0]),
        }
    }

    #[test]
    fn only_names_that_look_like_ours_are_warned_about() {
        let (found, _) = read_all(&[
            ("KAFKA_GROUP_IDD", "x"),
            ("KAFKA_PORT_9092_TCP_ADDR", "x"),
            ("KAFKA_ENRICHED_TOPIC", "x"),
            ("DATABASE_URL_FILE", "/dev/null"),
            ("HOME", "/"),
        ]);
        assert_eq!(
            found.warnings,
            [
                "environment variable KAFKA_GROUP_IDD is not known and not used; did you mean KAFKA_GROUP_ID?"
            ]
        );
    }
}
