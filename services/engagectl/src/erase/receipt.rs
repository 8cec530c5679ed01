//! What was erased where, signed. Pure.
//!
//! A receipt is one JSON object: `receipt` is what is said, `signature` the Ed25519 signature of its compact form with the keys in
//! their order. Invariant: it names no user; only whole numbers and texts stand in it, so that its compact form is always the same.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engagement::event::Micros;
use serde_json::{Value, json};

use super::key::{PrivateKey, PublicKey};
use super::search::{Found, Kept, Place};

/// The form of a receipt.
const VERSION: u32 = 1;
/// Dead letters that are named; of more, only how many.
const LETTERS: usize = 1000;

/// What a run came to.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) run: String,
    pub(super) begun: Micros,
    pub(super) ended: Micros,
    /// What was asked to become of the rows in Postgres.
    pub(super) postgres: &'static str,
    /// Everywhere, before anything was removed.
    pub(super) before: Found,
    /// Everywhere, at the end.
    pub(super) after: Found,
    /// What goes by itself.
    pub(super) kept: Vec<Kept>,
    /// Where readers of other stores are told.
    pub(super) topic: String,
}

impl Outcome {
    /// Nothing is left but what was asked to stay, and what goes by itself.
    pub(super) fn is_complete(&self) -> bool {
        let stays = |place: &Place| place.store == "postgres" && self.postgres == "keep";
        let mut places = self.after.places.iter();
        places.all(|place| place.count == 0 || stays(place))
    }

    /// What is said of it. `user` is the keyed hash.
    pub(super) fn said(&self, user: &str) -> Value {
        let left = |place: &Place| self.after.count(place);
        let stores: Vec<Value> = self
            .before
            .union(&self.after)
            .iter()
            .map(|place| {
                json!({
                    "store": place.store, "place": place.name, "action": self.action(place),
                    "found": place.count, "left": left(place),
                })
            })
            .collect();
        let letters = self.after.letters.iter().take(LETTERS);
        let letters: Vec<String> = letters.map(ToString::to_string).collect();
        json!({
            "version": VERSION,
            "run": self.run,
            "user_hmac_sha256": user,
            "begun_at": self.begun.to_string(),
            "ended_at": self.ended.to_string(),
            "complete": self.is_complete(),
            "stores": stores,
            "dead_letters": letters,
            "dead_letters_found": self.after.letters.len(),
            "expiring": self.kept.iter().map(Kept::value).collect::<Vec<_>>(),
            "announced_on": self.topic,
        })
    }

    fn action(&self, place: &Place) -> &'static str {
        match place.store {
            "postgres" => self.postgres,
            "clickhouse" => "blank",
            _ => "delete",
        }
    }
}

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
pub(super) mod tests {
    use proptest::prelude::*;
    use stream::dead_letter::Place as LetterPlace;

    use super::super::key::tests::private_pem;
    use super::*;

    fn key(byte: u8) -> PrivateKey {
        PrivateKey::from_pem(&private_pem(&[byte; 32])).unwrap()
    }

    fn place(store: &'static str, name: &str, count: u64) -> Place {
        Place {
            store,
            name: name.into(),
            count,
        }
    }

    pub(in crate::erase) fn outcome(left: u64) -> Outcome {
        let letter = LetterPlace {
            topic: "engagement.dlq.enricher".into(),
            partition: 3,
            offset: 17,
        };
        Outcome {
            run: "r1".into(),
            begun: Micros(1_767_882_112_000_000),
            ended: Micros(1_767_882_113_000_000),
            postgres: "null",
            before: Found {
                places: vec![
                    place("postgres", "engagement_events", 12),
                    place("clickhouse", "engagement.events_enriched", 30),
                ],
                letters: vec![letter.clone()],
            },
            after: Found {
                places: vec![
                    place("postgres", "engagement_events", 0),
                    place("clickhouse", "engagement.events_enriched", left),
                    place("redis", "content:last:{id}", 0),
                ],
                letters: vec![letter],
            },
            kept: vec![Kept {
                topic: "cdc".into(),
                gone_by: Some(Micros(1_767_882_999_000_000)),
            }],
            topic: "engagement.erasures.v1".into(),
        }
    }

    #[test]
    fn a_receipt_says_what_was_found_and_what_is_left_and_not_who() {
        let said = outcome(0).said("abc");
        assert_eq!(said["complete"], true);
        assert_eq!(said["stores"][0]["action"], "null");
        assert_eq!(
            (&said["stores"][1]["found"], &said["stores"][1]["left"]),
            (&30.into(), &0.into())
        );
        assert_eq!(said["stores"][2]["place"], "content:last:{id}");
        assert_eq!(said["dead_letters"][0], "engagement.dlq.enricher/3/17");
        assert_eq!(said["user_hmac_sha256"], "abc");
    }

    #[test]
    fn it_is_complete_only_if_nothing_is_left_but_what_was_asked_to_stay() {
        assert!(!outcome(1).is_complete());
        let mut kept = outcome(0);
        kept.after.places[0].count = 5;
        assert!(!kept.is_complete());
        kept.postgres = "keep";
        assert!(kept.is_complete());
        assert_eq!(kept.said("x")["stores"][0]["left"], 5);
        // there were none, so nobody was asked; these came meanwhile
        kept.postgres = "none";
        assert!(!kept.is_complete());
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
