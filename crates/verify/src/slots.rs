//! A fixed number of sums in which any number of cells is compared. Pure.
//!
//! Invariant: a slot is zero if source and sink agree in all of its cells; memory does not depend on the number of
//! cells. (That a slot is zero although they differ takes two differences whose 64-bit hashes, counts and sums cancel.)

use crate::cell::{Cell, Digest, first_eight};
use md5::{Digest as _, Md5};

/// 2^19 slots of 48 bytes are 25 MB; tests make hundreds of folds.
const SLOTS: usize = if cfg!(test) { 1 << 10 } else { 1 << 19 };

/// What the sink has and what the source has, by the hash of the cell.
#[derive(Debug)]
pub(crate) struct Slots {
    /// What the sink has less what the source has.
    sums: Vec<Digest>,
    used: Vec<bool>,
    /// Events of the source.
    pub(crate) expected: u64,
}

impl Slots {
    pub(crate) fn new() -> Self {
        Self {
            sums: vec![Digest::default(); SLOTS],
            used: vec![false; SLOTS],
            expected: 0,
        }
    }

    /// The sink has this event.
    pub(crate) fn add(&mut self, cell: &Cell, digest: Digest) {
        self.sums[slot_of(cell)] += digest;
    }

    /// The sink has this event no longer.
    pub(crate) fn remove(&mut self, cell: &Cell, digest: Digest) {
        self.sums[slot_of(cell)] -= digest;
    }

    /// The source has this.
    pub(crate) fn expect(&mut self, cell: &Cell, digest: Digest) {
        self.expected += digest.events.unsigned_abs();
        self.used[slot_of(cell)] = true;
        self.remove(cell, digest);
    }

    /// The slots that do not agree, with what the sink has too many (or, negative, too few).
    pub(crate) fn differing(&self) -> impl Iterator<Item = (usize, Digest)> + '_ {
        let sums = self.sums.iter().copied().enumerate();
        sums.filter(|(_, sum)| !sum.is_zero())
    }

    /// How many slots hold something and agree.
    pub(crate) fn equal(&self) -> u64 {
        let slots = self.sums.iter().zip(&self.used);
        slots
            .map(|(sum, used)| u64::from(*used && sum.is_zero()))
            .sum()
    }
}

/// The slot of a cell.
pub(crate) fn slot_of(cell: &Cell) -> usize {
    let mut md5 = Md5::new();
    md5.update(cell.minute.to_be_bytes());
    md5.update([u8::from(cell.content.is_some())]);
    md5.update(cell.content.as_deref().unwrap_or_default());
    usize::try_from(first_eight(&md5.finalize()) % SLOTS as u64).unwrap_or(0)
}
