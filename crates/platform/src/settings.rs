//! The settings of all components in one structure, as it stands in `engagectl`'s configuration file.

use serde::{Deserialize, Serialize};
use stream::settings::KafkaSettings;

use crate::{ClickHouseSettings, ConnectSettings, DatabaseSettings, TopicSettings};

/// Which of the two documented table layouts the source database has.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Schema {
    /// `content(id UUID ..)`, `engagement_events(id BIGSERIAL .., content_id UUID, ..)`.
    #[default]
    Uuid,
    /// `content(content_id BIGINT ..)`, `engagement_events(event_id BIGINT .., content_id BIGINT, ..)`.
    Bigint,
}

impl Schema {
    /// The DDL of both tables, every statement `IF NOT EXISTS`.
    #[must_use]
    pub fn ddl(self) -> &'static str {
        match self {
            Self::Uuid => include_str!("../../../deploy/postgres/schema.sql"),
            Self::Bigint => include_str!("../../../deploy/postgres/schema-bigint.sql"),
        }
    }

    /// The primary key column of `content`.
    #[must_use]
    pub fn content_key(self) -> &'static str {
        match self {
            Self::Uuid => "id",
            Self::Bigint => "content_id",
        }
    }

    /// The primary key column of `engagement_events`.
    #[must_use]
    pub fn event_key(self) -> &'static str {
        match self {
            Self::Uuid => "id",
            Self::Bigint => "event_id",
        }
    }
}

/// Where the four components are. A component whose section is absent is neither planned nor touched.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The broker.
    pub kafka: KafkaSettings,
    /// Partitions, replication and names of the topics.
    pub topics: TopicSettings,
    /// The source database.
    pub database: DatabaseSettings,
    /// Kafka Connect with the Debezium plugin; `None` where the connector is managed elsewhere.
    pub connect: Option<ConnectSettings>,
    /// The analytics store; `None` where there is none.
    pub clickhouse: Option<ClickHouseSettings>,
}
