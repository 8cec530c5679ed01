//! What the log says the sums are: counted one by one from the same events. Pure.

use std::collections::BTreeMap;

use engagement::event::{EnrichedEvent, Micros};
use redis_aggregator::msgpack::{Packed, unpack};
use redis_aggregator::sums::{Sums, contributions};

/// By content, without those that are zero.
pub(super) type ByContent = BTreeMap<String, Sums>;
/// A hash of Redis.
pub(super) type Packs = BTreeMap<String, Vec<u8>>;

/// Of the events of a log whose time is wanted.
pub(super) fn of_log(log: &[EnrichedEvent], wanted: impl Fn(Micros) -> bool) -> ByContent {
    let mut all = ByContent::new();
    for change in log.iter().flat_map(contributions).flatten() {
        if wanted(change.event_ts) {
            *all.entry(change.content_id.to_owned()).or_default() += change.sums;
        }
    }
    all.retain(|_, sums| !sums.is_zero());
    all
}

/// Of a hash as the aggregator packs it.
pub(super) fn of_packs(packs: &Packs) -> ByContent {
    let sums = packs.iter().map(|(id, packed)| {
        let values: Vec<i64> = unpack(packed).unwrap().iter().map(Packed::int).collect();
        (
            id.clone(),
            Sums::from_array(values[..7].try_into().unwrap()),
        )
    });
    sums.filter(|(_, sums)| !sums.is_zero()).collect()
}

/// How they differ, if they do.
pub(super) fn unequal(what: &str, expected: &ByContent, found: &ByContent) -> Option<String> {
    (expected != found).then(|| format!("{what}: expected {expected:?}, found {found:?}"))
}
