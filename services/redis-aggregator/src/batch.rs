//! Many records of one partition become one change: summed per content, bucket, minute and kind of event.
//!
//! Invariant: applying a batch equals applying its records one by one, however they are cut into batches.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use engagement::event::{EnrichedEvent, EnrichmentStatus, Micros};
use engagement::profile::{Profile, RenderOptions};

use crate::content::{Content, Info, LastChange, encode_sums};
use crate::msgpack::Writer;
use crate::sums::{Contribution, Sums, contributions};
use crate::window::{bucket_of, minute_name, minute_of};

/// What a batch has to prepare for readers; what nobody reads is not rendered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Length of a bucket, microseconds.
    pub bucket_us: i64,
    /// The last event of each content.
    pub last: bool,
    /// The newest events of each content: at most so many, 0 for none.
    pub recent: usize,
    /// The users of each content.
    pub users: bool,
    /// Events per minute.
    pub minutes: bool,
}

/// The sums of a run of records.
#[derive(Debug)]
pub struct Batch {
    wanted: Wanted,
    index: HashMap<String, usize>,
    contents: Vec<Content>,
    buckets: BTreeMap<(i64, usize), Sums>,
    minutes: BTreeMap<(i64, usize), i64>,
    commits: Vec<Micros>,
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            index: HashMap::new(),
            contents: Vec::new(),
            buckets: BTreeMap::new(),
            minutes: BTreeMap::new(),
            commits: Vec::new(),
        }
    }

    /// Adds the change that the record at `offset` of the enriched topic makes.
    pub fn add(&mut self, event: &EnrichedEvent, offset: i64) {
        for contribution in contributions(event).into_iter().flatten() {
            self.add_sums(&contribution);
        }
        if !event.is_historical() {
            // what a snapshot brings has no commit of its own
            self.commits.push(event.source.committed_at);
        }
        self.forget_replaced(event);
        let Some(content_id) = &event.content_id else {
            return;
        };
        let json = self.render(event);
        let content = self.content(content_id);
        if event.enrichment_status == EnrichmentStatus::Ok {
            content.info = Some(Info::of(event));
        }
        if event.deleted {
            return;
        }
        self.show(event, offset, json);
    }

    /// Adds sums that were counted elsewhere to the totals of a content, and to no bucket.
    pub fn add_totals(&mut self, content_id: &str, sums: Sums, info: Option<Info>) {
        let content = self.content(content_id);
        content.totals += sums;
        if info.is_some() {
            content.info = info;
        }
    }

    /// Adds sums that were counted elsewhere to a bucket, and to no totals.
    pub fn add_bucket(&mut self, content_id: &str, bucket: i64, sums: Sums) {
        let index = self.content_index(content_id);
        *self.buckets.entry((bucket, index)).or_default() += sums;
    }

    /// Commit times of the records added, for the freshness.
    #[must_use]
    pub fn commits(&self) -> &[Micros] {
        &self.commits
    }

    /// Whether any sum or reader key changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.contents.is_empty()
    }

    /// The batch as the script reads it: contents, buckets, minutes.
    #[must_use]
    pub fn encode(&mut self) -> Vec<u8> {
        let mut out = Writer::default();
        out.array(self.contents.len());
        for content in &mut self.contents {
            content.encode(&mut out);
        }
        self.encode_buckets(&mut out);
        self.encode_minutes(&mut out);
        out.into_bytes()
    }

    fn add_sums(&mut self, contribution: &Contribution<'_>) {
        let index = self.content_index(contribution.content_id);
        self.contents[index].totals += contribution.sums;
        let bucket = bucket_of(contribution.event_ts, self.wanted.bucket_us);
        *self.buckets.entry((bucket, index)).or_default() += contribution.sums;
        if self.wanted.minutes {
            *self
                .minutes
                .entry((minute_of(contribution.event_ts), index))
                .or_default() += contribution.sums.events;
        }
    }

    fn forget_replaced(&mut self, event: &EnrichedEvent) {
        let replaced = match &event.previous {
            Some(previous) if !event.moved || event.deleted => {
                Some((previous.content_id.clone(), &previous.event_id))
            }
            None if event.deleted => Some((event.content_id.clone(), &event.event_id)),
            _ => None,
        };
        if let (true, Some((Some(content_id), event_id))) = (self.wanted.last, replaced) {
            let event_id = event_id.clone();
            self.content(&content_id)
                .last
                .push(LastChange::Forget { event_id });
        }
    }

    fn render(&self, event: &EnrichedEvent) -> Bytes {
        let needed = !event.deleted && (self.wanted.last || self.wanted.recent > 0);
        if needed {
            Profile::Ratio2
                .render(event, &RenderOptions::default())
                .into()
        } else {
            Bytes::new()
        }
    }

    fn show(&mut self, event: &EnrichedEvent, offset: i64, json: Bytes) {
        let wanted = self.wanted;
        let Some(content_id) = &event.content_id else {
            return;
        };
        let content = self.content(content_id);
        if wanted.recent > 0 {
            content.recent.push((offset, json.clone()));
            if content.recent.len() > wanted.recent {
                content.recent.remove(0);
            }
        }
        if let (true, Some(user)) = (wanted.users, &event.user_id) {
            content.users.push(user.clone());
        }
        if wanted.last {
            content.show_last(event, offset, json);
        }
    }

    fn content(&mut self, id: &str) -> &mut Content {
        let index = self.content_index(id);
        &mut self.contents[index]
    }

    fn content_index(&mut self, id: &str) -> usize {
        if let Some(index) = self.index.get(id) {
            return *index;
        }
        let index = self.contents.len();
        self.contents.push(Content {
            id: id.to_owned(),
            ..Content::default()
        });
        self.index.insert(id.to_owned(), index);
        index
    }

    /// `[[bucket, [id, sums, id, sums, ..]], ..]`
    fn encode_buckets(&self, out: &mut Writer) {
        let groups = groups(&self.buckets);
        out.array(groups.len());
        for (bucket, entries) in groups {
            out.array(2);
            out.int(bucket);
            out.array(2 * entries.len());
            for (index, sums) in entries {
                out.bytes(self.contents[index].id.as_bytes());
                encode_sums(out, *sums);
            }
        }
    }

    /// `[[minute, name, [id, events, id, events, ..]], ..]`
    fn encode_minutes(&self, out: &mut Writer) {
        let groups = groups(&self.minutes);
        out.array(groups.len());
        for (minute, entries) in groups {
            out.array(3);
            out.int(minute);
            out.bytes(minute_name(minute).as_bytes());
            out.array(2 * entries.len());
            for (index, events) in entries {
                out.bytes(self.contents[index].id.as_bytes());
                out.int(*events);
            }
        }
    }
}

