//! What Redis should hold, computed from scratch from the events that count.

use std::collections::BTreeMap;

use engagement::event::{EnrichedEvent, EnrichmentStatus, Micros};
use redis_aggregator::board::Score;
use redis_aggregator::config::Config;
use redis_aggregator::content::shown_at;
use redis_aggregator::history::{History, Verdict};
use redis_aggregator::sums::{Sums, contributions};
use redis_aggregator::window::{bucket_of, minute_of};

/// The aggregates of some partitions together.
#[derive(Default, Debug, PartialEq, Eq)]
pub(crate) struct Aggregates {
    pub(crate) totals: BTreeMap<String, Sums>,
    pub(crate) window: BTreeMap<String, Sums>,
    pub(crate) boards: BTreeMap<&'static str, BTreeMap<String, i64>>,
    pub(crate) minutes: BTreeMap<i64, BTreeMap<String, i64>>,
    /// Id of the event shown as the last of a content.
    pub(crate) last: BTreeMap<String, String>,
}

/// Recomputes one partition at a watermark bucket. `events` in the order of the log, without duplicates.
pub(crate) fn recompute(config: &Config, events: &[EnrichedEvent], watermark: i64) -> Aggregates {
    let bucket_us = config.window.bucket_us();
    let span = config.spans()[0].buckets;
    let minutes_kept = 15;
    let oldest_minute = (i128::from(watermark) * i128::from(bucket_us)).div_euclid(60_000_000)
        as i64
        - minutes_kept;
    let mut all = Aggregates::default();
    let (mut shown, mut lengths) = (
        BTreeMap::<String, (Micros, String)>::new(),
        BTreeMap::<String, i64>::new(),
    );
    for event in counted(events) {
        for part in contributions(&event).into_iter().flatten() {
            *all.totals.entry(part.content_id.into()).or_default() += part.sums;
            let bucket = bucket_of(part.event_ts, bucket_us);
            if (watermark - span..=watermark).contains(&bucket) {
                *all.window.entry(part.content_id.into()).or_default() += part.sums;
            }
            if minute_of(part.event_ts) >= oldest_minute {
                let minute = all.minutes.entry(minute_of(part.event_ts)).or_default();
                *minute.entry(part.content_id.into()).or_default() += part.sums.events;
            }
        }
        follow_last(&mut shown, &event);
        if let (Some(id), EnrichmentStatus::Ok) = (&event.content_id, event.enrichment_status) {
            lengths.insert(id.clone(), event.length_seconds.unwrap_or(0));
        }
    }
    all.totals.retain(|_, sums| !sums.is_zero());
    all.window.retain(|_, sums| !sums.is_zero());
    for minute in all.minutes.values_mut() {
        minute.retain(|_, events| *events > 0);
    }
    all.minutes.retain(|_, counts| !counts.is_empty());
    for score in config.spans()[0].scores.clone() {
        let ranked = all.window.iter().filter_map(|(id, sums)| {
            let points = points(config, score, sums, lengths.get(id).copied().unwrap_or(0));
            (points > 0).then(|| (id.clone(), points))
        });
        all.boards.insert(score.name(), ranked.collect());
    }
    all.last = shown
        .into_iter()
        .map(|(content, (_, id))| (content, id))
        .collect();
    all
}

/// What counts by the rule for historical records, told here in the other direction: only the last snapshot before
/// the stream, and the stream.
fn counted(events: &[EnrichedEvent]) -> Vec<EnrichedEvent> {
    let (mut history, mut counted) = (History::Empty, Vec::new());
    for event in events {
        let (verdict, next) = history.judge(event);
        history = next;
        match verdict {
            Verdict::Skip => continue,
            Verdict::Replace => counted.clear(),
            Verdict::Count => {}
        }
        counted.push(event.clone());
    }
    counted
}

fn follow_last(shown: &mut BTreeMap<String, (Micros, String)>, event: &EnrichedEvent) {
    let replaced = match &event.previous {
        Some(previous) if event.deleted || !event.moved => previous
            .content_id
            .clone()
            .map(|c| (c, previous.event_id.clone())),
        _ => None,
    };
    if let Some((content, id)) = replaced
        && shown.get(&content).is_some_and(|(_, last)| *last == id)
    {
        shown.remove(&content);
    }
    if let (Some(content), false) = (&event.content_id, event.deleted) {
        let at = shown_at(event);
        if shown.get(content).is_none_or(|(last, _)| at >= *last) {
            shown.insert(content.clone(), (at, event.event_id.clone()));
        }
    }
}

fn points(config: &Config, score: Score, sums: &Sums, length: i64) -> i64 {
    let half_up = |a: i128, b: i128| (2 * a + b).div_euclid(2 * b);
    let (ms, timed, length) = (
        i128::from(sums.ms),
        i128::from(sums.timed),
        i128::from(length),
    );
    let rated = timed > 0 && length > 0;
    let points = match score {
        Score::Events => i128::from(sums.events),
        Score::Seconds => ms,
        Score::MeanPercent if rated => half_up(ms * 10, length * timed),
        Score::MeanPercent => 0,
        Score::Weighted => {
            let [play, pause, finish, click, other] = config.weights.milli().map(i128::from);
            let n = sums.to_array().map(i128::from);
            let unknown = n[0] - n[3] - n[4] - n[5] - n[6];
            let weight =
                play * n[3] + pause * n[4] + finish * n[5] + click * n[6] + other * unknown;
            weight * 1000
                + if rated {
                    half_up(weight * ms, length * timed)
                } else {
                    0
                }
        }
    };
    i64::try_from(points).unwrap()
}
