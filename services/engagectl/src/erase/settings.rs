//! What can be set: section `[erase]`.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// Section `[erase]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct EraseSettings {
    /// The Ed25519 private key in PEM (PKCS#8) that signs receipts (`ERASE_KEY`, or the file that `ERASE_KEY_FILE` names).
    #[serde(serialize_with = "service::config::hidden_option")]
    pub key: Option<SecretString>,
    /// The keys of Redis that may name a user: `{id}` stands for a content, `{user}` for the user. Whoever renames keys of
    /// `redis-aggregator` changes these, too.
    pub redis_keys: Vec<String>,
}

impl Default for EraseSettings {
    fn default() -> Self {
        Self {
            key: None,
            redis_keys: [
                "content:last:{id}",
                "recent_events:{id}",
                "content_users:{id}",
                "user_engagement:{user}:{id}",
            ]
            .map(str::to_owned)
            .to_vec(),
        }
    }
}
