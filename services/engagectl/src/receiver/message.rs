//! Reads what a forwarder sends: every profile, with or without the Standard Webhooks body. Pure.
//!
//! Invariant: an item is counted only if it says which event it is about.

use engagement::event::Micros;
use serde_json::Value;

/// What the receiver needs of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// Primary key of the event.
    pub(crate) event_id: String,
    /// `play`, `pause`, ..; `(none)` without one.
    pub(crate) event_type: String,
    /// Revision, 0 where the profile has none.
    pub(crate) revision: u64,
    /// The event is gone.
    pub(crate) deleted: bool,
    /// Half of a move to another content: with `deleted` the event lives on.
    pub(crate) moved: bool,
    /// When it was committed in Postgres, where the profile says so.
    pub(crate) committed_at: Option<Micros>,
    /// The backfill that brought it; not of the body, but of the request's header.
    pub(crate) run: Option<i64>,
}

impl Item {
    /// Identity of the message where there is no `webhook-id`.
    pub(crate) fn message_id(&self) -> String {
        format!("{}/{}/{}", self.event_id, self.revision, self.deleted)
    }
}

/// Reads one event. `None` when it names none.
pub(crate) fn read<'a>(body: &'a Value) -> Option<Item> {
    // the Standard Webhooks body and CloudEvents both hold it under `data`, one may hold the other
    let inner = |value: &'a Value| value.get("data").filter(|data| data.is_object());
    let event = inner(body).map_or(body, |data| inner(data).unwrap_or(data));
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    let flag = |name: &str| event.get(name).and_then(Value::as_bool).unwrap_or(false);
    let committed_at = event
        .pointer("/source/committed_at")
        .and_then(Value::as_str)
        .and_then(|at| at.parse().ok());
    Some(Item {
        event_id: id(event.get("event_id").or_else(|| event.get("id"))?)?,
        event_type: text("event_type").unwrap_or("(none)").to_owned(),
        revision: event.get("revision").and_then(Value::as_u64).unwrap_or(0),
        deleted: flag("deleted"),
        moved: flag("moved"),
        committed_at,
        run: None,
    })
}

fn id(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engagement::profile::{Profile, RenderOptions};
    use engagement::testing::sample;
    use serde_json::json;

    #[test]
    fn every_profile_is_understood_bare_and_in_the_standard_body() {
        for profile in Profile::ALL {
            let bare = profile.value(&sample(), &RenderOptions::default());
            let body = json!({"type": "engagement_event.created", "timestamp": "x", "data": bare});
            for value in [&bare, &body] {
                let item = read(value).unwrap_or_else(|| panic!("{profile}: {value}"));
                assert_eq!(item.event_id, "1001", "{profile}");
                assert_eq!(item.event_type, "play", "{profile}");
            }
        }
    }

    #[test]
    fn the_canonical_profile_brings_commit_time_and_revision() {
        let item = read(&Profile::Canonical.value(&sample(), &RenderOptions::default()));
        let item = item.unwrap();
        assert_eq!(item.committed_at, Some(sample().source.committed_at));
        assert_eq!(item.message_id(), "1001/42000/false");
    }

    #[test]
    fn what_names_no_event_is_no_item() {
        for body in [
            json!({}),
            json!([]),
            json!(null),
            json!("x"),
            json!({"event_id": ""}),
            json!({"data": {}}),
        ] {
            assert_eq!(read(&body), None, "{body}");
        }
    }
}
