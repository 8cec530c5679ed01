//! A pipeline of its own up to Kafka: Postgres, a proxy before it, Connect with Debezium, and Kafka.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use devstack::Stack;
use platform::{ClickHouseSettings, ConnectSettings, Keeper, Settings};
use secrecy::SecretString;
use serde_json::Value;
use sqlx::{Connection as _, PgConnection};
use tokio::net::{TcpListener, TcpStream};

/// Nothing takes as long, however busy the machine is.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
/// No cut.
const NEVER: usize = usize::MAX;

/// Between Debezium and Postgres: forwards some connections, closes the next at once, and forwards all that follow.
struct Proxy {
    port: u16,
    before_cut: Arc<AtomicUsize>,
}

impl Proxy {
    async fn start(postgres: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let before_cut = Arc::new(AtomicUsize::new(NEVER));
        let left = Arc::clone(&before_cut);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let counted = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    (left != NEVER).then(|| left.checked_sub(1).unwrap_or(NEVER))
                });
                let cut = counted == Ok(0);
                if !cut {
                    tokio::spawn(forward(client, postgres));
                }
            }
        });
        Self { port, before_cut }
    }

    fn cut_after(&self, connections: usize) {
        self.before_cut.store(connections, Ordering::SeqCst);
    }
}

async fn forward(mut client: TcpStream, postgres: u16) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", postgres)).await else {
        return;
    };
    // either side may end it at any time
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

/// A pipeline of its own up to Kafka, with the proxy before Postgres.
pub(crate) struct Capture {
    pub(crate) stack: Stack,
    pub(crate) settings: Settings,
    proxy: Proxy,
}

impl Capture {
    pub(crate) async fn start(partitions: i32) -> Self {
        let builder = Stack::builder().postgres().kafka().connect().private();
        let stack = builder.start().await.unwrap();
        let url: url::Url = stack.postgres().admin_url.parse().unwrap();
        let proxy = Proxy::start(url.port().unwrap()).await;
        let mut settings = Settings {
            clickhouse: None::<ClickHouseSettings>,
            connect: Some(ConnectSettings {
                url: stack.connect().url.parse().unwrap(),
                database_host: Some("127.0.0.1".into()),
                database_port: Some(proxy.port),
                ..ConnectSettings::default()
            }),
            ..Settings::default()
        };
        settings.kafka.bootstrap_servers = stack.kafka().bootstrap.clone();
        settings.topics.partitions = partitions;
        settings.database.url = SecretString::from(stack.postgres().admin_url.clone());
        settings.database.cdc_password = Some(SecretString::from("cdc"));
        let plan = platform::plan(&settings).await.unwrap();
        plan.apply(&settings, |_| {}).await.unwrap();
        Self {
            stack,
            settings,
            proxy,
        }
    }

    pub(crate) fn keeper(&self) -> Keeper {
        let connect = self.settings.connect.clone().unwrap();
        Keeper::new(connect, self.settings.database.clone())
    }

    fn at(&self, what: &str) -> String {
        let connect = self.settings.connect.as_ref().unwrap();
        format!("{}connectors/{}/{what}", connect.url, connect.name)
    }

    pub(crate) async fn status(&self) -> String {
        let answer = client().get(self.at("status")).send().await.unwrap();
        answer.text().await.unwrap()
    }

    /// Asks the worker something about the connector until it does it: one that is busy says that it cannot.
    pub(crate) async fn ask(&self, method: reqwest::Method, what: &str) {
        let until = Instant::now() + PATIENCE;
        loop {
            let request = client().request(method.clone(), self.at(what));
            let answer = request.send().await.unwrap();
            if answer.status().is_success() {
                return;
            }
            let (status, text) = (answer.status(), answer.text().await.unwrap());
            assert!(Instant::now() < until, "{method} {what}: {status} {text}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Starts the connector again, and its third connection is cut: Debezium has asked two questions by then.
    pub(crate) async fn fail(&self) {
        let until = Instant::now() + PATIENCE;
        while !self.status().await.contains("FAILED") {
            assert!(Instant::now() < until, "{}", self.status().await);
            self.proxy.cut_after(2);
            let restart = client().post(self.at("restart?includeTasks=true"));
            restart.send().await.unwrap();
            let looks = Instant::now() + Duration::from_secs(10);
            while Instant::now() < looks && !self.status().await.contains("FAILED") {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        self.proxy.cut_after(NEVER);
    }

    pub(crate) async fn sql(&self, sql: &'static str) {
        let url = &self.stack.postgres().admin_url;
        let mut connection = PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    }

    /// The position up to which the connector has delivered.
    pub(crate) async fn delivered(&self) -> Value {
        let answer = client().get(self.at("offsets")).send().await.unwrap();
        answer.json().await.unwrap()
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}
