//! Which rows a batch still has to write, given what the table already holds.
//!
//! A streamed record writes the rows of its position that the table lacks. A record that is applied by event id
//! (a snapshot, a backfill, a redriven dead letter: these repeat with new positions) writes what brings the event's
//! sort keys to its revision. Invariant: planning again after any part of a plan was carried out gives the rest of it.

use std::collections::{HashMap, HashSet};

use engagement::event::{EnrichedEvent, EnrichmentStatus, Lane, Micros, Position};

use crate::row::{EventIdType, ITSELF, Key, REPLACED, Row, RowError};

/// One record of the enriched topic, ready to be written.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Offset in the Kafka partition.
    pub offset: i64,
    /// Position of the record it was made from.
    pub position: Position,
    /// When its transaction was committed.
    pub committed_at: Micros,
    /// When it happened; retention goes by it.
    pub event_ts: Micros,
    /// Whether its row is a deletion.
    pub deleted: bool,
    /// The event, encoded.
    pub row: Row,
    /// The sort key it replaces, where that is another one.
    pub replaces: Option<Key>,
    /// Applied by event id and revision instead of by position.
    pub by_id: bool,
    /// First half of the mark: where the transaction before was committed. Of a backfill, where the log was when its row had
    /// been read.
    pub commit_lsn: u64,
    revision: u64,
    missing: bool,
}

impl Entry {
    /// Encodes an event.
    ///
    /// # Errors
    /// [`RowError`]: the table has no place for one of its values.
    pub fn of(event: &EnrichedEvent, offset: i64, id_type: EventIdType) -> Result<Self, RowError> {
        let row = Row::of(event, id_type)?;
        // A previous key that the table cannot hold is not in it.
        let before = event.previous.as_ref();
        let before = before
            .and_then(|p| Key::of(&p.event_id, p.content_id.as_deref(), p.event_ts, id_type).ok());
        Ok(Self {
            offset,
            position: event.source.position(),
            committed_at: event.source.committed_at,
            event_ts: event.event_ts,
            replaces: before.filter(|key| *key.bytes != *row.key()),
            row,
            by_id: event.is_historical() || event.source.lane != Lane::Live,
            commit_lsn: event.source.commit_lsn,
            revision: event.revision,
            deleted: event.deleted,
            missing: event.enrichment_status == EnrichmentStatus::Missing,
        })
    }

    /// `event_ts` of each row that it may write by position.
    pub fn times(&self) -> impl Iterator<Item = Micros> {
        let replaced = self.replaces.as_ref().map(Key::event_ts);
        [self.event_ts].into_iter().chain(replaced)
    }

    /// Revision, whether it is a deletion, whether its content is unknown.
    #[cfg(test)]
    pub(crate) fn state(&self) -> (u64, bool, bool) {
        (self.revision, self.deleted, self.missing)
    }

    /// Bytes it occupies in memory, about: a list that has grown is half empty, and each entry is planned.
    #[must_use]
    pub fn weight(&self) -> usize {
        2 * size_of::<Self>()
            + size_of::<Planned>()
            + self.row.bytes().len()
            + self.replaces.as_ref().map_or(0, |key| key.bytes.len())
    }
}

/// What the table holds of one sort key: its row with the highest revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The sort key.
    pub key: Key,
    /// The highest revision.
    pub revision: u64,
    /// Whether that revision is a deletion.
    pub deleted: bool,
    /// Whether its content was unknown.
    pub missing: bool,
    /// Its [`Row::source`].
    pub source: Box<[u8]>,
}

/// What the table holds of a batch.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Rows by position and `src_row`.
    pub positions: HashSet<(Position, u8)>,
    /// Sort keys by encoded event id; looked up for the entries that are applied by id.
    pub events: HashMap<Box<[u8]>, Vec<Known>>,
}

/// One row to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Index of its entry.
    pub entry: usize,
    /// [`ITSELF`], or the number of a deletion.
    pub src_row: u8,
    /// The table partition it falls into.
    pub month: u32,
    /// The sort key it deletes; `None` for the event itself.
    pub deletes: Option<Key>,
}

impl Planned {
    fn itself(entry: usize, row: &Row) -> Self {
        Self {
            entry,
            src_row: ITSELF,
            month: row.month(),
            deletes: None,
        }
    }

