//! Traces through the whole pipeline: real servers, real services, real Jaeger, read by its API.
//!
//! Half of the events are traced from their beginning, by their ids, so that each test meets both kinds. One test runs at
//! a time: some make the receiver fail, or stop a sink.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod by_hand;
mod event;
mod failures;
mod tool;
mod tree;

use e2e::{Content, Event, Traced};
use event::Committed;

/// Enough events that some of them are traced from their beginning and some are not: one run in eight million has
/// only one kind.
const BOTH_KINDS: usize = 24;

/// Inserts events of one content, of both kinds.
async fn events_of_both_kinds(traced: &Traced) -> Both {
    let world = traced.world();
    let content = world.insert_content(Content::podcast(300)).await;
    let mut ids = Vec::new();
    for _ in 0..BOTH_KINDS {
        ids.push(world.insert_event(Event::play(&content, 7000)).await);
    }
    Both { ids }
}

/// Events, of which ClickHouse knows the positions once it has them.
struct Both {
    ids: Vec<String>,
}

impl Both {
    /// Those that are traced from their beginning, and the others.
    async fn parted(&self, traced: &Traced) -> (Vec<Committed>, Vec<Committed>) {
        let mut parts = (Vec::new(), Vec::new());
        for id in &self.ids {
            let event = Committed::read(traced.world(), id).await;
            if event.is_chosen(traced.share()) {
                parts.0.push(event);
            } else {
                parts.1.push(event);
            }
        }
        let (chosen, others) = (parts.0.len(), parts.1.len());
        assert!(chosen > 0 && others > 0, "{chosen} of {}", self.ids.len());
        parts
    }
}
