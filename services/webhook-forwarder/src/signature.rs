//! Standard Webhooks signatures.
//!
//! Invariant: what is signed is exactly `{id}.{timestamp}.{body}` with the bytes that are sent, and
//! a key never appears in an error, a log or a `Debug`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::Sha256;

/// Prefix of a serialised symmetric secret (Standard Webhooks 1.0).
const SECRET_PREFIX: &str = "whsec_";
/// Bytes a secret may have (Standard Webhooks 1.0, "between 24 bytes and 64 bytes").
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// Why a text is no signing secret. The text itself is never shown.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SecretError {
    /// The part after `whsec_` is not base64.
    #[error("the secret is not base64; expected `whsec_` and the base64 of 24 to 64 random bytes")]
    NotBase64,
    /// Decoded, it is too short or too long.
    #[error(
        "the secret has {0} bytes; expected `whsec_` and the base64 of 24 to 64 random bytes, as `openssl rand -base64 32` prints"
    )]
    Length(usize),
}

/// One symmetric signing key.
#[derive(Clone)]
pub struct SigningKey(SecretSlice<u8>);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey([redacted])")
    }
}

impl SigningKey {
    /// Parses `whsec_<base64>`; the prefix may be missing, as the reference libraries allow.
    ///
    /// # Errors
    /// [`SecretError`] when it is not base64 or not 24 to 64 bytes long.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        let encoded = text.strip_prefix(SECRET_PREFIX).unwrap_or(text);
        let bytes = STANDARD
            .decode(encoded)
            .map_err(|_| SecretError::NotBase64)?;
        if !SECRET_BYTES.contains(&bytes.len()) {
            return Err(SecretError::Length(bytes.len()));
        }
        Ok(Self(bytes.into()))
    }

    fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose_secret())
            .expect("HMAC takes keys of every length");
        mac.update(id.as_bytes());
        mac.update(format!(".{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }
}

/// The `webhook-signature` header: one `v1,<base64>` per key, separated by spaces, so that a
/// receiver accepts the message before and after it moved to the new key. `None` without keys.
/// `timestamp` is the second since 1970 that is sent as `webhook-timestamp`.
#[must_use]
pub fn signature_header(
    keys: &[SigningKey],
    id: &str,
    timestamp: i64,
    body: &[u8],
) -> Option<String> {
    if keys.is_empty() {
        return None;
    }
    let signatures: Vec<_> = keys.iter().map(|k| k.sign(id, timestamp, body)).collect();
    Some(signatures.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDNzkzKzNqLmY=";

    fn headers(id: &str, timestamp: i64, signature: &str) -> http::HeaderMap {
        let mut map = http::HeaderMap::new();
        map.insert("webhook-id", id.parse().unwrap());
        map.insert("webhook-timestamp", timestamp.into());
        map.insert("webhook-signature", signature.parse().unwrap());
        map
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the reference library compares with the wall clock"
    )]
    fn now() -> i64 {
        chrono::Utc::now().timestamp()
    }

    #[test]
    fn the_reference_library_accepts_every_key_of_a_rotation() {
        let keys = [OLD, NEW].map(|s| SigningKey::parse(s).unwrap());
        let timestamp = now();
        let header = signature_header(&keys, "msg_1", timestamp, b"{\"a\":1}").unwrap();
        for secret in [OLD, NEW] {
            let verifier = standardwebhooks::Webhook::new(secret).unwrap();
            let sent = headers("msg_1", timestamp, &header);
            verifier.verify(b"{\"a\":1}", &sent).unwrap();
            assert!(verifier.verify(b"{\"a\":2}", &sent).is_err());
            let other = headers("msg_2", timestamp, &header);
            assert!(verifier.verify(b"{\"a\":1}", &other).is_err());
        }
    }

    proptest! {
        #[test]
        fn signatures_equal_those_of_the_reference_library(
            id in "[a-zA-Z0-9_-]{1,40}", timestamp in 0_i64..4_000_000_000, body in "\\PC{0,200}",
        ) {
            let ours = signature_header(&[SigningKey::parse(OLD).unwrap()], &id, timestamp, body.as_bytes());
            let theirs = standardwebhooks::Webhook::new(OLD).unwrap().sign(&id, timestamp, body.as_bytes());
            prop_assert_eq!(ours, theirs.ok());
        }
    }

    #[test]
    fn secrets_are_refused_by_length_and_encoding_without_being_shown() {
        assert_eq!(
            SigningKey::parse("whsec_short").unwrap_err(),
            SecretError::NotBase64
        );
        let short = STANDARD.encode([7; 23]);
        let error = SigningKey::parse(&short).unwrap_err();
        assert_eq!(error, SecretError::Length(23));
        assert!(!error.to_string().contains(&short));
        assert!(SigningKey::parse(&STANDARD.encode([7; 24])).is_ok());
        assert!(SigningKey::parse(&STANDARD.encode([7; 64])).is_ok());
        assert!(SigningKey::parse(&STANDARD.encode([7; 65])).is_err());
    }

    #[test]
    fn a_key_does_not_show_in_debug_output() {
        let key = SigningKey::parse(OLD).unwrap();
        assert_eq!(format!("{key:?}"), "SigningKey([redacted])");
    }

    #[test]
    fn no_key_means_no_header() {
        assert_eq!(signature_header(&[], "a", 1, b""), None);
    }
}
