//! A consumer group of two members and one partition, with its committed offset.
//!
//! Invariant: one member owns the partition; only its commits are accepted.

use std::hash::{Hash, Hasher};

use stream::Committed;

/// The group.
#[derive(Clone, Debug)]
pub(crate) struct Group<M> {
    pub(crate) members: [M; 2],
    pub(crate) owner: usize,
    pub(crate) committed: Option<Committed>,
    /// What was committed before, for a rewind.
    pub(crate) history: Vec<Committed>,
}

impl<M> Group<M> {
    pub(crate) fn new(members: [M; 2]) -> Self {
        Self {
            members,
            owner: 0,
            committed: None,
            history: Vec::new(),
        }
    }

    pub(crate) fn commit(&mut self, offset: i64, metadata: String) {
        let commit = Committed { offset, metadata };
        if self.committed.as_ref() != Some(&commit) {
            self.history.extend(self.committed.replace(commit));
        }
    }

    /// `engagectl lineage adopt` writes where the group goes on: nothing before counts any more.
    pub(crate) fn adopted(&mut self, to: Committed) {
        self.committed = Some(to);
        self.history.clear();
    }

    /// An operator, or a broker that lost its newest state, sets the commit back to the oldest one there was.
    pub(crate) fn rewind(&mut self) {
        if let Some(oldest) = self.history.first() {
            self.committed = Some(oldest.clone());
        }
    }

    /// A tool sets the commit to this offset, as tools do: without metadata.
    pub(crate) fn reset(&mut self, offset: i64) {
        let metadata = String::new();
        self.committed = Some(Committed { offset, metadata });
    }
}

impl<M: Hash> Hash for Group<M> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.members, self.owner).hash(state);
        let commits = self.committed.iter().chain(self.history.first());
        for Committed { offset, metadata } in commits {
            (offset, metadata).hash(state);
        }
    }
}
