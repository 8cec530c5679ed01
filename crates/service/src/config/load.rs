//! The layers put together.
//! Invariant: a later layer wins per key; an error in one layer does not hide the errors of another.

use std::collections::BTreeMap;
use std::path::{Path as FilePath, PathBuf};

use serde::de::DeserializeOwned;

use super::environment::{Variable, secret_name};
use super::sources::Sources;
use super::value::{Path, Table};
use super::{COMMON_ENV, CommonConfig, ConfigError, Entry, EnvKey, demo, schema};

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
    /// Variables that look meant for us but are not known, and secrets of the demo elsewhere; to be logged.
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
        sources.warn(demo::warnings(&table));
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
        sources.warn(demo::warnings(&app));
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
        let mut sources = Sources::new(variables(&self.keys, keys), keys);
        if let Some(path) = &self.file {
            sources.file(path);
        }
        sources.environment(&self.environment);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde::Deserialize;

    use super::super::Origin;
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        names: Vec<String>,
        ports: Vec<u16>,
        wait: Option<Limit>,
        endpoint: Vec<Endpoint>,
        kafka: Kafka,
        sink: Sink,
        redis: Redis,
        share: f64,
        on: bool,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Kafka {
        #[serde(flatten)]
        connection: Connection,
        group_id: String,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Connection {
        bootstrap_servers: String,
        security_protocol: Sink,
        sasl_password: Option<secrecy::SecretString>,
        properties: BTreeMap<String, String>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Endpoint {
        name: String,
        url: url::Url,
        #[serde(default)]
        secrets: Vec<String>,
        #[serde(default)]
        limit: u8,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Limit {
        #[serde(with = "humantime_serde")]
        at_most: Duration,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Sink {
        #[default]
        None,
        File(String),
        Table {
            name: String,
        },
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Redis {
        url: Option<url::Url>,
    }

    const ENV: &[EnvKey] = &[
        EnvKey::plain("REDIS_URL", "redis.url"),
        EnvKey::plain("PORTS", "ports"),
        EnvKey::plain("SHARE", "share"),
    ];

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("engage.toml");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn problems(loader: &Loader) -> Vec<String> {
        loader
            .load::<Config>()
            .unwrap_err()
            .problems
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_file_that_is_no_toml_has_no_other_problems() {
        let (_dir, path) = file("[kafka\nbootstrap_servers = 'a:1'\n");
        let loader = Loader::new(ENV).file(Some(&path));
        let found = problems(&loader.environment([("SHARE", "x")]));
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("not TOML"), "{found:?}");
        assert!(found[1].contains("SHARE"), "{found:?}");
    }

    #[test]
    fn text_becomes_what_the_field_wants() {
        let set = [
            "names=a, b",
            "endpoint=[{name='crm', url='http://a/'}]",
            "wait={at_most='3s'}",
            "on=yes",
            "sink=none",
        ];
        let loader = Loader::new(ENV)
            .environment([("PORTS", "1,2"), ("SHARE", "0.25")])
            .set(set.map(str::to_owned));
        let config = loader.load::<Config>().unwrap().config;
        assert_eq!(
            (
                config.names.join("+"),
                config.ports,
                config.share,
                config.on
            ),
            ("a+b".into(), vec![1, 2], 0.25, true)
        );
        let crm = &config.endpoint[0];
        assert_eq!(
            (
                crm.name.as_str(),
                crm.url.as_str(),
                crm.secrets.len(),
                crm.limit
            ),
            ("crm", "http://a/", 0, 0)
        );
        assert_eq!(
            config.wait,
            Some(Limit {
                at_most: Duration::from_secs(3)
            })
        );
        assert_eq!(config.sink, Sink::None);
    }

    #[test]
    fn choices_with_content_are_tables() {
        let load = |text: &str| {
            let (_dir, path) = file(text);
            Loader::new(ENV)
                .file(Some(&path))
                .load::<Config>()
                .unwrap()
                .config
                .sink
        };
        assert_eq!(load("sink = 'none'"), Sink::None);
        assert_eq!(load("sink = {file = '/x'}"), Sink::File("/x".into()));
        assert_eq!(
            load("[sink.table]\nname = 'y'"),
            Sink::Table { name: "y".into() }
        );
    }

    #[test]
    fn one_bad_element_of_a_list_hides_no_other_and_indices_stay() {
        let (_dir, path) = file(
            "[[endpoint]]\nname = 'a'\n[[endpoint]]\nname = 'b'\nurl = 'not a url'\n[[endpoint]]\nname = 'c'\nurl = 'http://c/'\nlimit = 256\nurll = 1\n",
        );
        let found = problems(&Loader::new(ENV).file(Some(&path)));
        let line = |number: usize| format!("{}:{number}", path.display());
        assert_eq!(found.len(), 4, "{found:#?}");
        assert_eq!(
            found[0],
            format!(
                "endpoint[0]: `url` is missing ({})\n  right: a value for `url`",
                line(1)
            )
        );
        assert!(
            found[1].starts_with("endpoint[1].url: relative URL without a base")
                && found[1].contains(&line(5)),
            "{found:#?}"
        );
        assert!(
            found[2].starts_with("endpoint[2].limit: integer `256` does not fit"),
            "{found:#?}"
        );
        assert!(
            found[3].contains("endpoint[2].urll")
                && found[3].contains("did you mean `endpoint[2].url`?"),
            "{found:#?}"
        );
    }

    #[test]
    fn a_value_that_is_secret_or_holds_a_password_is_in_no_problem() {
        let (_dir, path) =
            file("[[endpoint]]\nname = 'a'\nurl = 'http://a/'\nsecrets = 'whsec_hush'\n");
        let loader = Loader::new(ENV)
            .file(Some(&path))
            .environment([("REDIS_URL", "redis://u:hush@[bad/0")]);
        let found = problems(&loader);
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(
            found
                .iter()
                .all(|problem| !problem.contains("hush") && problem.contains("not shown")),
            "{found:#?}"
        );
        assert!(!format!("{:?}", loader.load::<Config>().unwrap_err()).contains("hush"));
    }

    #[test]
    fn a_key_in_the_wrong_place_is_pointed_to_the_right_one() {
        let found = problems(&Loader::new(ENV).set([
            "at_most=3s".to_owned(),
            "redis.ulr=x".to_owned(),
            "zzzzzzzz=1".to_owned(),
        ]));
        assert!(
            found[0].contains("did you mean `wait.at_most`?"),
            "{found:#?}"
        );
        assert!(found[1].contains("did you mean `redis.url`?"), "{found:#?}");
        assert!(found[2].contains("known here: names, ports"), "{found:#?}");
    }

    #[test]
    fn a_flattened_section_has_its_variables_its_properties_and_no_unknown_keys() {
        let environment = [
            ("KAFKA_BOOTSTRAP_SERVERS", "a:1"),
            ("KAFKA_SASL_PASSWORD", "hush"),
            ("KAFKA_PROP_LINGER_MS", "5"),
        ];
        let set = Loader::new(ENV)
            .environment(environment)
            .set(["kafka.group_id=g".to_owned()]);
        let loaded = set.load::<Config>().unwrap();
        let kafka = loaded.config.kafka;
        assert_eq!(
            (
                kafka.connection.bootstrap_servers.as_str(),
                kafka.group_id.as_str()
            ),
            ("a:1", "g")
        );
        assert!(
            kafka.connection.sasl_password.is_some()
                && kafka.connection.security_protocol == Sink::None
        );
        assert_eq!(kafka.connection.properties["linger.ms"], "5");
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        let wrong = [
            "kafka.bootstrap_server=x",
            "kafka.security_protocol=tls",
            "kafka.group_id=g",
        ]
        .map(str::to_owned);
        let found = problems(&Loader::new(ENV).set(wrong));
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(
            found[0].starts_with("kafka.security_protocol: there is no choice `tls`"),
            "{found:#?}"
        );
        assert!(
            found[1].starts_with("kafka.bootstrap_server: there is no such key"),
            "{found:#?}"
        );
        assert!(
            found[1].ends_with("did you mean `kafka.bootstrap_servers`?"),
            "{found:#?}"
        );
    }

    #[test]
    fn entries_name_the_variable_and_the_origin_of_each_key() {
        let loaded = Loader::new(ENV)
            .environment([("SHARE", "0.5")])
            .load::<Config>()
            .unwrap();
        let entry = |key: &str| {
            loaded
                .entries
                .iter()
                .find(|entry| entry.key == key)
                .unwrap()
                .clone()
        };
        let share = entry("share");
        assert_eq!(
            (share.value.as_deref(), share.origin.as_str()),
            (Some("0.5"), "environment variable SHARE")
        );
        let ports = entry("ports");
        assert_eq!(
            (ports.value, ports.origin, ports.variable.as_deref()),
            (None, Origin::Default.to_string(), Some("PORTS"))
        );
    }

    #[test]
    fn common_sections_stand_beside_those_of_the_service() {
        let loader = Loader::new(ENV).environment([
            ("ADMIN_ADDR", "0.0.0.0:1"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
            ("RUST_LOG", "debug,x=trace"),
        ]);
        let loaded = loader.load_service::<Config>().unwrap().config;
        assert_eq!(loaded.common.admin.addr.unwrap().port(), 1);
        assert!((loaded.common.telemetry.sampler_arg.get() - 0.5).abs() < f64::EPSILON);
        assert_eq!(loader.common().admin.addr, loaded.common.admin.addr);
        let wrong = Loader::new(ENV).set([
            "telemetry.sampler_arg=1.5".to_owned(),
            "log.filter=a=b=c".to_owned(),
            "adminn.addr=x".to_owned(),
        ]);
        let found: Vec<_> = wrong
            .load_service::<Config>()
            .unwrap_err()
            .problems
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found.len(), 3, "{found:#?}");
        assert!(
            found
                .iter()
                .any(|problem| problem.contains("a share between 0 and 1")),
            "{found:#?}"
        );
        assert!(
            found
                .iter()
                .any(|problem| problem.contains("did you mean `admin`?")),
            "{found:#?}"
        );
    }
}
