//! Events and their contents: from the catalog, or from Postgres where the catalog does not know them.
//!
//! Invariant: an event waits only while Postgres cannot be asked, and a partition in all at most its budget.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use engagement::catalog::Lookup as Known;
use engagement::enrich::{Place, enrich};
use engagement::envelope::EventChange;
use engagement::event::{EnrichedEvent, Micros};
use tokio_util::sync::CancellationToken;

use crate::lookup::Answer;
use crate::lookup::budget::WaitBudget;
use crate::state::Shared;

/// Between two questions while Postgres cannot be asked.
const RETRY: Duration = Duration::from_millis(200);
/// How long a question may take once the budget is spent.
const GRACE: Duration = Duration::from_millis(50);

/// What was learnt about unknown contents, by id.
pub(crate) type Answers = HashMap<String, Answer>;

/// Whether the change names a content that the catalog does not know.
pub(crate) fn is_unknown(shared: &Shared, change: &EventChange<'_>) -> bool {
    let id = change.row.content_id.as_deref();
    id.is_some_and(|id| !is_known(shared, id))
}

/// The enriched event, with what the catalog knows now, else with what was learnt.
pub(crate) fn event(
    shared: &Shared,
    change: EventChange<'_>,
    place: Place,
    answers: Option<&Answers>,
    now: Micros,
) -> EnrichedEvent {
    let catalog = shared.contents.read();
    let id = change.row.content_id.as_deref();
    let known = id.map(|id| catalog.get(id));
    let content = match (known, id.and_then(|id| answers?.get(id))) {
        (Some(Known::Found(content)), _) => Some(content),
        (_, Some(Answer::Found(content))) => Some(content.as_content()),
        _ => None,
    };
    enrich(change, content, place, now)
}

/// Finds out about `ids`, which the catalog lacks; `None`: told to stop, nothing may be concluded.
pub(crate) async fn resolve(
    shared: &Shared,
    budget: &mut WaitBudget,
    ids: Vec<String>,
    stop: &CancellationToken,
) -> Option<Answers> {
    shared
        .meters
        .misses
        .increment(u64::try_from(ids.len()).unwrap_or(u64::MAX));
    let mut arrived = shared.contents.changes();
    let (mut answers, mut open) = (Answers::new(), ids);
    loop {
        let (started, allowed) = (Instant::now(), budget.available(Instant::now()));
        let told = tokio::select! {
            () = stop.cancelled() => return None,
            told = tokio::time::timeout(allowed.max(GRACE), shared.lookup.ask(&open)) => told.unwrap_or_default(),
        };
        learn(shared, &told);
        answers.extend(
            told.into_iter()
                .filter(|(_, answer)| *answer != Answer::Unavailable),
        );
        open.retain(|id| !answers.contains_key(id) && !is_known(shared, id));
        if open.is_empty() {
            return Some(answers);
        }
        let left = allowed.saturating_sub(started.elapsed());
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(left.min(RETRY)) => {}
            _ = arrived.changed(), if !left.is_zero() => {}
        }
        budget.spend(started, Instant::now());
        if left.is_zero() {
            return Some(answers);
        }
    }
}

fn learn(shared: &Shared, told: &Answers) {
    let found = told.iter().filter_map(|(id, answer)| match answer {
        Answer::Found(content) => Some((id.as_str(), &**content)),
        Answer::Absent | Answer::Unavailable => None,
    });
    let mut found = found.peekable();
    if found.peek().is_some() {
        shared.contents.resolve(found);
    }
}

fn is_known(shared: &Shared, id: &str) -> bool {
    matches!(shared.contents.read().get(id), Known::Found(_))
}