    fn deletion(entry: usize, src_row: u8, key: &Key) -> Self {
        Self {
            entry,
            src_row,
            month: key.month,
            deletes: Some(key.clone()),
        }
    }

    /// bytes of its RowBinary, at most.
    #[must_use]
    pub fn size(&self, entries: &[Entry]) -> usize {
        let key = self.deletes.as_ref().map_or(0, |key| key.bytes.len());
        entries[self.entry].row.bytes().len() + key
    }

    /// Appends its RowBinary.
    pub fn write(&self, entries: &[Entry], out: &mut Vec<u8>) {
        let row = &entries[self.entry].row;
        match &self.deletes {
            None => out.extend_from_slice(row.bytes()),
            Some(key) => row.write_deletion(key, self.src_row, out),
        }
    }
}

/// The rows that are still to be written, in the order of the entries; those in `skip` are passed over.
#[must_use]
pub fn plan(entries: &[Entry], held: Held, skip: &HashSet<usize>) -> Vec<Planned> {
    let Held {
        positions,
        mut events,
    } = held;
    // Also where the table holds nothing of an event, what this batch writes of it must be remembered.
    for entry in entries.iter().filter(|entry| entry.by_id) {
        events.entry(entry.row.id().into()).or_default();
    }
    let mut planned = Vec::with_capacity(entries.len());
    for (index, entry) in entries
        .iter()
        .enumerate()
        .filter(|(index, _)| !skip.contains(index))
    {
        let from = planned.len();
        if entry.by_id {
            let known = events.get(entry.row.id()).map_or(&[][..], Vec::as_slice);
            by_revision(index, entry, known, &mut planned);
        } else {
            by_position(index, entry, &positions, &mut planned);
        }
        if let Some(known) = events.get_mut(entry.row.id()) {
            planned[from..]
                .iter()
                .for_each(|row| remember(known, entry, row));
        }
    }
    planned
}

fn by_position(
    index: usize,
    entry: &Entry,
    held: &HashSet<(Position, u8)>,
    out: &mut Vec<Planned>,
) {
    if let Some(key) = &entry.replaces
        && !held.contains(&(entry.position, REPLACED))
    {
        out.push(Planned::deletion(index, REPLACED, key));
    }
    if !held.contains(&(entry.position, ITSELF)) {
        out.push(Planned::itself(index, &entry.row));
    }
}

/// At its revision the event stood under this entry's sort key only: deletes what its other sort keys hold of older
/// revisions, and writes the row, unless the table is newer or says the same already.
fn by_revision(index: usize, entry: &Entry, known: &[Known], out: &mut Vec<Planned>) {
    let is_own = |known: &&Known| *known.key.bytes == *entry.row.key();
    let (own, others): (Vec<&Known>, Vec<&Known>) = known.iter().partition(is_own);
    let stale = others
        .iter()
        .filter(|other| !other.deleted && other.revision < entry.revision);
    // Numbers from 2 on keep clear of the row itself; nobody has that many sort keys.
    for (number, other) in [REPLACED].into_iter().chain(2..).zip(stale) {
        out.push(Planned::deletion(index, number, &other.key));
    }
    let newer = !entry.deleted && others.iter().any(|other| other.revision > entry.revision);
    let known = own
        .first()
        .is_some_and(|own| own.revision >= entry.revision || says_the_same(own, entry));
    if !newer && !known {
        out.push(Planned::itself(index, &entry.row));
    }
}

/// A snapshot of an unchanged row has a newer revision, yet nothing new to say; one that found its content has.
fn says_the_same(own: &Known, entry: &Entry) -> bool {
    let same_row =
        own.deleted || (*own.source == *entry.row.source() && (entry.missing || !own.missing));
    own.deleted == entry.deleted && same_row
}

/// Later entries of the batch must see what earlier ones are about to write.
fn remember(known: &mut Vec<Known>, entry: &Entry, row: &Planned) {
    let key = row.deletes.clone().unwrap_or_else(|| Key {
        bytes: entry.row.key().into(),
        month: entry.row.month(),
    });
    let now = Known {
        deleted: entry.deleted || row.deletes.is_some(),
        revision: entry.revision,
        missing: entry.missing,
        source: entry.row.source().into(),
        key,
    };
    match known.iter_mut().find(|known| known.key == now.key) {
        Some(before) if before.revision <= now.revision => *before = now,
        Some(_) => {}
        None => known.push(now),
    }
}

