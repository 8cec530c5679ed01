//! The librdkafka configurations of all clients.
//!
//! Invariant: property strings stand here and in the table of guarded ones, nowhere else.

use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::KafkaSettings;

/// How much one lane may hold that its service has not taken yet: whatever is reached first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InboxLimits {
    /// Records per partition.
    pub records: u32,
    /// KiB per partition; one fetch of [`Self::fetch_kib`] may come on top.
    pub kib: u32,
    /// KiB that one fetch may bring per partition, as compressed; a larger single batch still comes through. A partition
    /// alone is as fast as one fetch after the other: 16 KiB in 20 ms are a thousand small records a second.
    pub fetch_kib: u32,
}

impl Default for InboxLimits {
    /// Batches arrive compressed, JSON about 10 to 1: 16 lanes hold at most 16 x 512 KiB and ten times
    /// [`FETCH_MAX_BYTES`], 18 MiB.
    fn default() -> Self {
        Self {
            records: 1000,
            kib: 512,
            fetch_kib: 128,
        }
    }
}

/// What one fetch of a group's member may bring, all partitions together, as compressed.
const FETCH_MAX_BYTES: u32 = 1024 * 1024;

/// Largest record of a producer, unless `message.max.bytes` says otherwise: above what the change topic takes (12 MiB),
/// below the enriched topic's own limit (16 MiB).
pub const DEFAULT_MESSAGE_MAX_BYTES: usize = 15 * 1024 * 1024;

impl KafkaSettings {
    /// A member of a consumer group; offsets only by hand.
    #[must_use]
    pub fn consumer_config(&self, group: &str, inbox: InboxLimits) -> ClientConfig {
        let mut config = self.reader_config(group);
        config
            .set("queued.min.messages", inbox.records.max(1).to_string())
            .set("queued.max.messages.kbytes", inbox.kib.max(64).to_string())
            .set(
                "fetch.message.max.bytes",
                (inbox.fetch_kib.max(16) * 1024).to_string(),
            )
            .set("fetch.max.bytes", FETCH_MAX_BYTES.to_string())
            .set("fetch.queue.backoff.ms", "20")
            // the poll thread waits for its lanes for 20 s at most; the others of the group wait this long for it
            .set("max.poll.interval.ms", "60000")
            .set("statistics.interval.ms", "5000");
        if !self.is_kip848() {
            config
                .set("partition.assignment.strategy", "cooperative-sticky")
                .set("session.timeout.ms", "6000")
                .set("heartbeat.interval.ms", "1000");
        }
        self.finish(config)
    }

    /// A reader outside of the group's protocol: committed offsets, watermarks, single records, ends of partitions.
    #[must_use]
    pub fn probe_config(&self, group: &str) -> ClientConfig {
        let mut config = self.reader_config(group);
        config
            .set("enable.partition.eof", "true")
            .set("queued.min.messages", "1000")
            .set("queued.max.messages.kbytes", "1024")
            .set("fetch.message.max.bytes", "262144")
            // a range that is longer than the queue would stop for a second (the default) each time the queue is full, which whoever
            // reads a range empties in some milliseconds
            .set("fetch.queue.backoff.ms", "5")
            // all partitions together: a reader of sixteen would hold sixteen times that, decompressed
            .set("fetch.max.bytes", FETCH_MAX_BYTES.to_string());
        self.finish_without(
            config,
            &[
                "group.instance.id",
                "group.protocol",
                "group.remote.assignor",
            ],
        )
    }

    /// A reader of whole partitions, fast; holds at most 16 MiB.
    #[must_use]
    pub fn scan_config(&self, group: &str) -> ClientConfig {
        let mut config = self.probe_config(group);
        config
            .set("queued.min.messages", "20000")
            .set("queued.max.messages.kbytes", "8192")
            .set("fetch.message.max.bytes", "524288");
        config
    }

