//! Where the servers and services of a local pipeline listen.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use devstack::Stack;
use platform::{ClickHouseSettings, ConnectSettings, EventIdType, Schema, Settings};
use secrecy::SecretString;

use super::SERVICES;

/// Password of the role that Debezium uses on a local stack, which listens on loopback only.
const LOCAL_CDC_PASSWORD: &str = service::config::demo::CDC_PASSWORD;

/// Everything that a local pipeline talks to.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The layout of the source tables.
    pub schema: Schema,
    /// As the platform's own role.
    pub postgres_url: String,
    /// As a superuser, for roles and publications.
    pub postgres_admin_url: String,
    /// Bootstrap servers.
    pub kafka: String,
    /// Connect's REST interface.
    pub connect_url: String,
    /// Redis.
    pub redis_url: String,
    /// ClickHouse's HTTP interface.
    pub clickhouse_url: String,
    /// Its user.
    pub clickhouse_user: String,
    /// Its password.
    pub clickhouse_password: String,
    /// Its database.
    pub clickhouse_database: String,
    /// The demo receiver.
    pub receiver: SocketAddr,
    /// Where Debezium reaches Postgres, if not as [`Addresses::postgres_url`] says: a proxy.
    pub debezium_postgres: Option<SocketAddr>,
    /// Bootstrap servers of the services that do not use [`Addresses::kafka`], by name: a proxy for each.
    pub kafka_detours: BTreeMap<&'static str, String>,
    /// Where spans go, if anywhere.
    pub traces: Option<TraceAddresses>,
    admin: [SocketAddr; 4],
}

/// A Jaeger, and how much of the stream is shown to it.
#[derive(Clone, Debug)]
pub struct TraceAddresses {
    /// Its pages and query API.
    pub jaeger_url: String,
    /// Where services send spans to, OTLP over HTTP.
    pub otlp_url: String,
    /// The share of events that are traced from their beginning.
    pub share: f64,
}

impl Addresses {
    /// The documented ports.
    #[must_use]
    pub fn documented(stack: &Stack, schema: Schema) -> Self {
        Self::new(stack, schema, 5001, [9101, 9102, 9103, 9104])
    }

    /// Ports that are free now, so that several pipelines can run at once.
    #[must_use]
    pub fn private(stack: &Stack, schema: Schema) -> Self {
        Self::new(
            stack,
            schema,
            free_port(),
            std::array::from_fn(|_| free_port()),
        )
    }

    fn new(stack: &Stack, schema: Schema, receiver: u16, admin: [u16; 4]) -> Self {
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Self {
            schema,
            postgres_url: stack.postgres().url.clone(),
            postgres_admin_url: stack.postgres().admin_url.clone(),
            kafka: stack.kafka().bootstrap.clone(),
            connect_url: stack.connect().url.clone(),
            redis_url: stack.redis().url.clone(),
            clickhouse_url: stack.clickhouse().url.clone(),
            clickhouse_user: stack.clickhouse().user.clone(),
            clickhouse_password: stack.clickhouse().password.clone(),
            clickhouse_database: stack.clickhouse().database.clone(),
            receiver: local(receiver),
            debezium_postgres: None,
            kafka_detours: BTreeMap::new(),
            traces: stack.jaeger_if_any().map(|jaeger| TraceAddresses {
                jaeger_url: jaeger.url.clone(),
                otlp_url: jaeger.otlp.clone(),
                share: 1.0,
            }),
            admin: admin.map(local),
        }
    }

    /// The admin interface of a service of [`SERVICES`].
    ///
    /// # Panics
    /// For another name.
    #[must_use]
    pub fn admin(&self, service: &str) -> SocketAddr {
        let index = SERVICES
            .iter()
            .position(|name| *name == service)
            .expect("the name is one of SERVICES");
        self.admin[index]
    }

    /// The bootstrap servers of a service.
    #[must_use]
    pub fn kafka_of(&self, service: &str) -> &str {
        self.kafka_detours.get(service).unwrap_or(&self.kafka)
    }

    /// What `platform` creates around the services.
    #[must_use]
    pub fn platform_settings(&self) -> Settings {
        let mut settings = Settings::default();
        settings.kafka.bootstrap_servers.clone_from(&self.kafka);
        settings.database.url = SecretString::from(self.postgres_admin_url.clone());
        settings.database.schema = self.schema;
        settings.database.owner = Some("engage".into());
        settings.database.cdc_password = Some(SecretString::from(LOCAL_CDC_PASSWORD));
        settings.connect = Some(ConnectSettings {
            url: self
                .connect_url
                .parse()
                .expect("the local stack gives a URL"),
            database_host: self.debezium_postgres.map(|at| at.ip().to_string()),
            database_port: self.debezium_postgres.map(|at| at.port()),
            ..ConnectSettings::default()
        });
        settings.clickhouse = Some(ClickHouseSettings {
            url: self
                .clickhouse_url
                .parse()
                .expect("the local stack gives a URL"),
            user: self.clickhouse_user.clone(),
            password: Some(SecretString::from(self.clickhouse_password.clone())),
            database: self.clickhouse_database.clone(),
            event_id_type: EventIdType::Int64,
            ..ClickHouseSettings::default()
        });
        settings
    }

    /// What a person may open or type, one line each.
    #[must_use]
    pub fn links(&self) -> Vec<String> {
        let mut links = vec![
            format!("psql {}", self.postgres_url),
            format!(
                "redis-cli -u {} ZREVRANGE engagement:10min 0 5 WITHSCORES",
                self.redis_url
            ),
            format!(
                "ClickHouse {}/play  user {}  password {}",
                self.clickhouse_url, self.clickhouse_user, self.clickhouse_password
            ),
            format!("webhook deliveries http://{}/", self.receiver),
            format!(
                "metrics {}",
                SERVICES
                    .map(|name| format!("http://{}/metrics", self.admin(name)))
                    .join(" ")
            ),
        ];
        links.extend(self.traces.as_ref().map(|traces| {
            let share = traces.share * 100.0;
            format!("traces {}/  {share} % of the events", traces.jaeger_url)
        }));
        links
    }
}

/// A port of 127.0.0.1 that nobody else gets while this process lives.
///
/// # Panics
/// Where the machine has none left.
#[must_use]
pub fn free_port() -> u16 {
    devstack::free_port().expect("a free port on 127.0.0.1")
}