#[cfg(test)]
mod tests {
    use engagement::event::Origin;
    use engagement::testing::{EVENT_TS, Sample};

    use super::*;

    const MONTH: i64 = 31 * 86_400_000_000;

    fn entry(event: &EnrichedEvent) -> Entry {
        Entry::of(event, event.source.offset, EventIdType::Int64).unwrap()
    }

    fn known(event: &EnrichedEvent) -> Known {
        let entry = entry(event);
        Known {
            key: Key {
                bytes: entry.row.key().into(),
                month: entry.row.month(),
            },
            revision: entry.revision,
            deleted: entry.deleted,
            missing: entry.missing,
            source: entry.row.source().into(),
        }
    }

    fn held_events(events: &[&EnrichedEvent]) -> Held {
        let mut held = Held::default();
        for event in events {
            held.events
                .entry(entry(event).row.id().into())
                .or_default()
                .push(known(event));
        }
        held
    }

    /// (entry, `src_row`, month) of each planned row.
    fn brief(entries: &[Entry], held: Held) -> Vec<(usize, u8, u32)> {
        plan(entries, held, &HashSet::new())
            .iter()
            .map(|row| (row.entry, row.src_row, row.month))
            .collect()
    }

    fn snapshot(offset: i64) -> Sample {
        Sample::new()
            .at_position(0, offset)
            .origin(Origin::Snapshot)
    }

    #[test]
    fn a_change_of_the_sort_key_writes_the_deletion_and_the_row() {
        let before = Sample::new().at_position(0, 1).build();
        let after = Sample::new()
            .at_position(0, 2)
            .event_ts(Micros(EVENT_TS.0 + MONTH))
            .replacing(&before)
            .build();
        assert_eq!(
            brief(&[entry(&after)], Held::default()),
            [(0, 0, 202_601), (0, 1, 202_602)]
        );
        let same_key = Sample::new()
            .at_position(0, 2)
            .duration_ms(1)
            .replacing(&before)
            .build();
        assert_eq!(
            brief(&[entry(&same_key)], Held::default()),
            [(0, 1, 202_601)]
        );
    }

    #[test]
    fn a_streamed_record_writes_only_the_rows_of_its_position_that_are_missing() {
        let before = Sample::new().at_position(0, 1).build();
        let after = Sample::new()
            .at_position(0, 2)
            .content_id("other")
            .replacing(&before)
            .build();
        let entries = [entry(&before), entry(&after)];
        let mut held = Held::default();
        held.positions.insert((before.source.position(), ITSELF));
        held.positions.insert((after.source.position(), ITSELF));
        assert_eq!(brief(&entries, held), [(1, 0, 202_601)]);
    }

    #[test]
    fn a_deletion_writes_one_row_under_its_own_key_also_when_the_event_moved_away() {
        let gone = Sample::new().at_position(0, 2).deleted().moved().build();
        assert_eq!(brief(&[entry(&gone)], Held::default()), [(0, 1, 202_601)]);
    }

    #[test]
    fn a_snapshot_writes_only_events_that_the_table_lacks() {
        let streamed = Sample::new().at_position(0, 5).build();
        let (repeated, new) = (snapshot(10).build(), snapshot(11).event_id(2).build());
        let entries = [entry(&repeated), entry(&new)];
        assert_eq!(
            brief(&entries, held_events(&[&streamed])),
            [(1, 1, 202_601)]
        );
    }

    #[test]
    fn a_snapshot_repairs_a_stale_row_and_deletes_its_old_sort_key() {
        let stale = Sample::new().at_position(0, 5).build();
        let same_key = snapshot(10).duration_ms(1).build();
        assert_eq!(
            brief(&[entry(&same_key)], held_events(&[&stale])),
            [(0, 1, 202_601)]
        );
        let other_key = snapshot(10).event_ts(Micros(EVENT_TS.0 + MONTH)).build();
        assert_eq!(
            brief(&[entry(&other_key)], held_events(&[&stale])),
            [(0, 0, 202_601), (0, 1, 202_602)]
        );
    }

