//! Connection settings; the properties of each client are in `client`.
//!
//! Invariant: what the guarantees rest on (manual commits, no silent offset reset, idempotence) cannot be configured away.

mod client;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use client::{DEFAULT_MESSAGE_MAX_BYTES, InboxLimits};

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// How to reach Kafka: section `[kafka]`. Environment: `KAFKA_` and the field's name in capitals;
/// `KAFKA_PROP_<KEY>` for [`properties`](Self::properties).
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaSettings {
    /// `host:port`, several separated by commas.
    pub bootstrap_servers: String,
    /// How to connect.
    pub security_protocol: SecurityProtocol,
    /// `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`.
    pub sasl_mechanism: Option<String>,
    /// SASL user.
    pub sasl_username: Option<String>,
    /// SASL password.
    #[serde(serialize_with = "service::config::hidden_option")]
    pub sasl_password: Option<SecretString>,
    /// File with the certificates of the authorities to trust.
    pub ssl_ca_location: Option<PathBuf>,
    /// File with the client's certificate.
    pub ssl_certificate_location: Option<PathBuf>,
    /// File with the client's private key.
    pub ssl_key_location: Option<PathBuf>,
    /// Password of the private key.
    #[serde(serialize_with = "service::config::hidden_option")]
    pub ssl_key_password: Option<SecretString>,
    /// Further librdkafka properties, for every client of the process. Never written: there may be passwords among them.
    #[serde(skip_serializing)]
    pub properties: BTreeMap<String, String>,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            bootstrap_servers: "127.0.0.1:9092".to_owned(),
            security_protocol: SecurityProtocol::Plaintext,
            sasl_mechanism: None,
            sasl_username: None,
            sasl_password: None,
            ssl_ca_location: None,
            ssl_certificate_location: None,
            ssl_key_location: None,
            ssl_key_password: None,
            properties: BTreeMap::new(),
        }
    }
}

/// Transport and authentication; read without regard to case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum SecurityProtocol {
    /// Neither encrypted nor authenticated.
    #[default]
    Plaintext,
    /// TLS.
    Ssl,
    /// SASL without TLS.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
}

impl SecurityProtocol {
    const ALL: [Self; 4] = [
        Self::Plaintext,
        Self::Ssl,
        Self::SaslPlaintext,
        Self::SaslSsl,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }

    const fn is_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

impl Serialize for SecurityProtocol {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl TryFrom<String> for SecurityProtocol {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let wanted = text.trim().to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.name() == wanted)
            .ok_or_else(|| format!("{text:?} is none of plaintext, ssl, sasl_plaintext, sasl_ssl"))
    }
}

/// A setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A property that the guarantees rest on.
    #[error("kafka property {key} = {value:?} is refused: {why}")]
    Guarded {
        /// The property.
        key: String,
        /// What was configured.
        value: String,
        /// Why it cannot be changed.
        why: &'static str,
    },
    /// librdkafka does not accept it.
    #[error("kafka property {key} = {value:?}: {cause}")]
    Refused {
        /// The property.
        key: String,
        /// What was configured; empty for secrets.
        value: String,
        /// What librdkafka says.
        cause: String,
    },
    /// Settings that need each other.
    #[error("{what}; set {remedy}")]
    Incomplete {
        /// What is missing.
        what: String,
        /// The setting to give.
        remedy: String,
    },
    /// The client cannot be created.
    #[error("the Kafka client cannot be created: {cause}")]
    Client {
        /// What librdkafka says.
        cause: String,
    },
}

impl From<rdkafka::error::KafkaError> for SettingsError {
    fn from(error: rdkafka::error::KafkaError) -> Self {
        match error {
            rdkafka::error::KafkaError::ClientConfig(_, cause, key, value) => {
                let value = if is_secret(&key) {
                    String::new()
                } else {
                    value
                };
                Self::Refused { key, value, cause }
            }
            other => Self::Client {
                cause: other.to_string(),
            },
        }
    }
}

/// Properties with a value that must stand, and why.
const GUARDED: [(&str, &str); 12] = [
    (
        "enable.auto.commit",
        "offsets are committed after the effect",
    ),
    (
        "enable.auto.offset.store",
        "offsets are committed after the effect",
    ),
    (
        "auto.offset.reset",
        "a lost position is named, never skipped",
    ),
    (
        "enable.idempotence",
        "a retried batch must not repeat or reorder records",
    ),
    (
        "enable.gapless.guarantee",
        "a failed batch must not leave a hole",
    ),
    ("message.timeout.ms", "a timed-out record leaves a hole"),
    ("delivery.timeout.ms", "a timed-out record leaves a hole"),
    ("acks", "an acknowledged record must survive"),
    (
        "request.required.acks",
        "an acknowledged record must survive",
    ),
    ("transactional.id", "the lineage replaces transactions"),
    ("group.id", "the group is the service's own setting"),
    ("enable.partition.eof", "the loop does not wait for ends"),
];

