//! The key that signs receipts: Ed25519, as `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write it. Pure.
//!
//! Invariant: no error and no `Debug` shows any of the private key.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use super::person::{Person, hex};

/// What stands in PKCS#8 before the 32 bytes of an Ed25519 private key: its algorithm, and the octet strings around it.
const PRIVATE: &[u8] = &[
    0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
/// What stands before the 32 bytes of a public one.
const PUBLIC: &[u8] = &[
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];
const BYTES: usize = 32;

/// What is wrong with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    #[error("it is no PEM with the label {0}")]
    Pem(&'static str),
    #[error("it is no Ed25519 key")]
    Kind,
}

/// A private key.
pub(super) struct PrivateKey {
    pair: Ed25519KeyPair,
    /// For the hash of user ids.
    secret: [u8; BYTES],
}

/// A public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PublicKey([u8; BYTES]);

impl PrivateKey {
    /// # Errors
    /// It is none.
    pub(super) fn from_pem(text: &str) -> Result<Self, KeyError> {
        let seed = key_after(PRIVATE, &pem(text, "PRIVATE KEY")?)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| KeyError::Kind)?;
        let mut secret = Sha256::new();
        secret.update(b"engage: user ids in receipts");
        secret.update(seed);
        Ok(Self {
            pair,
            secret: secret.finalize().into(),
        })
    }

    pub(super) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }

    pub(super) fn public(&self) -> PublicKey {
        let mut bytes = [0; BYTES];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(bytes)
    }

    /// What a receipt names instead of the id: nobody without this key can tell whose it is, nor try ids until one fits.
    pub(super) fn hash(&self, person: &Person) -> String {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.secret).expect("a key of any length serves");
        mac.update(person.id().as_bytes());
        hex(&mac.finalize().into_bytes())
    }
}

impl PublicKey {
    /// # Errors
    /// It is none.
    pub(super) fn from_pem(text: &str) -> Result<Self, KeyError> {
        Ok(Self(key_after(PUBLIC, &pem(text, "PUBLIC KEY")?)?))
    }

    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, &self.0);
        key.verify(message, signature).is_ok()
    }

    /// In base64.
    pub(super) fn text(&self) -> String {
        STANDARD.encode(self.0)
    }
}

/// The bytes between the lines of a PEM.
fn pem(text: &str, label: &'static str) -> Result<Vec<u8>, KeyError> {
    let wrong = KeyError::Pem(label);
    let (_, rest) = text
        .split_once(&format!("-----BEGIN {label}-----"))
        .ok_or(wrong)?;
    let (body, _) = rest
        .split_once(&format!("-----END {label}-----"))
        .ok_or(wrong)?;
    let body: String = body.split_whitespace().collect();
    STANDARD.decode(body).map_err(|_| wrong)
}

