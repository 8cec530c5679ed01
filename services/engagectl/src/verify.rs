//! `engagectl verify`: does every sink hold what Postgres holds?
//!
//! Invariant: it changes nothing anywhere, and it ends with 0 only if nothing differs.

use ::verify::{KafkaSource, PostgresSource, ReceiverSource, RedisSource, Sources};
use stream::settings::KafkaSettings;

use crate::pipeline::Addresses;

impl From<&Addresses> for Sources {
    /// A local pipeline: every sink, and the receiver with its one endpoint.
    fn from(addresses: &Addresses) -> Self {
        let url = |text: &str| text.parse().expect("a local pipeline's addresses are URLs");
        let settings = KafkaSettings {
            bootstrap_servers: addresses.kafka.clone(),
            ..KafkaSettings::default()
        };
        Self {
            postgres: PostgresSource::new(addresses.postgres_url.as_str(), addresses.schema),
            kafka: KafkaSource::new(settings),
            clickhouse: addresses.platform_settings().clickhouse,
            redis: Some(RedisSource::new(url(&addresses.redis_url))),
            receiver: Some(ReceiverSource::new(
                url(&format!("http://{}", addresses.receiver)),
                "demo",
                true,
            )),
        }
    }
}
