//! The sink's binary as a child process.

use std::fmt::Write as _;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::clickhouse::Database;
use crate::log::{Log, WAIT};

/// How to start it.
#[derive(Clone)]
pub(crate) struct Setup {
    environment: Vec<(String, String)>,
    log: PathBuf,
    admin: u16,
}

/// A running sink; killed when dropped.
pub(crate) struct Sink {
    child: Child,
    setup: Setup,
}

impl Setup {
    pub(crate) fn new(log: &Log, database: &Database, group: &str) -> Self {
        let admin = devstack::free_port().unwrap();
        let values = [
            ("KAFKA_BOOTSTRAP_SERVERS", log.bootstrap.as_str()),
            ("KAFKA_ENRICHED_TOPIC", &log.topic),
            ("KAFKA_GROUP_ID", group),
            ("CLICKHOUSE_URL", &database.url),
            ("CLICKHOUSE_USER", "admin"),
            ("CLICKHOUSE_PASSWORD", "admin"),
            ("CLICKHOUSE_DATABASE", &database.name),
            ("ADMIN_ADDR", &format!("127.0.0.1:{admin}")),
            ("RUST_LOG", "info,clickhouse_sink=debug"),
        ];
        let environment = values
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let file = format!("clickhouse-sink-{group}-{}.log", std::process::id());
        Self {
            environment,
            log: std::env::temp_dir().join(file),
            admin,
        }
        .set("kafka.dead_letter_topic", &log.letters)
    }

    /// Sets a key of the configuration.
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        self.environment
            .push((format!("--set {key}"), value.to_owned()));
        self
    }

    /// Replaces an environment variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn start(&self) -> Sink {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_clickhouse-sink"));
        command
            .env_clear()
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        for (name, value) in &self.environment {
            match name.strip_prefix("--set ") {
                Some(key) => command.arg("--set").arg(format!("{key}={value}")),
                None => command.env(name, value),
            };
        }
        Sink {
            child: command.spawn().unwrap(),
            setup: self.clone(),
        }
    }

    /// The last lines of its log.
    pub(crate) fn tail(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Sink {
    /// Ends it as a crash does.
    pub(crate) fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(&mut self) {
        self.signal("TERM");
        assert_eq!(self.exit().await, 0, "{}", self.setup.tail());
    }

    /// Waits until it ends by itself.
    pub(crate) async fn exit(&mut self) -> i32 {
        let until = Instant::now() + WAIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(
                Instant::now() < until,
                "still running after {WAIT:?}\n{}",
                self.setup.tail()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) fn tail(&self) -> String {
        self.setup.tail()
    }

    /// What the admin port answers; empty while there is none.
    pub(crate) async fn admin(&self, path: &str) -> String {
        let url = format!("http://127.0.0.1:{}{path}", self.setup.admin);
        match reqwest::Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .get(url)
            .send()
            .await
        {
            Ok(response) => response.text().await.unwrap_or_default(),
            Err(_) => String::new(),
        }
    }

    /// The most memory of its own that was ever resident, in MiB. Pages of code are the kernel's to drop, and a debug
    /// build has three times as many as the one that people run.
    pub(crate) fn peak_mib(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).unwrap();
        let kib = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap()
                .trim()
                .trim_end_matches(" kB")
                .parse()
                .unwrap()
        };
        (kib("VmHWM:") - kib("RssFile:")) / 1024
    }

    /// The sum of a metric over its labels.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.admin("/metrics").await;
        let samples = text.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        });
        samples
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Waits until a metric's sum is at least this: it is counted a moment after its effect can be seen.
    pub(crate) async fn until_counted(&self, name: &str, least: f64) {
        let until = Instant::now() + WAIT;
        loop {
            let found = self.metric(name).await;
            if found >= least {
                return;
            }
            let late = format!("{name} is {found}, not {least}");
            assert!(Instant::now() < until, "{late}\n{}", self.tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until `/readyz` is as wanted.
    pub(crate) async fn until_readyz(&self, wanted: impl Fn(&str) -> bool) {
        let until = Instant::now() + WAIT;
        loop {
            let ready = self.admin("/readyz").await;
            if wanted(&ready) {
                return;
            }
            assert!(Instant::now() < until, "still {ready}\n{}", self.tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until `seen` gives `expected`.
    pub(crate) async fn until<F: Future<Output = String>>(
        &mut self,
        expected: &str,
        seen: impl Fn() -> F,
    ) {
        self.until_it(expected, |text| text == expected, seen).await;
    }

    /// Waits until what is seen is as wanted.
    pub(crate) async fn until_it<F: Future<Output = String>>(
        &mut self,
        what: &str,
        wanted: impl Fn(&str) -> bool,
        seen: impl Fn() -> F,
    ) {
        let until = Instant::now() + WAIT;
        loop {
            let now = seen().await;
            if wanted(&now) {
                return;
            }
            let mut report = format!("waited {WAIT:?} for {what:?}, saw {now:?}");
            if let Some(status) = self.child.try_wait().unwrap() {
                let _ = write!(report, "; the sink has ended: {status}");
                panic!("{report}\n{}", self.setup.tail());
            }
            assert!(Instant::now() < until, "{report}\n{}", self.setup.tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            let _ = std::fs::remove_file(&self.setup.log);
        }
    }
}
