//! What was erased where: what a receipt says. Pure.
//!
//! Invariant: it names no user; only whole numbers and texts stand in it, so that its compact form, which is signed, is always the same.

use engagement::event::Micros;
use serde_json::{Value, json};

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

#[cfg(test)]
pub(super) mod tests {
    use stream::dead_letter::Place as LetterPlace;

    use super::*;

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
}