impl KafkaSettings {
    /// Everything that cannot work, without connecting.
    #[must_use]
    pub fn problems(&self) -> Vec<SettingsError> {
        let mut problems = Vec::new();
        if self.bootstrap_servers.trim().is_empty() {
            problems.push(SettingsError::Incomplete {
                what: "no broker is named".into(),
                remedy: "kafka.bootstrap_servers (KAFKA_BOOTSTRAP_SERVERS), such as 127.0.0.1:9092"
                    .into(),
            });
        }
        if self.security_protocol.is_sasl() && self.sasl_mechanism.is_none() {
            problems.push(SettingsError::Incomplete {
                what: format!("{} needs a mechanism", self.security_protocol.name()),
                remedy: "kafka.sasl_mechanism (KAFKA_SASL_MECHANISM), such as SCRAM-SHA-512".into(),
            });
        }
        for (key, value) in &self.properties {
            if let Some((_, why)) = GUARDED.iter().find(|(guarded, _)| guarded == key) {
                problems.push(SettingsError::Guarded {
                    key: key.clone(),
                    value: value.clone(),
                    why,
                });
            }
        }
        if problems.is_empty() {
            problems.extend(
                self.consumer_config("check", InboxLimits::default())
                    .create_native_config()
                    .err()
                    .map(Into::into),
            );
            problems.extend(
                self.producer_config()
                    .create_native_config()
                    .err()
                    .map(Into::into),
            );
        }
        problems
    }
}

fn is_secret(key: &str) -> bool {
    key.contains("password")
        || key.contains("secret")
        || key.contains("token")
        || key.contains("pem")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, value: &str) -> KafkaSettings {
        KafkaSettings {
            properties: BTreeMap::from([(key.to_owned(), value.to_owned())]),
            ..KafkaSettings::default()
        }
    }

    #[test]
    fn the_defaults_have_no_problem() {
        assert_eq!(KafkaSettings::default().problems(), vec![]);
    }

    #[test]
    fn what_the_guarantees_rest_on_cannot_be_configured_away() {
        for (key, _) in GUARDED {
            assert!(
                matches!(
                    &with(key, "x").problems()[..],
                    [SettingsError::Guarded { .. }]
                ),
                "{key}"
            );
        }
    }

    #[test]
    fn a_property_that_librdkafka_does_not_know_is_named() {
        let problems = with("fetch.wait.max.mss", "10").problems();
        assert!(
            problems
                .iter()
                .all(|p| p.to_string().contains("fetch.wait.max.mss"))
                && !problems.is_empty(),
            "{problems:?}"
        );
    }

    #[test]
    fn the_new_group_protocol_goes_without_session_timeout_and_strategy() {
        let config =
            with("group.protocol", "consumer").consumer_config("g", InboxLimits::default());
        assert_eq!(config.get("session.timeout.ms"), None);
        assert_eq!(config.get("partition.assignment.strategy"), None);
        assert_eq!(with("group.protocol", "consumer").problems(), vec![]);
        let classic = KafkaSettings::default().consumer_config("g", InboxLimits::default());
        assert_eq!(classic.get("session.timeout.ms"), Some("6000"));
        assert_eq!(
            classic.get("partition.assignment.strategy"),
            Some("cooperative-sticky")
        );
    }

    #[test]
    fn sasl_without_a_mechanism_names_the_setting() {
        let settings = KafkaSettings {
            security_protocol: SecurityProtocol::SaslSsl,
            ..KafkaSettings::default()
        };
        let problems = settings.problems();
        assert!(
            problems[0].to_string().contains("KAFKA_SASL_MECHANISM"),
            "{problems:?}"
        );
    }

    #[test]
    fn a_secret_is_neither_printed_nor_lost() {
        let settings = KafkaSettings {
            sasl_password: Some("hunter2".into()),
            ..KafkaSettings::default()
        };
        assert!(!format!("{settings:?}").contains("hunter2"));
        assert_eq!(
            settings.producer_config().get("sasl.password"),
            Some("hunter2")
        );
    }

    #[test]
    fn the_protocol_is_read_without_regard_to_case_and_unknown_keys_are_refused() {
        let read = |json: &str| serde_json::from_str::<KafkaSettings>(json);
        assert_eq!(
            read(r#"{"security_protocol":"SASL_SSL"}"#)
                .unwrap()
                .security_protocol,
            SecurityProtocol::SaslSsl
        );
        assert!(
            read(r#"{"security_protocol":"tls"}"#)
                .unwrap_err()
                .to_string()
                .contains("sasl_ssl")
        );
        assert!(
            read(r#"{"bootstrap_server":"x"}"#)
                .unwrap_err()
                .to_string()
                .contains("bootstrap_servers")
        );
    }
}