fn key_after(mark: &[u8], der: &[u8]) -> Result<[u8; BYTES], KeyError> {
    let at = der.windows(mark.len()).position(|window| window == mark);
    let from = at.ok_or(KeyError::Kind)? + mark.len();
    let key = der.get(from..from + BYTES).ok_or(KeyError::Kind)?;
    key.try_into().map_err(|_| KeyError::Kind)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The first test of RFC 8032, section 7.1, as openssl writes it.
    const SEED: [u8; 32] = [
        0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a, 0xf4, 0x92, 0xec, 0x2c,
        0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32, 0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae,
        0x7f, 0x60,
    ];
    const ITS_PUBLIC: [u8; 32] = [
        0xd7, 0x5a, 0x98, 0x01, 0x82, 0xb1, 0x0a, 0xb7, 0xd5, 0x4b, 0xfe, 0xd3, 0xc9, 0x64, 0x07,
        0x3a, 0x0e, 0xe1, 0x72, 0xf3, 0xda, 0xa6, 0x23, 0x25, 0xaf, 0x02, 0x1a, 0x68, 0xf7, 0x07,
        0x51, 0x1a,
    ];
    const SIGNATURE: [u8; 64] = [
        0xe5, 0x56, 0x43, 0x00, 0xc3, 0x60, 0xac, 0x72, 0x90, 0x86, 0xe2, 0xcc, 0x80, 0x6e, 0x82,
        0x8a, 0x84, 0x87, 0x7f, 0x1e, 0xb8, 0xe5, 0xd9, 0x74, 0xd8, 0x73, 0xe0, 0x65, 0x22, 0x49,
        0x01, 0x55, 0x5f, 0xb8, 0x82, 0x15, 0x90, 0xa3, 0x3b, 0xac, 0xc6, 0x1e, 0x39, 0x70, 0x1c,
        0xf9, 0xb4, 0x6b, 0xd2, 0x5b, 0xf5, 0xf0, 0x59, 0x5b, 0xbe, 0x24, 0x65, 0x51, 0x41, 0x43,
        0x8e, 0x7a, 0x10, 0x0b,
    ];

    fn as_pem(label: &str, before: &[u8], key: &[u8]) -> String {
        let der = [before, key].concat();
        format!(
            "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
            STANDARD.encode(der)
        )
    }

    /// A private key in PEM.
    pub(in crate::erase) fn private_pem(seed: &[u8]) -> String {
        let before = [&[0x30, 0x2e, 0x02, 0x01, 0x00][..], PRIVATE].concat();
        as_pem("PRIVATE KEY", &before, seed)
    }

    #[test]
    fn the_standards_own_key_signs_as_the_standard_says() {
        let key = PrivateKey::from_pem(&private_pem(&SEED)).unwrap();
        let public = PublicKey::from_pem(&as_pem("PUBLIC KEY", PUBLIC, &ITS_PUBLIC));
        assert_eq!(key.public(), public.unwrap());
        assert_eq!(key.sign(b""), SIGNATURE);
        assert!(key.public().has_signed(b"", &SIGNATURE));
        assert!(!key.public().has_signed(b"x", &SIGNATURE));
    }

    #[test]
    fn what_is_no_key_is_refused_without_showing_it() {
        let label = "PRIVATE KEY";
        let garbled = format!("-----BEGIN {label}-----\n!!\n-----END {label}-----");
        for text in ["", &garbled] {
            let error = PrivateKey::from_pem(text).err().unwrap();
            assert_eq!(error, KeyError::Pem("PRIVATE KEY"));
        }
        let rsa = as_pem("PRIVATE KEY", &[0x30, 0x82], &[7; 64]);
        assert_eq!(PrivateKey::from_pem(&rsa).err(), Some(KeyError::Kind));
        let short = private_pem(&[7; 31]);
        assert_eq!(PrivateKey::from_pem(&short).err(), Some(KeyError::Kind));
    }

    #[test]
    fn a_hash_depends_on_the_key_and_on_the_user() {
        let key = |byte| PrivateKey::from_pem(&private_pem(&[byte; 32])).unwrap();
        let of = |byte, user: &str| key(byte).hash(&Person::new(user));
        assert_eq!(of(1, "42"), of(1, "42"));
        assert_ne!(of(1, "42"), of(1, "43"));
        assert_ne!(of(1, "42"), of(2, "42"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*", body in "[A-Za-z0-9+/=]{0,80}") {
            let _ = PrivateKey::from_pem(&text);
            let pem = format!("-----BEGIN PUBLIC KEY-----{body}-----END PUBLIC KEY-----");
            let _ = PublicKey::from_pem(&pem);
        }

        #[test]
        fn only_the_key_that_signed_has_signed(seed in any::<[u8; 32]>(), other in any::<[u8; 32]>(), text in any::<Vec<u8>>()) {
            prop_assume!(seed != other);
            let key = |seed: &[u8]| PrivateKey::from_pem(&private_pem(seed)).unwrap();
            let signature = key(&seed).sign(&text);
            prop_assert!(key(&seed).public().has_signed(&text, &signature));
            prop_assert!(!key(&other).public().has_signed(&text, &signature));
        }
    }
}