type Groups<'a, V> = Vec<(i64, Vec<(usize, &'a V)>)>;

fn groups<V>(map: &BTreeMap<(i64, usize), V>) -> Groups<'_, V> {
    let mut groups: Groups<'_, V> = Vec::new();
    for ((group, index), value) in map {
        match groups.last_mut() {
            Some((last, entries)) if last == group => entries.push((*index, value)),
            _ => groups.push((*group, vec![(*index, value)])),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use engagement::testing::{EVENT_TS, Sample, sample};

    use super::*;
    use crate::content::shown_at;
    use crate::msgpack::{Packed, unpack};

    const WANTED: Wanted = Wanted {
        bucket_us: 10_000_000,
        last: true,
        recent: 2,
        users: true,
        minutes: true,
    };

    fn encoded(events: &[EnrichedEvent]) -> Vec<Packed> {
        let mut batch = Batch::new(WANTED);
        for (offset, event) in (0..).zip(events) {
            batch.add(event, offset);
        }
        unpack(&batch.encode()).unwrap()
    }

    fn list(value: &Packed) -> &[Packed] {
        match value {
            Packed::Array(values) => values,
            other => panic!("{other:?} is no array"),
        }
    }

    #[test]
    fn events_of_one_content_and_bucket_are_one_entry() {
        let parts = encoded(&[sample(), sample(), sample()]);
        let contents = list(&parts[0]);
        assert_eq!(contents.len(), 1);
        assert_eq!(list(&list(&contents[0])[1])[0], Packed::Int(3));
        let bucket = list(&list(&parts[1])[0]);
        assert_eq!(bucket[0], Packed::Int(EVENT_TS.0 / 10_000_000));
        assert_eq!(list(&list(&parts[2])[0])[1].text(), "202601081421");
    }

    #[test]
    fn only_the_latest_event_is_shown_as_the_last() {
        let late = Sample::new().event_id(2).build();
        let mut early = Sample::new().event_id(1).build();
        early.event_ts = Micros(late.event_ts.0 - 1);
        let parts = encoded(&[late, early]);
        let last = list(&list(&list(&parts[0])[0])[3]).to_vec();
        assert_eq!(last.len(), 1);
        assert_eq!(list(&last[0])[1].text(), "2");
    }

    #[test]
    fn an_event_dated_into_the_future_is_ordered_by_its_commit() {
        let mut event = sample();
        event.event_ts = Micros(i64::MAX);
        assert_eq!(shown_at(&event), event.source.committed_at);
    }

    #[test]
    fn no_more_recent_events_are_sent_than_are_kept() {
        let parts = encoded(&[sample(), sample(), sample()]);
        let recent = list(&list(&list(&parts[0])[0])[4]).to_vec();
        assert_eq!(recent.len(), 2);
        assert_eq!(list(&recent[1])[0].text(), "2-1");
    }

    #[test]
    fn an_event_without_content_moves_nothing_but_the_position() {
        let mut batch = Batch::new(WANTED);
        batch.add(&Sample::new().no_content().build(), 0);
        assert!(batch.is_empty());
        assert_eq!(batch.commits().len(), 1);
    }
}
