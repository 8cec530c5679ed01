//! The layers merged into one table, and what is wrong with them so far.
//! Invariant: problems only ever grow; nothing that was found wrong is forgotten before it is told.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use super::decode::{Known, decode};
use super::environment::{self, Variable};
use super::show::{Secrets, set_values};
use super::value::{Origin, Path, Table, Value, insert};
use super::{ConfigError, Entry, Loaded, Problem, file};

/// The layers, merged.
#[derive(Default)]
pub(super) struct Sources {
    pub(super) table: Table,
    keys: Vec<String>,
    variables: Vec<Variable>,
    secrets: Secrets,
    problems: Vec<Problem>,
    warnings: Vec<String>,
    /// The file cannot be read as a whole: what seems to be missing or misplaced in it may be there.
    is_broken: bool,
}

impl Sources {
    pub(super) fn new(variables: Vec<Variable>, keys: &[Vec<&'static str>]) -> Self {
        let secrets = variables
            .iter()
            .filter(|variable| variable.secret)
            .map(|variable| variable.path.clone());
        let secrets = Secrets {
            declared: secrets.collect(),
        };
        let mut names: Vec<_> = keys.iter().map(|way| way.join(".")).collect();
        // A flattened section shows its names only here.
        let declared: Vec<_> = variables
            .iter()
            .map(|variable| variable.path.to_string())
            .filter(|key| !names.contains(key))
            .collect();
        names.extend(declared);
        Self {
            keys: names,
            secrets,
            variables,
            ..Self::default()
        }
    }

    pub(super) fn file(&mut self, path: &std::path::Path) {
        let before = self.problems.len();
        self.table = file::read(path, &mut self.problems);
        self.is_broken = self.problems.len() > before;
    }

    pub(super) fn environment(&mut self, variables: &BTreeMap<String, String>) {
        let kafka = self.keys.iter().any(|key| key.starts_with("kafka."));
        let found = environment::read(variables, &self.variables, kafka, &mut self.problems);
        self.warnings = found.warnings;
        for (path, value) in found.values {
            insert(&mut self.table, &path, value);
        }
    }

    /// What is to be said besides, without being wrong.
    pub(super) fn warn(&mut self, warnings: Vec<String>) {
        self.warnings.extend(warnings);
    }

    pub(super) fn flag(&mut self, pair: &str) {
        match pair.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                insert(
                    &mut self.table,
                    &Path::parse(key.trim()),
                    Value::text(value, Origin::Flag),
                );
            }
            _ => self.problems.push(Problem {
                key: String::new(),
                message: format!("`--set {pair}` names no key and value"),
                origin: Some(Origin::Flag),
                found: None,
                right: Some("--set key=value, for example --set log.format=pretty".into()),
            }),
        }
    }

    pub(super) fn decode<T: DeserializeOwned>(
        &mut self,
        table: Table,
        top: &[&'static str],
    ) -> Option<T> {
        let known = Known {
            keys: &self.keys,
            top,
            secrets: &self.secrets,
        };
        let mut found = Vec::new();
        let decoded = decode(table, &known, &mut found);
        let is_certain = |problem: &Problem| match problem.origin {
            None | Some(Origin::File { .. }) => !self.is_broken,
            Some(_) => true,
        };
        self.problems.extend(found.into_iter().filter(is_certain));
        decoded
    }

    pub(super) fn entries(&self, table: &Table) -> Vec<Entry> {
        let variable = |path: &Path| {
            self.variables
                .iter()
                .find(|variable| variable.path == *path)
                .map(|variable| variable.name.clone())
        };
        let set = set_values(table, &self.secrets);
        let mut entries: Vec<_> = set
            .into_iter()
            .map(|(path, value, origin)| Entry {
                key: path.to_string(),
                value: Some(value),
                origin,
                variable: variable(&path),
            })
            .collect();
        for key in &self.keys {
            let below = |entry: &Entry| {
                entry
                    .key
                    .strip_prefix(key.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
            };
            if !entries.iter().any(below) {
                let variable = variable(&Path::parse(key));
                entries.push(Entry {
                    key: key.clone(),
                    value: None,
                    origin: Origin::Default.to_string(),
                    variable,
                });
            }
        }
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        entries
    }

    pub(super) fn finish<T>(
        self,
        config: Option<T>,
        entries: Vec<Entry>,
    ) -> Result<Loaded<T>, ConfigError> {
        match config {
            Some(config) if self.problems.is_empty() => Ok(Loaded {
                config,
                entries,
                warnings: self.warnings,
            }),
            _ => Err(ConfigError {
                problems: self.problems,
            }),
        }
    }
}
