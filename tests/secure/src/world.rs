//! One secured pipeline: servers, services, receiver.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use devstack::{Launch, Needs, Process, Shared, Stack, program_beside_test as program};
use platform::TopicSettings;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{Instant, timeout};

use crate::services::environment;
use crate::{Authority, Evidence, Secrets, proxy, servers};

const SERVICES: [&str; 4] = [
    "enricher",
    "clickhouse-sink",
    "redis-aggregator",
    "webhook-forwarder",
];
const READY_WITHIN: Duration = Duration::from_secs(180);
const COMMAND_WITHIN: Duration = Duration::from_secs(300);
const PARTITIONS: i32 = 4;

/// Where everything is.
pub struct Places {
    pub(crate) kafka: String,
    pub(crate) connect: String,
    pub(crate) clickhouse: String,
    pub(crate) redis: String,
    pub(crate) postgres: String,
    pub(crate) receiver: u16,
    pub(crate) admin: BTreeMap<&'static str, u16>,
    pub(crate) ca: PathBuf,
    pub(crate) config: PathBuf,
    pub(crate) secrets: Secrets,
}

/// The pipeline. Ends with the test process, however that ends.
pub struct World {
    /// Where everything is.
    pub places: Places,
    /// An authority that signed nothing here.
    pub other: Authority,
    stack: Stack,
    processes: Mutex<Vec<Process>>,
    dir: TempDir,
}

/// How a program ended, and all that it said.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Exit code.
    pub code: i32,
    /// Standard output and standard error.
    pub said: String,
}

