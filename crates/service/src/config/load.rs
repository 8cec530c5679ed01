//! The layers put together.
//! Invariant: a later layer wins per key; an error in one layer does not hide the errors of another.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};

use serde::de::DeserializeOwned;

use super::decode::{Known, decode};
use super::environment::{self, Variable, secret_name};
use super::show::{Secrets, set_values};
use super::value::{Origin, Path, Table, Value, insert};
use super::{COMMON_ENV, CommonConfig, ConfigError, Entry, EnvKey, Problem, file, schema};

/// Where configuration comes from. See the module's example.
#[derive(Clone, Debug)]
pub struct Loader {
    keys: Vec<EnvKey>,
    file: Option<PathBuf>,
    environment: BTreeMap<String, String>,
    set: Vec<String>,
}

/// A configuration, and what is to be said about it.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The configuration.
    pub config: T,
    /// Every known key, and every one that was set, for `config show`.
    pub entries: Vec<Entry>,
    /// Variables that look meant for us but are not known; to be logged.
    pub warnings: Vec<String>,
}

/// A service's configuration and the sections that all services have.
#[derive(Clone, Debug)]
pub struct ServiceConfig<C> {
    /// `[admin]`, `[log]`, `[telemetry]`, `[lifecycle]`.
    pub common: CommonConfig,
    /// The rest.
    pub app: C,
}

impl Loader {
    /// A loader that knows these environment names, besides those of a `[kafka]` section: there, every key `x` of the
    /// section is `KAFKA_X`, and `KAFKA_PROP_A_B` is the librdkafka property `a.b`.
    #[must_use]
    pub fn new(keys: &[EnvKey]) -> Self {
        Self {
            keys: keys.to_vec(),
            file: None,
            environment: BTreeMap::new(),
            set: Vec::new(),
        }
    }

    /// Reads this file; it must exist.
    #[must_use]
    pub fn file(mut self, path: Option<&FilePath>) -> Self {
        self.file = path.map(FilePath::to_path_buf);
        self
    }

    /// Reads the environment of this process.
    #[must_use]
    pub fn process_environment(self) -> Self {
        // Text that is not UTF-8 keeps its replacement characters, by which it is refused later.
        let lossy = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        self.environment(std::env::vars_os().map(|(name, value)| (lossy(name), lossy(value))))
    }

    /// Reads these variables.
    #[must_use]
    pub fn environment<N: Into<String>, V: Into<String>>(
        mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        self.environment.extend(
            variables
                .into_iter()
                .map(|(name, value)| (name.into(), value.into())),
        );
        self
    }

    /// Takes these `key=value` pairs, the last layer.
    #[must_use]
    pub fn set(mut self, pairs: impl IntoIterator<Item = String>) -> Self {
        self.set.extend(pairs);
        self
    }

    /// Loads `T`, or all that is wrong.
    ///
    /// # Errors
    /// Every problem of every layer.
    pub fn load<T: DeserializeOwned>(&self) -> Result<Loaded<T>, ConfigError> {
        let mut sources = self.sources(&schema::keys::<T>());
        let table = std::mem::take(&mut sources.table);
        let entries = sources.entries(&table);
        let config = sources.decode(table, &[]);
        sources.finish(config, entries)
    }

    /// Loads a service's configuration with the common sections, or all that is wrong.
    ///
    /// # Errors
    /// Every problem of every layer.
    pub fn load_service<C: DeserializeOwned>(
        &self,
    ) -> Result<Loaded<ServiceConfig<C>>, ConfigError> {
        let keys = [schema::keys::<CommonConfig>(), schema::keys::<C>()].concat();
        let mut sources = self.with_common().sources(&keys);
        let mut app = std::mem::take(&mut sources.table);
        let entries = sources.entries(&app);
        let common = take_common(&mut app);
        let common = sources.decode::<CommonConfig>(common, &[]);
        let app = sources.decode::<C>(app, schema::top::<CommonConfig>());
        let config = common
            .zip(app)
            .map(|(common, app)| ServiceConfig { common, app });
        sources.finish(config, entries)
    }

    /// The common sections alone, as far as they can be read: for a health check, or to log what is wrong with the rest.
    #[must_use]
    pub fn common(&self) -> CommonConfig {
        let mut sources = self.with_common().sources(&schema::keys::<CommonConfig>());
        let mut table = std::mem::take(&mut sources.table);
        let common = take_common(&mut table);
        sources.decode(common, &[]).unwrap_or_default()
    }

    fn with_common(&self) -> Self {
        let mut loader = self.clone();
        loader.keys.extend(COMMON_ENV);
        loader
    }

    fn sources(&self, keys: &[Vec<&'static str>]) -> Sources {
        let variables = variables(&self.keys, keys);
        let kafka = keys.iter().any(|way| way.first() == Some(&"kafka"));
        let secrets = variables
            .iter()
            .filter(|variable| variable.secret)
            .map(|variable| variable.path.clone());
        let mut sources = Sources {
            keys: keys.iter().map(|way| way.join(".")).collect(),
            secrets: Secrets {
                declared: secrets.collect(),
            },
            variables,
            ..Sources::default()
        };
        if let Some(path) = &self.file {
            sources.table = file::read(path, &mut sources.problems);
        }
        let found = environment::read(
            &self.environment,
            &sources.variables,
            kafka,
            &mut sources.problems,
        );
        sources.warnings = found.warnings;
        for (path, value) in found.values {
            insert(&mut sources.table, &path, value);
        }
        self.set.iter().for_each(|pair| sources.flag(pair));
        sources
    }
}

/// Every key that `T` knows, as in `database.url`.
#[must_use]
pub fn known_keys<T: DeserializeOwned>() -> Vec<String> {
    schema::keys::<T>()
        .iter()
        .map(|way| way.join("."))
        .collect()
}

/// The declared variables, and `KAFKA_X` for each key `kafka.x` that none of them sets.
fn variables(declared: &[EnvKey], keys: &[Vec<&'static str>]) -> Vec<Variable> {
    let mut variables: Vec<Variable> = declared
        .iter()
        .map(|key| Variable {
            name: key.name.into(),
            path: Path::parse(key.key),
            secret: key.secret,
        })
        .collect();
    for way in keys {
        let ["kafka", key] = way.as_slice() else {
            continue;
        };
        let name = format!("KAFKA_{}", key.to_ascii_uppercase());
        if *key != "properties" && !variables.iter().any(|variable| variable.name == name) {
            variables.push(Variable {
                name,
                path: Path::of(way),
                secret: secret_name(key),
            });
        }
    }
    variables
}

fn take_common(table: &mut Table) -> Table {
    let names = schema::top::<CommonConfig>().iter();
    names.filter_map(|name| table.remove_entry(*name)).collect()
}

/// The layers, merged.
#[derive(Default)]
struct Sources {
    table: Table,
    keys: Vec<String>,
    variables: Vec<Variable>,
    secrets: Secrets,
    problems: Vec<Problem>,
    warnings: Vec<String>,
}

impl Sources {
    fn flag(&mut self, pair: &str) {
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

    fn decode<T: DeserializeOwned>(&mut self, table: Table, top: &[&'static str]) -> Option<T> {
        let known = Known {
            keys: &self.keys,
            top,
            secrets: &self.secrets,
        };
        decode(table, &known, &mut self.problems)
    }

    fn entries(&self, table: &Table) -> Vec<Entry> {
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

    fn finish<T>(self, config: Option<T>, entries: Vec<Entry>) -> Result<Loaded<T>, ConfigError> {
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
