//! What stands on the topic of erasures: that a run has begun, and that a person is erased. Pure.
//!
//! Readers of other stores act on either: on `erased` with the offsets of the enriched topic below which every record of the person
//! was written. For this tool, a run that has begun and not ended is one that was killed, and goes on under its name.
//! Invariant: what a later version adds, and what is not ours, is passed over.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::search::Noted;

/// One record. Its key is the user's id, its value this as JSON.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum Entry {
    /// Nothing has been removed yet.
    Begun(Begun),
    /// Everything that this tool removes is gone.
    Erased(Erased),
}

/// The first record of a run.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct Begun {
    pub(super) run: String,
    pub(super) user_id: String,
    /// Microseconds since 1970.
    pub(super) at_us: i64,
    /// What was found.
    pub(super) found: Noted,
}

/// The last record of a run.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Erased {
    pub(super) run: String,
    pub(super) user_id: String,
    /// RFC 3339.
    pub(super) at: String,
    /// The topic whose records named the person, and by partition the offset below which they may.
    pub(super) enriched: String,
    // numbers as keys cannot be read back from what is tagged
    pub(super) below: BTreeMap<String, i64>,
    /// The signed receipt.
    pub(super) receipt: Value,
}

/// The runs of one person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Runs {
    open: Option<Begun>,
}

impl Runs {
    /// Takes the records of the topic, one after the other.
    pub(super) fn take(&mut self, user: &str, key: &[u8], payload: &[u8]) {
        if key != user.as_bytes() {
            return;
        }
        match serde_json::from_slice(payload) {
            // the first one of several that nobody has ended knows what there was
            Ok(Entry::Begun(begun)) => drop(self.open.get_or_insert(begun)),
            Ok(Entry::Erased(_)) => self.open = None,
            Err(_) => {}
        }
    }

    /// The run that was killed, if one was.
    pub(super) fn open(self) -> Option<Begun> {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn begun(run: &str, user: &str) -> Entry {
        Entry::Begun(Begun {
            run: run.into(),
            user_id: user.into(),
            at_us: 7,
            found: Noted::default(),
        })
    }

    fn erased(run: &str, user: &str) -> Entry {
        Entry::Erased(Erased {
            run: run.into(),
            user_id: user.into(),
            at: "2026-01-08T14:21:52Z".into(),
            enriched: "engagement.enriched.v1".into(),
            below: [("0".to_owned(), 12)].into(),
            receipt: Value::Null,
        })
    }

    fn open(entries: &[(&str, Entry)], user: &str) -> Option<String> {
        let mut runs = Runs::default();
        for (key, entry) in entries {
            let payload = serde_json::to_vec(entry).unwrap();
            runs.take(user, key.as_bytes(), &payload);
        }
        runs.open().map(|begun| begun.run)
    }

    #[test]
    fn a_run_is_open_until_its_person_is_erased() {
        let a = |entry| ("a", entry);
        assert_eq!(open(&[], "a"), None);
        assert_eq!(open(&[a(begun("1", "a"))], "a"), Some("1".into()));
        assert_eq!(open(&[a(begun("1", "a")), a(erased("1", "a"))], "a"), None);
        let again = [a(begun("1", "a")), a(begun("2", "a"))];
        assert_eq!(open(&again, "a"), Some("1".into()));
        let third = [a(begun("1", "a")), a(erased("1", "a")), a(begun("3", "a"))];
        assert_eq!(open(&third, "a"), Some("3".into()));
    }

    #[test]
    fn a_record_is_one_flat_object_that_says_what_it_is() {
        let value = serde_json::to_value(erased("1", "a")).unwrap();
        assert_eq!(
            (&value["kind"], &value["user_id"]),
            (&"erased".into(), &"a".into())
        );
        assert_eq!(value["below"]["0"], 12);
    }

    proptest! {
        #[test]
        fn the_runs_of_others_and_what_is_no_entry_change_nothing(
            noise in prop::collection::vec((prop_oneof![Just("a"), Just("b")], "\\PC{0,20}"), 0..8),
        ) {
            let mut runs = Runs::default();
            runs.take("a", b"a", &serde_json::to_vec(&begun("1", "a")).unwrap());
            for (key, text) in noise {
                runs.take("a", key.as_bytes(), text.as_bytes());
                runs.take("a", b"b", &serde_json::to_vec(&erased("1", "b")).unwrap());
            }
            prop_assert_eq!(runs.open().map(|begun| begun.run), Some("1".to_owned()));
        }
    }
}