    /// An idempotent producer that never gives up by itself.
    #[must_use]
    pub fn producer_config(&self) -> ClientConfig {
        let mut config = self.base();
        config
            .set("enable.idempotence", "true")
            .set("enable.gapless.guarantee", "true")
            .set("acks", "all")
            .set("message.timeout.ms", "0")
            .set("compression.codec", "lz4")
            .set("batch.num.messages", "10000")
            .set("batch.size", "262144")
            .set("queue.buffering.max.messages", "20000")
            .set("queue.buffering.max.kbytes", "8192")
            .set("message.max.bytes", DEFAULT_MESSAGE_MAX_BYTES.to_string())
            .set("partitioner", "murmur2_random");
        self.finish(config)
    }

    /// How long a producer gathers records of a partition, unless a property says it.
    pub(crate) fn linger(&self, config: &mut ClientConfig, linger: Duration) {
        let names = ["linger.ms", "queue.buffering.max.ms"];
        if !names.iter().any(|name| self.properties.contains_key(*name)) {
            config.set("linger.ms", linger.as_millis().to_string());
        }
    }

    /// A client for the admin API.
    #[must_use]
    pub fn admin_config(&self) -> ClientConfig {
        self.finish(self.base())
    }

    /// The largest record a producer of these settings takes, in bytes.
    #[must_use]
    pub fn message_max_bytes(&self) -> usize {
        let configured = self
            .properties
            .get("message.max.bytes")
            .and_then(|text| text.parse().ok());
        configured.unwrap_or(DEFAULT_MESSAGE_MAX_BYTES)
    }

    fn reader_config(&self, group: &str) -> ClientConfig {
        let mut config = self.base();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("allow.auto.create.topics", "false")
            .set("check.crcs", "true")
            // What a broker has it sends at once; this is how long it keeps a question that it has nothing for, and so how
            // long a partition that has just got room again waits to be asked for. At 10 a group of six members is 600
            // questions a second to an idle broker.
            .set("fetch.wait.max.ms", "50");
        config
    }

    fn base(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set_log_level(RDKafkaLogLevel::Warning)
            .set("bootstrap.servers", &self.bootstrap_servers)
            .set("security.protocol", self.security_protocol.name())
            .set("client.id", "engage")
            .set("socket.keepalive.enable", "true")
            .set("socket.nagle.disable", "true")
            // the Java clients' time; a request lost on the way is asked again after it, and not after a minute
            .set("socket.timeout.ms", "30000")
            // librdkafka 2.12 may count a broker as connected that it has dropped, and then waits for ever for the others to be
            // needed; so every broker is connected to at once
            .set("enable.sparse.connections", "false")
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "2000")
            .set("topic.metadata.refresh.interval.ms", "60000");
        let texts = [
            ("sasl.mechanism", &self.sasl_mechanism),
            ("sasl.username", &self.sasl_username),
        ];
        let secrets = [
            ("sasl.password", &self.sasl_password),
            ("ssl.key.password", &self.ssl_key_password),
        ];
        let files = [
            ("ssl.ca.location", &self.ssl_ca_location),
            ("ssl.certificate.location", &self.ssl_certificate_location),
            ("ssl.key.location", &self.ssl_key_location),
        ];
        set_all(&mut config, texts.map(|(key, value)| (key, value.clone())));
        set_all(
            &mut config,
            secrets.map(|(key, value)| (key, value.as_ref().map(|v| v.expose_secret().to_owned()))),
        );
        set_all(
            &mut config,
            files.map(|(key, value)| (key, value.as_ref().map(|v| v.display().to_string()))),
        );
        config
    }

    fn is_kip848(&self) -> bool {
        self.properties
            .get("group.protocol")
            .is_some_and(|value| value.eq_ignore_ascii_case("consumer"))
    }

    fn finish(&self, config: ClientConfig) -> ClientConfig {
        self.finish_without(config, &[])
    }

    fn finish_without(&self, mut config: ClientConfig, without: &[&str]) -> ClientConfig {
        for (key, value) in &self.properties {
            if !without.contains(&key.as_str()) {
                config.set(key, value);
            }
        }
        config
    }
}

fn set_all<const N: usize>(config: &mut ClientConfig, pairs: [(&str, Option<String>); N]) {
    for (key, value) in pairs {
        if let Some(value) = value {
            config.set(key, value);
        }
    }
}
