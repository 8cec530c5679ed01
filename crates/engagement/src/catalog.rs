//! The content dimension in memory, fed by the compacted content topic.
//!
//! Invariant: a streamed change below the mark of its content never overwrites; a deletion leaves its mark behind.
//!
//! The mark is (`sequence[0]`, `lsn`). Two kinds of change carry no comparable pair and always apply: rows that a
//! snapshot read (they are the state of the table at that point of the topic, also after a restore that set the LSN
//! back), and the first transaction after a snapshot (`sequence[0]` is null there) as long as no later one was seen.

mod entry;
mod id;

use std::sync::Arc;

use hashbrown::HashMap;

use crate::envelope::{ContentChange, Op, Toast};
use crate::event::Micros;
use entry::{Entry, Mark};
use id::Id;

/// A content, borrowed from the catalog or from [`Content`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ContentRef<'a> {
    /// Type, open set.
    pub content_type: Option<&'a str>,
    /// Length in seconds.
    pub length_seconds: Option<i64>,
    /// Title.
    pub title: Option<&'a str>,
    /// Slug.
    pub slug: Option<&'a str>,
    /// When it was published.
    pub publish_ts: Option<Micros>,
}

/// A content as a lookup in the database returns it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Content {
    /// Type, open set.
    pub content_type: Option<String>,
    /// Length in seconds.
    pub length_seconds: Option<i64>,
    /// Title.
    pub title: Option<String>,
    /// Slug.
    pub slug: Option<String>,
    /// When it was published.
    pub publish_ts: Option<Micros>,
}

impl Content {
    /// The same, borrowed.
    #[must_use]
    pub fn as_content(&self) -> ContentRef<'_> {
        ContentRef {
            content_type: self.content_type.as_deref(),
            length_seconds: self.length_seconds,
            title: self.title.as_deref(),
            slug: self.slug.as_deref(),
            publish_ts: self.publish_ts,
        }
    }
}

/// What the catalog knows about a content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup<'a> {
    /// All of it.
    Found(ContentRef<'a>),
    /// A value that did not change was left out of the only change seen: ask the database, then
    /// [`Catalog::resolve`].
    Incomplete,
    /// Nothing, or that it was deleted.
    Unknown,
}

/// The content table in memory: about 150 B per content with a UUID key, a title and a slug.
#[derive(Debug, Default)]
pub struct Catalog {
    rows: HashMap<Id, Entry>,
    types: Vec<Arc<str>>,
    live: usize,
}

impl Catalog {
    /// An empty catalog.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What is known about a content.
    #[must_use]
    pub fn get(&self, id: &str) -> Lookup<'_> {
        match self.rows.get(&Id::of(id)) {
            Some(entry) if entry.is_deleted() => Lookup::Unknown,
            Some(entry) if entry.is_incomplete() => Lookup::Incomplete,
            Some(entry) => Lookup::Found(entry.content(&self.types)),
            None => Lookup::Unknown,
        }
    }

    /// Applies a change; false when it was older than what is known.
    pub fn apply(&mut self, change: &ContentChange<'_>) -> bool {
        let id = Id::of(&change.id);
        let known = self.rows.get(&id);
        let Some(mark) = next_mark(known.map(Entry::mark), change) else {
            return false;
        };
        let entry = match change.meta.op {
            Op::Delete => Entry::tombstone(mark),
            _ => upsert(change, mark, known, &mut self.types),
        };
        self.put(id, entry);
        true
    }

    /// Removes a content after a tombstone (the only sign of a deletion in the flattened form); its mark stays.
    pub fn remove(&mut self, id: &str) {
        let id = Id::of(id);
        if let Some(mark) = self.rows.get(&id).map(Entry::mark) {
            self.put(id, Entry::tombstone(mark));
        }
    }

    /// Takes over what the database said about a content that was [`Lookup::Unknown`] or [`Lookup::Incomplete`].
    ///
    /// The content topic is the truth: what it said in the meantime stays, only what it left out is filled in.
    pub fn resolve(&mut self, id: &str, found: &Content) {
        let id = Id::of(id);
        let entry = match self.rows.get(&id) {
            Some(entry) if entry.is_deleted() || !entry.is_incomplete() => return,
            Some(entry) => entry.completed(found.as_content(), &mut self.types),
            None => Entry::new(
                found.as_content(),
                entry::Unknown::NONE,
                Mark::default(),
                &mut self.types,
            ),
        };
        self.put(id, entry);
    }

    /// How many contents there are (deleted ones are not counted).
    #[must_use]
    pub const fn len(&self) -> usize {
        self.live
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Estimated heap size in bytes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let texts: usize = self
            .rows
            .iter()
            .map(|(id, entry)| id.heap_bytes() + entry.heap_bytes())
            .sum();
        self.rows.allocation_size() + texts
    }

    fn put(&mut self, id: Id, entry: Entry) {
        let now = usize::from(!entry.is_deleted());
        let before = self
            .rows
            .insert(id, entry)
            .map_or(0, |old| usize::from(!old.is_deleted()));
        self.live = self.live + now - before;
    }
}

/// The mark after this change, or `None` when it must not be applied.
fn next_mark(known: Option<Mark>, change: &ContentChange<'_>) -> Option<Mark> {
    let meta = &change.meta;
    let own = Mark {
        commit_lsn: meta.commit_lsn.unwrap_or(0),
        lsn: meta.lsn,
    };
    match known {
        Some(_) if meta.is_snapshot() => Some(own),
        // what follows the first transaction names a commit above it
        Some(known) if meta.commit_lsn.is_none() => {
            (own.lsn >= known.commit_lsn).then_some(known.max(own))
        }
        Some(known) if own < known => None,
        _ => Some(own),
    }
}

fn upsert(
    change: &ContentChange<'_>,
    mark: Mark,
    known: Option<&Entry>,
    types: &mut Vec<Arc<str>>,
) -> Entry {
    let known = known.filter(|entry| !entry.is_deleted());
    // the interned types must stay writable while the old texts are read
    let old_type = known.and_then(|entry| entry.content(types).content_type.map(str::to_owned));
    let old = known.map(|entry| entry.content(&[])).unwrap_or_default();
    let unknown = known.map_or(entry::Unknown::ALL, Entry::unknown);
    let (title, title_unknown) = value(&change.title, old.title, unknown.title);
    let (slug, slug_unknown) = value(&change.slug, old.slug, unknown.slug);
    let (content_type, type_unknown) = value(
        &change.content_type,
        old_type.as_deref(),
        unknown.content_type,
    );
    let row = ContentRef {
        content_type,
        length_seconds: change.length_seconds,
        title,
        slug,
        publish_ts: change.publish_ts,
    };
    let unknown = entry::Unknown {
        title: title_unknown,
        slug: slug_unknown,
        content_type: type_unknown,
    };
    Entry::new(row, unknown, mark, types)
}

/// The value of a column and whether it is still unknown.
fn value<'a>(
    change: &'a Toast<'_>,
    old: Option<&'a str>,
    old_unknown: bool,
) -> (Option<&'a str>, bool) {
    match change {
        Toast::Value(value) => (value.as_deref(), false),
        Toast::Unchanged => (old, old_unknown),
    }
}

#[cfg(test)]
mod tests;