    #[test]
    fn a_snapshot_never_goes_over_a_newer_revision() {
        let newer = Sample::new().at_position(0, 50).duration_ms(1).build();
        assert_eq!(
            brief(&[entry(&snapshot(10).build())], held_events(&[&newer])),
            []
        );
        let moved_on = Sample::new().at_position(0, 50).content_id("other").build();
        assert_eq!(
            brief(&[entry(&snapshot(10).build())], held_events(&[&moved_on])),
            []
        );
    }

    #[test]
    fn an_event_inserted_again_after_its_deletion_comes_back() {
        let gone = Sample::new().at_position(0, 5).deleted().build();
        assert_eq!(
            brief(&[entry(&snapshot(10).build())], held_events(&[&gone])),
            [(0, 1, 202_601)]
        );
    }

    #[test]
    fn a_record_that_has_found_its_content_replaces_one_that_had_not() {
        let missing = Sample::new().at_position(0, 5).missing().build();
        assert_eq!(
            brief(&[entry(&snapshot(10).build())], held_events(&[&missing])),
            [(0, 1, 202_601)]
        );
        let found = Sample::new().at_position(0, 5).build();
        assert_eq!(
            brief(
                &[entry(&snapshot(10).missing().build())],
                held_events(&[&found])
            ),
            []
        );
    }

    #[test]
    fn two_snapshots_of_one_event_in_one_batch_write_it_once() {
        let entries = [entry(&snapshot(10).build()), entry(&snapshot(11).build())];
        assert_eq!(brief(&entries, Held::default()), [(0, 1, 202_601)]);
    }

    #[test]
    fn a_snapshot_sees_the_streamed_change_before_it_in_the_batch() {
        let streamed = Sample::new().at_position(0, 9).build();
        let entries = [entry(&streamed), entry(&snapshot(10).build())];
        assert_eq!(brief(&entries, Held::default()), [(0, 1, 202_601)]);
    }

    #[test]
    fn a_redriven_record_is_applied_by_revision() {
        let redriven = Sample::new().at_position(0, 3).lane(Lane::Redrive).build();
        assert!(entry(&redriven).by_id);
        let newer = Sample::new().at_position(0, 50).build();
        assert_eq!(brief(&[entry(&redriven)], held_events(&[&newer])), []);
        assert_eq!(
            brief(&[entry(&redriven)], Held::default()),
            [(0, 1, 202_601)]
        );
    }

    #[test]
    fn a_backfill_writes_what_is_missing_and_a_live_change_that_comes_again_writes_nothing_beside_it()
     {
        let backfill = |offset| Sample::new().at_position(0, offset).lane(Lane::Backfill);
        let brought = backfill(10).origin(Origin::Backfill).build();
        assert_eq!(
            brief(&[entry(&brought)], Held::default()),
            [(0, 1, 202_601)]
        );
        let mut again = entry(&Sample::new().at_position(0, 5).build());
        assert_eq!(
            brief(&[again.clone()], held_events(&[&brought])),
            [(0, 1, 202_601)],
            "its position is not in the table"
        );
        again.by_id = true;
        assert_eq!(brief(&[again], held_events(&[&brought])), []);
    }

    #[test]
    fn a_backfill_does_not_bring_back_what_was_deleted_or_changed_after_it_was_read() {
        let read = Sample::new().at_position(0, 10).lane(Lane::Backfill);
        let read = entry(&read.origin(Origin::Backfill).build());
        let gone = Sample::new().at_position(0, 11).deleted().build();
        assert_eq!(
            brief(std::slice::from_ref(&read), held_events(&[&gone])),
            []
        );
        let changed = Sample::new().at_position(0, 11).duration_ms(1).build();
        assert_eq!(brief(&[read], held_events(&[&changed])), []);
    }

    #[test]
    fn planning_again_after_half_of_a_repair_gives_the_other_half() {
        let stale = Sample::new().at_position(0, 5).build();
        let repair = snapshot(10).event_ts(Micros(EVENT_TS.0 + MONTH)).build();
        let mut half_gone = known(&stale);
        (half_gone.deleted, half_gone.revision) = (true, repair.revision);
        let mut held = Held::default();
        held.events
            .insert(entry(&repair).row.id().into(), vec![half_gone]);
        assert_eq!(brief(&[entry(&repair)], held), [(0, 1, 202_602)]);
        assert_eq!(
            brief(&[entry(&repair)], held_events(&[&stale, &repair])),
            [(0, 0, 202_601)]
        );
    }
}
