//! Which servers are wanted.
//!
//! Invariant: Connect implies Kafka, because it stores its state there.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// PostgreSQL with `wal_level=logical`.
    Postgres,
    /// One Kafka broker, KRaft, plaintext.
    Kafka,
    /// A Kafka Connect worker with the Debezium Postgres plugin.
    Connect,
    /// Redis with an append-only file and no eviction.
    Redis,
    /// ClickHouse over HTTP (and native TCP on an internal port).
    ClickHouse,
    /// Jaeger, which takes traces over OTLP.
    Jaeger,
}

impl Kind {
    /// Every server, in the order in which they are shown.
    pub const ALL: [Self; 6] = [
        Self::Postgres,
        Self::Kafka,
        Self::Connect,
        Self::Redis,
        Self::ClickHouse,
        Self::Jaeger,
    ];

    /// The name of its files and of its line in a status: `postgres`, `kafka`, ...
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Kafka => "kafka",
            Self::Connect => "connect",
            Self::Redis => "redis",
            Self::ClickHouse => "clickhouse",
            Self::Jaeger => "jaeger",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "Postgres",
            Self::Kafka => "Kafka",
            Self::Connect => "Kafka Connect",
            Self::Redis => "Redis",
            Self::ClickHouse => "ClickHouse",
            Self::Jaeger => "Jaeger",
        })
    }
}

/// A set of servers: `Needs::none().kafka().redis()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Postgres is wanted.
    pub postgres: bool,
    /// Kafka is wanted.
    pub kafka: bool,
    /// Kafka Connect is wanted (and with it Kafka).
    pub connect: bool,
    /// Redis is wanted.
    pub redis: bool,
    /// ClickHouse is wanted.
    pub clickhouse: bool,
    /// Jaeger is wanted.
    pub jaeger: bool,
}

impl Needs {
    /// No server.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            postgres: false,
            kafka: false,
            connect: false,
            redis: false,
            clickhouse: false,
            jaeger: false,
        }
    }

    /// All that the pipeline needs: every one but Jaeger.
    #[must_use]
    pub const fn all() -> Self {
        Self::none().postgres().connect().redis().clickhouse()
    }

    /// Also Postgres.
    #[must_use]
    pub const fn postgres(mut self) -> Self {
        self.postgres = true;
        self
    }

    /// Also Kafka.
    #[must_use]
    pub const fn kafka(mut self) -> Self {
        self.kafka = true;
        self
    }

    /// Also Kafka Connect, and Kafka with it.
    #[must_use]
    pub const fn connect(mut self) -> Self {
        self.connect = true;
        self.kafka = true;
        self
    }

    /// Also Redis.
    #[must_use]
    pub const fn redis(mut self) -> Self {
        self.redis = true;
        self
    }

    /// Also ClickHouse.
    #[must_use]
    pub const fn clickhouse(mut self) -> Self {
        self.clickhouse = true;
        self
    }

    /// Also Jaeger.
    #[must_use]
    pub const fn jaeger(mut self) -> Self {
        self.jaeger = true;
        self
    }

    /// Whether this server is wanted.
    #[must_use]
    pub const fn contains(self, kind: Kind) -> bool {
        match kind {
            Kind::Postgres => self.postgres,
            Kind::Kafka => self.kafka || self.connect,
            Kind::Connect => self.connect,
            Kind::Redis => self.redis,
            Kind::ClickHouse => self.clickhouse,
            Kind::Jaeger => self.jaeger,
        }
    }
}
