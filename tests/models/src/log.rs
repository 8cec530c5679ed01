//! A partition of a topic: records at rising offsets, of which retention takes the oldest.
//!
//! Invariant: an offset names one record for as long as the topic is not recreated.

use stream::Watermarks;

/// Records from offset 0 on; those below `low` have expired and are kept for the final judgement only.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Log<T> {
    low: usize,
    records: Vec<T>,
}

impl<T> Default for Log<T> {
    fn default() -> Self {
        Self {
            low: 0,
            records: Vec::new(),
        }
    }
}

impl<T> Log<T> {
    pub(crate) fn marks(&self) -> Watermarks {
        Watermarks {
            low: int(self.low),
            high: int(self.records.len()),
        }
    }

    pub(crate) fn append(&mut self, record: T) {
        self.records.push(record);
    }

    /// The record at an offset, if it is there and has not expired.
    pub(crate) fn at(&self, offset: i64) -> Option<&T> {
        let index = usize::try_from(offset).ok()?;
        self.records.get(index).filter(|_| index >= self.low)
    }

    /// The records that can be read, with their offsets.
    pub(crate) fn readable(&self) -> impl Iterator<Item = (i64, &T)> {
        (0..).zip(&self.records).skip(self.low)
    }

    /// All records there ever were.
    pub(crate) fn all(&self) -> &[T] {
        &self.records
    }

    /// The broker has lost its newest record, although it had acknowledged it.
    pub(crate) fn truncate(&mut self) {
        self.records.pop();
    }

    /// Retention takes the oldest record.
    pub(crate) fn expire(&mut self) {
        self.low = (self.low + 1).min(self.records.len());
    }
}

/// A length or an index as an offset.
pub(crate) fn int(count: usize) -> i64 {
    i64::try_from(count).expect("a model is small")
}