impl World {
    /// The pipeline that all tests of this process share.
    pub async fn shared() -> &'static Self {
        static SHARED: Shared<World> = Shared::new();
        SHARED.get(Self::start).await
    }

    async fn start() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path(), "own");
        let other = Authority::create(dir.path(), "other");
        let mut secrets = Secrets::new(&dir.path().join("secrets"));
        let secured = servers::secured(&authority, &TopicSettings::default(), &mut secrets);
        let builder = Stack::builder().needs(Needs::all()).private();
        let stack = builder.secured(secured).start().await.unwrap();
        let clickhouse = proxy::serve(&authority, stack.clickhouse().port()).await;
        let places = Places {
            kafka: stack.kafka().bootstrap.clone(),
            connect: stack.connect().url.clone(),
            clickhouse: format!("https://127.0.0.1:{clickhouse}"),
            redis: stack.redis().url.clone(),
            postgres: stack.postgres().url.clone(),
            receiver: devstack::free_port().unwrap(),
            admin: SERVICES
                .into_iter()
                .chain(["canary"])
                .map(|name| (name, devstack::free_port().unwrap()))
                .collect(),
            ca: authority.ca,
            config: dir.path().join("engage.toml"),
            secrets,
        };
        let mut world = Self {
            places,
            other,
            stack,
            processes: Mutex::default(),
            dir,
        };
        world.write_files();
        world.prepare().await;
        world.run_everything().await;
        world
    }

    /// The URLs with their passwords, the endpoint's secret, and what has no variable.
    fn write_files(&mut self) {
        let places = &mut self.places;
        let roles = [
            "engage",
            "engage_enricher",
            "engage_reader",
            "engage_canary",
            "engage_erase",
            "nobody",
        ];
        for role in roles {
            let password = places.secrets.draw(&format!("postgres-{role}"));
            let url = login(&places.postgres, role, &password);
            places.secrets.keep(&format!("url-{role}"), &url);
        }
        let admin = self.stack.postgres().admin_url.clone();
        places.secrets.keep("url-postgres", &admin);
        let redis_users = [
            "redis-aggregator",
            "engagectl",
            "engagectl-erase",
            "engage-reader",
            "half",
        ];
        for user in redis_users {
            let password = places.secrets.value(&format!("redis-{user}"));
            let url = login(&places.redis, user, password);
            places.secrets.keep(&format!("url-redis-{user}"), &url);
        }
        // 33 bytes in Base64
        let signing = places.secrets.draw("signing")[..44].to_owned();
        places.secrets.keep("webhook", &format!("whsec_{signing}"));
        places.secrets.draw("wrong");
        places.secrets.keep("erase-key", &signing_key());
        let connect = places.secrets.file("connect.properties");
        let text = format!(
            "[topics]\npartitions = {PARTITIONS}\n[database]\nowner = 'engage'\n[connect]\n\
             database_password = '${{file:{}:postgres}}'\n",
            connect.display()
        );
        std::fs::write(&places.config, text).unwrap();
    }

    /// Roles by the superuser, everything else by `engagectl init`, then the rights that it does not give.
    async fn prepare(&self) {
        let secret = |role: &str| self.places.secrets.value(&format!("postgres-{role}"));
        let owner = format!(
            "CREATE ROLE engage LOGIN PASSWORD '{}'; ALTER DATABASE engage OWNER TO engage; CREATE ROLE nobody LOGIN PASSWORD '{}'",
            secret("engage"),
            secret("nobody")
        );
        self.as_superuser(&owner).await;
        let admin = self.places.secrets.file("url-postgres");
        let admin = [("DATABASE_URL_FILE", admin.display().to_string())];
        let created = self.engagectl(&["init", "--yes"], &admin).await;
        assert_eq!(created.code, 0, "{}", created.said);
        self.as_superuser(&platform::access::postgres::statements())
            .await;
        let roles = [
            "engage_enricher",
            "engage_reader",
            "engage_canary",
            "engage_erase",
        ];
        for role in roles {
            let password = secret(role);
            self.as_superuser(&format!("ALTER ROLE {role} PASSWORD '{password}'"))
                .await;
        }
    }

    async fn as_superuser(&self, sql: &str) {
        let mut connection = PgConnection::connect(&self.stack.postgres().admin_url)
            .await
            .unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
            .execute(&mut connection)
            .await
            .unwrap();
    }

    async fn run_everything(&self) {
        std::fs::create_dir_all(self.logs()).unwrap();
        let secret = self.places.secrets.file("webhook");
        let receiver = Launch::new("receiver", program("engagectl"), self.log("receiver"))
            .args(["webhook", "listen", "--addr"])
            .arg(format!("127.0.0.1:{}", self.places.receiver))
            .env("WEBHOOK_SECRET_FILE", secret);
        self.spawn(&receiver);
        for name in SERVICES {
            let mut launch = Launch::new(name, program(name), self.log(name));
            for (key, value) in environment(name, &self.places) {
                launch = launch.env(key, value);
            }
            self.spawn(&launch);
        }
        for name in SERVICES {
            self.wait_ready(name).await;
        }
    }

    fn spawn(&self, launch: &Launch) {
        let process = self.stack.supervisor().spawn(launch).unwrap();
        let mut all = self
            .processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.push(process);
    }

    async fn wait_ready(&self, name: &'static str) {
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let answer = self.get(name, "readyz").await;
            if matches!(answer, Some((true, _))) {
                return;
            }
            let log = std::fs::read_to_string(self.log(name)).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(10).collect();
            assert!(
                Instant::now() < deadline,
                "{name}: {answer:?}\n{}",
                tail.join("\n")
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// An answer of a service's admin port: whether it is a success, and its text.
    pub async fn get(&self, service: &str, path: &str) -> Option<(bool, String)> {
        let url = format!("http://127.0.0.1:{}/{path}", self.places.admin[service]);
        let response = reqwest::get(url).await.ok()?;
        let success = response.status().is_success();
        Some((success, response.text().await.ok()?))
    }

    /// Runs the canary until its metrics are `enough`.
    ///
    /// # Panics
    /// When that takes too long; with the end of its log.
    pub async fn canary(&self, enough: impl Fn(&str) -> bool) {
        let mut launch = Launch::new("canary", program("engagectl"), self.log("canary"))
            .args(["canary", "--every", "500ms"]);
        for (key, value) in environment("canary", &self.places) {
            launch = launch.env(key, value);
        }
        let mut process = self.stack.supervisor().spawn(&launch).unwrap();
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            let metrics = self.get("canary", "metrics").await;
            if metrics.is_some_and(|(_, text)| enough(&text)) {
                break;
            }
            let log = std::fs::read_to_string(self.log("canary")).unwrap_or_default();
            assert!(Instant::now() < deadline, "{log}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let stopping = tokio::task::spawn_blocking(move || process.stop(Duration::from_secs(30)));
        stopping.await.unwrap().unwrap();
    }

    /// Runs `engagectl` as the operator, with these variables before its own.
    pub async fn engagectl(&self, arguments: &[&str], variables: &[(&str, String)]) -> Outcome {
        self.run("engagectl", arguments, variables).await
    }

    /// Runs `engagectl` as who erases persons.
    pub async fn erase(&self, arguments: &[&str]) -> Outcome {
        let user = "engagectl-erase";
        self.run_as(("engagectl", user), arguments, &[]).await
    }

    /// Runs a program to its end, with these variables before its own; an empty value takes one away.
    ///
    /// # Panics
    /// When it does not end in time.
    pub async fn run(
        &self,
        name: &str,
        arguments: &[&str],
        variables: &[(&str, String)],
    ) -> Outcome {
        self.run_as((name, name), arguments, variables).await
    }

    async fn run_as(
        &self,
        (name, user): (&str, &str),
        arguments: &[&str],
        variables: &[(&str, String)],
    ) -> Outcome {
        let mut command = Command::new(program(name));
        command
            .args(arguments)
            .envs(environment(user, &self.places))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        for (key, value) in variables {
            command.env(key, value);
        }
        // the running service has its own
        let port = devstack::free_port().unwrap();
        command.env("ADMIN_ADDR", format!("127.0.0.1:{port}"));
        let ended = timeout(COMMAND_WITHIN, command.output()).await;
        let output = ended
            .unwrap_or_else(|_| panic!("{name} {arguments:?} did not end"))
            .unwrap();
        Outcome {
            code: output.status.code().unwrap_or(-1),
            said: String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        }
    }

    /// A URL of this store as that user.
    #[must_use]
    pub fn postgres_url(&self, role: &str) -> String {
        self.places.secrets.value(&format!("url-{role}")).to_owned()
    }

    /// All that was written down so far.
    pub async fn evidence(&self) -> Evidence {
        let mut evidence = Evidence::default();
        evidence.add_files(&self.stack.dir().join("log"));
        evidence.add_files(&self.logs());
        evidence.add_processes();
        for name in SERVICES {
            let (_, metrics) = self.get(name, "metrics").await.unwrap();
            evidence.add(format!("metrics of {name}"), metrics);
            for form in [
                &["config", "show"][..],
                &["config", "show", "-o", "json"][..],
            ] {
                let shown = self.run(name, form, &[]).await;
                assert_eq!(shown.code, 0, "{}", shown.said);
                evidence.add(format!("config show of {name}"), shown.said);
            }
        }
        let connector = format!("{}/connectors/engage-cdc/config", self.places.connect);
        let connector = reqwest::get(connector).await.unwrap().text().await.unwrap();
        assert!(connector.contains("verify-full"), "{connector}");
        evidence.add("Connect's REST interface", connector);
        evidence
    }

    fn logs(&self) -> PathBuf {
        self.dir.path().join("logs")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.logs().join(format!("{name}.log"))
    }

    /// Kafka as that user, for questions of the tests' own.
    #[must_use]
    pub fn kafka_settings(&self, user: &str) -> stream::KafkaSettings {
        stream::KafkaSettings {
            bootstrap_servers: self.places.kafka.clone(),
            security_protocol: stream::settings::SecurityProtocol::SaslSsl,
            sasl_mechanism: Some("SCRAM-SHA-512".into()),
            sasl_username: Some(user.into()),
            sasl_password: Some(self.places.secrets.value(&format!("kafka-{user}")).into()),
            ssl_ca_location: Some(self.places.ca.clone()),
            ..stream::KafkaSettings::default()
        }
    }
}

impl Places {
    /// The secrets, by name.
    #[must_use]
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The authority that signed the servers' certificate.
    #[must_use]
    pub fn ca(&self) -> &Path {
        &self.ca
    }

    /// ClickHouse, over HTTPS.
    #[must_use]
    pub fn clickhouse(&self) -> &str {
        &self.clickhouse
    }

    /// Postgres without a user, Redis without a user, Kafka's bootstrap server, the receiver.
    #[must_use]
    pub fn addresses(&self) -> [String; 4] {
        [
            self.postgres.clone(),
            self.redis.clone(),
            self.kafka.clone(),
            format!("http://127.0.0.1:{}", self.receiver),
        ]
    }
}

fn login(url: &str, user: &str, password: &str) -> String {
    url.replacen("://", &format!("://{user}:{password}@"), 1)
}

/// An Ed25519 key as openssl writes it; it protects nothing.
fn signing_key() -> String {
    let label = "PRIVATE KEY";
    let body = format!("MC4CAQAwBQYDK2VwBCIEI{}", "A".repeat(43));
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}
