//! The signature of a receipt. Pure.
//!
//! A signed receipt is one JSON object: `receipt` is what is said, `signature` the Ed25519 signature of its compact form with the
//! keys in their order. Invariant: nothing that is said can be changed without notice, and white space is not said.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::key::{PrivateKey, PublicKey};

/// The receipt with its signature.
pub(super) fn signed(said: &Value, key: &PrivateKey) -> Value {
    let signature = key.sign(&compact(said));
    json!({
        "receipt": said,
        "signature": {
            "algorithm": "Ed25519",
            "public_key": key.public().text(),
            "value": STANDARD.encode(signature),
        },
    })
}

/// What is wrong with a receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReceiptError {
    #[error("it is no receipt: {0}")]
    Form(String),
    #[error("it was signed with another key, {0}")]
    Key(String),
    #[error("it is not what was signed")]
    Signature,
    #[error("it is about another user")]
    User,
}

/// What a receipt says, if this key has signed it.
///
/// # Errors
/// It is none, or was changed, or another key has signed it.
pub(super) fn verified(text: &str, key: &PublicKey) -> Result<Value, ReceiptError> {
    let whole: Value =
        serde_json::from_str(text).map_err(|error| ReceiptError::Form(error.to_string()))?;
    let missing = |what: &str| ReceiptError::Form(format!("{what} is missing"));
    let said = whole.get("receipt").ok_or_else(|| missing("receipt"))?;
    let field = |name: &str| {
        let field = whole.get("signature").and_then(|all| all.get(name));
        field
            .and_then(Value::as_str)
            .ok_or_else(|| missing(&format!("signature.{name}")))
    };
    let (public, value) = (field("public_key")?, field("value")?);
    if public != key.text() {
        return Err(ReceiptError::Key(public.to_owned()));
    }
    let signature = STANDARD
        .decode(value)
        .map_err(|_| ReceiptError::Signature)?;
    if key.has_signed(&compact(said), &signature) {
        Ok(said.clone())
    } else {
        Err(ReceiptError::Signature)
    }
}

/// Keys in their order, no white space.
fn compact(said: &Value) -> Vec<u8> {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let mut names: Vec<&String> = fields.keys().collect();
                names.sort_unstable();
                let fields = names.into_iter();
                Value::Object(
                    fields
                        .map(|name| (name.clone(), sorted(&value[name])))
                        .collect(),
                )
            }
            Value::Array(values) => values.iter().map(sorted).collect(),
            other => other.clone(),
        }
    }
    sorted(said).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::erase::key::tests::private_pem;
    use crate::erase::receipt::tests::outcome;

    fn key(byte: u8) -> PrivateKey {
        PrivateKey::from_pem(&private_pem(&[byte; 32])).unwrap()
    }

    #[test]
    fn a_signed_receipt_is_verified_also_when_it_was_printed_another_way() {
        let receipt = signed(&outcome(0).said("abc"), &key(1));
        let public = key(1).public();
        for text in [receipt.to_string(), format!("{receipt:#}\n")] {
            assert_eq!(verified(&text, &public).unwrap(), receipt["receipt"]);
        }
        let other = verified(&receipt.to_string(), &key(2).public());
        assert!(matches!(other, Err(ReceiptError::Key(_))), "{other:?}");
    }

    #[test]
    fn what_is_no_receipt_is_named() {
        let public = key(1).public();
        for text in ["", "[]", "{\"receipt\":{}}"] {
            let error = verified(text, &public).unwrap_err();
            assert!(matches!(error, ReceiptError::Form(_)), "{text}: {error}");
        }
    }

    /// Every way of changing one leaf.
    fn leaves(value: &Value, path: &str, into: &mut Vec<String>) {
        match value {
            Value::Object(fields) => fields
                .iter()
                .for_each(|(name, value)| leaves(value, &format!("{path}/{name}"), into)),
            Value::Array(values) => values
                .iter()
                .enumerate()
                .for_each(|(n, value)| leaves(value, &format!("{path}/{n}"), into)),
            _ => into.push(path.to_owned()),
        }
    }

    #[test]
    fn a_change_of_anything_that_is_said_is_found() {
        let receipt = signed(&outcome(0).said("abc"), &key(1));
        let mut paths = Vec::new();
        leaves(&receipt["receipt"], "/receipt", &mut paths);
        assert!(paths.len() > 15, "{paths:?}");
        for path in paths {
            let mut changed = receipt.clone();
            *changed.pointer_mut(&path).unwrap() = json!("another");
            let error = verified(&changed.to_string(), &key(1).public());
            assert_eq!(error, Err(ReceiptError::Signature), "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = verified(&text, &key(1).public());
        }

        #[test]
        fn no_other_signature_is_taken(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut receipt = signed(&outcome(0).said("abc"), &key(1));
            receipt["signature"]["value"] = json!(STANDARD.encode(bytes));
            let error = verified(&receipt.to_string(), &key(1).public());
            prop_assert_eq!(error, Err(ReceiptError::Signature));
        }
    }
}
