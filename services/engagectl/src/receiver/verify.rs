//! Verifies Standard Webhooks signatures, as a receiver would.
//!
//! Invariant: a message passes only if one of the keys signed exactly these bytes, within the
//! tolerance; comparing takes the same time wherever the difference is.

use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretSlice};
use sha2::Sha256;

/// How far the timestamp may be from now, either way (Standard Webhooks recommends 5 minutes).
const TOLERANCE_SECONDS: i64 = 300;

/// A text that is no signing secret; it is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected `whsec_` and the base64 of 24 to 64 random bytes")]
pub struct SecretError;

/// One symmetric key.
pub struct Key(SecretSlice<u8>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key([redacted])")
    }
}

impl Key {
    /// Parses `whsec_<base64>`.
    ///
    /// # Errors
    /// It is not base64, or not 24 to 64 bytes long.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        let encoded = text.strip_prefix("whsec_").unwrap_or(text);
        let bytes = STANDARD.decode(encoded).map_err(|_| SecretError)?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(SecretError);
        }
        Ok(Self(bytes.into()))
    }

    fn signed(&self, id: &str, timestamp: &str, body: &[u8], signature: &[u8]) -> bool {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.expose_secret())
            .expect("HMAC takes keys of every length");
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        mac.verify_slice(signature).is_ok()
    }
}

/// Why a message does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("header {0} is missing or no text")]
    Header(&'static str),
    #[error("webhook-timestamp is not within 5 minutes of now")]
    Timestamp,
    #[error("no signature of webhook-signature fits a known secret")]
    Signature,
}

/// Judges one request. `now` is in seconds since 1970.
pub(super) fn verify(
    keys: &[Key],
    headers: &HeaderMap,
    body: &[u8],
    now: i64,
) -> Result<(), Refusal> {
    let id = text(headers, "webhook-id")?;
    let timestamp = text(headers, "webhook-timestamp")?;
    let signatures = text(headers, "webhook-signature")?;
    let at: i64 = timestamp.parse().map_err(|_| Refusal::Timestamp)?;
    if now.abs_diff(at) > TOLERANCE_SECONDS.unsigned_abs() {
        return Err(Refusal::Timestamp);
    }
    let decoded = signatures
        .split_ascii_whitespace()
        .filter_map(|one| one.strip_prefix("v1,"))
        .filter_map(|encoded| STANDARD.decode(encoded).ok());
    for signature in decoded {
        if keys
            .iter()
            .any(|key| key.signed(id, timestamp, body, &signature))
        {
            return Ok(());
        }
    }
    Err(Refusal::Signature)
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<&'a str, Refusal> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .ok_or(Refusal::Header(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDNzkzKzNqLmY=";
    const NOW: i64 = 1_767_882_112;

    fn signed(secret: &str, timestamp: i64, body: &[u8]) -> HeaderMap {
        let webhook = standardwebhooks::Webhook::new(secret).unwrap();
        let signature = webhook.sign("msg_1", timestamp, body).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", "msg_1".parse().unwrap());
        headers.insert("webhook-timestamp", timestamp.into());
        let value = format!("v2,abc v1,AAAA {signature}");
        headers.insert("webhook-signature", value.parse().unwrap());
        headers
    }

    fn keys() -> Vec<Key> {
        vec![Key::parse(OTHER).unwrap(), Key::parse(SECRET).unwrap()]
    }

    #[test]
    fn what_the_reference_library_signed_passes_with_any_of_the_keys() {
        assert_eq!(
            verify(&keys(), &signed(SECRET, NOW, b"{}"), b"{}", NOW),
            Ok(())
        );
        assert_eq!(
            verify(&keys(), &signed(OTHER, NOW - 300, b"{}"), b"{}", NOW),
            Ok(())
        );
    }

    #[test]
    fn other_bytes_another_key_or_an_old_message_do_not_pass() {
        let headers = signed(SECRET, NOW, b"{}");
        assert_eq!(
            verify(&keys(), &headers, b"{ }", NOW),
            Err(Refusal::Signature)
        );
        assert_eq!(
            verify(&keys()[..1], &headers, b"{}", NOW),
            Err(Refusal::Signature)
        );
        assert_eq!(
            verify(&keys(), &headers, b"{}", NOW + 301),
            Err(Refusal::Timestamp)
        );
        assert_eq!(
            verify(&keys(), &headers, b"{}", NOW - 301),
            Err(Refusal::Timestamp)
        );
    }

    #[test]
    fn a_missing_header_is_named() {
        let mut headers = signed(SECRET, NOW, b"{}");
        headers.remove("webhook-id");
        assert_eq!(
            verify(&keys(), &headers, b"{}", NOW),
            Err(Refusal::Header("webhook-id"))
        );
    }

    #[test]
    fn extreme_timestamps_do_not_panic() {
        for timestamp in [
            "",
            "x",
            "9223372036854775807",
            "-9223372036854775808",
            "1e9",
        ] {
            let mut headers = signed(SECRET, NOW, b"{}");
            headers.insert("webhook-timestamp", timestamp.parse().unwrap());
            assert_eq!(
                verify(&keys(), &headers, b"{}", NOW),
                Err(Refusal::Timestamp)
            );
        }
    }
}
