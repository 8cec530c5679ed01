//! The rules that can be switched off, one at a time, to see the model find what they prevent.
//!
//! Invariant: with no rule broken the model does what the services do.

/// A rule of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The enricher resumes from the tail of its output; broken: from the committed offset.
    ResumeFromTail,
    /// The change record at the resume point must be the event of the tail; broken: nothing is compared.
    ResumeProof,
    /// The set of changes at the mark is rebuilt on resume; broken: it starts empty.
    EqualSet,
    /// A producer's first record is acknowledged alone; broken: more follow at once.
    FirstAlone,
    /// A dead letter of the enricher is acknowledged before the record is passed; broken: some time after.
    LetterFirst,
    /// Readers drop what is at or below their position; broken: they apply everything.
    LineageCheck,
    /// Positions are compared by epoch, then by offset; broken: readers compare the offset only.
    Epoch,
    /// Where only the enriched topic was made again, the enricher is adopted into the same epoch; broken: into a new one.
    SamePositions,
    /// The mark outlives a change topic that is made again; broken: a new epoch has none.
    KeptMark,
    /// Readers stop at a hole; broken: they go on.
    HoleCheck,
    /// A reader proves that the record before its commit is the one it read; broken: it trusts the offset.
    ReaderProof,
    /// The offset moves after the effect; broken: before it.
    EffectFirst,
    /// In doubt ClickHouse is asked what it holds; broken: the batch is sent again.
    ReadBack,
    /// In doubt running inserts are killed before the table is read back; broken: it is only read.
    KillFirst,
    /// An insert writes only under the highest fence, which whoever is in doubt takes first; broken: it always writes.
    Fence,
    /// The sink's dead letter is acknowledged before the offset passes it; broken: some time after.
    SinkLetterFirst,
    /// The script compares the stored position before it adds; broken: it adds.
    CompareAndSet,
    /// The forwarder commits the contiguous frontier; broken: the highest offset that is done.
    Frontier,
}
