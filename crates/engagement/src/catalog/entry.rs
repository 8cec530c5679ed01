//! One content, packed: a fixed part, and title and slug in one allocation.
//!
//! Invariant: what was packed comes out again, NULL and empty told apart.

use std::sync::Arc;

use super::ContentRef;
use crate::event::Micros;

/// (`sequence[0]`, `lsn`) of the change that a row is from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Mark {
    pub(super) commit_lsn: u64,
    pub(super) lsn: u64,
}

/// Which values no change has carried yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unknown {
    pub(super) title: bool,
    pub(super) slug: bool,
    pub(super) content_type: bool,
}

impl Unknown {
    pub(super) const NONE: Self = Self {
        title: false,
        slug: false,
        content_type: false,
    };
    pub(super) const ALL: Self = Self {
        title: true,
        slug: true,
        content_type: true,
    };
}

const DELETED: u8 = 1;
const TITLE: u8 = 1 << 1;
const SLUG: u8 = 1 << 2;
const LENGTH: u8 = 1 << 3;
const PUBLISHED: u8 = 1 << 4;
const TITLE_UNKNOWN: u8 = 1 << 5;
const SLUG_UNKNOWN: u8 = 1 << 6;
const TYPE_UNKNOWN: u8 = 1 << 7;

/// No type.
const NO_TYPE: u16 = u16::MAX;
/// At most this many different types are kept; contents of a later one have none.
const MAX_TYPES: usize = NO_TYPE as usize;

#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Title, then slug.
    text: Box<str>,
    mark: Mark,
    length_seconds: i64,
    publish_ts: i64,
    title_bytes: u32,
    content_type: u16,
    flags: u8,
}

impl Entry {
    pub(super) fn new(
        row: ContentRef<'_>,
        unknown: Unknown,
        mark: Mark,
        types: &mut Vec<Arc<str>>,
    ) -> Self {
        let title = row.title.unwrap_or_default();
        let slug = row.slug.unwrap_or_default();
        let flags = [
            (TITLE, row.title.is_some()),
            (SLUG, row.slug.is_some()),
            (LENGTH, row.length_seconds.is_some()),
            (PUBLISHED, row.publish_ts.is_some()),
            (TITLE_UNKNOWN, unknown.title),
            (SLUG_UNKNOWN, unknown.slug),
            (TYPE_UNKNOWN, unknown.content_type),
        ];
        Self {
            text: [title, slug].concat().into(),
            mark,
            length_seconds: row.length_seconds.unwrap_or_default(),
            publish_ts: row.publish_ts.unwrap_or_default().0,
            title_bytes: u32::try_from(title.len()).unwrap_or(u32::MAX),
            content_type: row.content_type.map_or(NO_TYPE, |name| intern(types, name)),
            flags: flags
                .iter()
                .filter(|(_, set)| *set)
                .fold(0, |flags, (flag, _)| flags | flag),
        }
    }

    pub(super) fn tombstone(mark: Mark) -> Self {
        let mut entry = Self::new(ContentRef::default(), Unknown::NONE, mark, &mut Vec::new());
        entry.flags = DELETED;
        entry
    }

    /// The same row with the values that were unknown.
    pub(super) fn completed(&self, found: ContentRef<'_>, types: &mut Vec<Arc<str>>) -> Self {
        let unknown = self.unknown();
        let content_type = match unknown.content_type {
            true => found.content_type.map(str::to_owned),
            false => self.content(types).content_type.map(str::to_owned),
        };
        let own = self.content(&[]);
        let row = ContentRef {
            content_type: content_type.as_deref(),
            title: if unknown.title {
                found.title
            } else {
                own.title
            },
            slug: if unknown.slug { found.slug } else { own.slug },
            ..own
        };
        Self::new(row, Unknown::NONE, self.mark, types)
    }

    pub(super) fn content<'a>(&'a self, types: &'a [Arc<str>]) -> ContentRef<'a> {
        let at = usize::try_from(self.title_bytes).unwrap_or(usize::MAX);
        let (title, slug) = self.text.split_at_checked(at).unwrap_or((&self.text, ""));
        ContentRef {
            content_type: types
                .get(usize::from(self.content_type))
                .map(|name| &**name),
            length_seconds: self.has(LENGTH).then_some(self.length_seconds),
            title: self.has(TITLE).then_some(title),
            slug: self.has(SLUG).then_some(slug),
            publish_ts: self.has(PUBLISHED).then_some(Micros(self.publish_ts)),
        }
    }

    pub(super) const fn mark(&self) -> Mark {
        self.mark
    }

    pub(super) const fn unknown(&self) -> Unknown {
        Unknown {
            title: self.has(TITLE_UNKNOWN),
            slug: self.has(SLUG_UNKNOWN),
            content_type: self.has(TYPE_UNKNOWN),
        }
    }

    pub(super) const fn is_deleted(&self) -> bool {
        self.has(DELETED)
    }

    pub(super) const fn is_incomplete(&self) -> bool {
        self.has(TITLE_UNKNOWN | SLUG_UNKNOWN | TYPE_UNKNOWN)
    }

    pub(super) const fn heap_bytes(&self) -> usize {
        self.text.len()
    }

    const fn has(&self, any: u8) -> bool {
        self.flags & any != 0
    }
}

fn intern(types: &mut Vec<Arc<str>>, name: &str) -> u16 {
    let index = types
        .iter()
        .position(|known| **known == *name)
        .unwrap_or_else(|| {
            if types.len() < MAX_TYPES {
                types.push(name.into());
                return types.len() - 1;
            }
            MAX_TYPES
        });
    u16::try_from(index).unwrap_or(NO_TYPE)
}
