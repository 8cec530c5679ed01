//! What the table holds: the questions of a lane that is in doubt.
//!
//! Invariant: an answer that is cut or odd is an error, never "nothing".

use std::collections::{HashMap, HashSet};

use engagement::event::Position;
use faults::Point;
use stream::checkpoint::Stored;

use crate::batch::{Batch, Span};
use crate::error::{Reaction, ServerError};
use crate::owner::{Reached, Since};
use crate::plan::{Held, Known};
use crate::row::{EventIdType, Key};
use crate::sql;
use crate::wire::Reader;
use crate::witness::{self, Standing};
use crate::write::{Writer, pass};

/// Bytes of ids asked for in one statement, some 25,000 UUIDs: well below [`sql::LARGEST`], so that any single id fits.
const ID_BYTES: usize = sql::LARGEST / 4;
/// Ranges, or partitions, asked for in one statement.
const QUERIES_AT_ONCE: usize = 64;

impl Writer {
    /// How far a source partition was written by what was committed at or after `since`, or by everything.
    ///
    /// # Errors
    /// The server does not answer cleanly.
    pub async fn reached(
        &self,
        partition: i32,
        since: Option<Since>,
    ) -> Result<Reached, ServerError> {
        let reached = &self.together.reached;
        let asked = reached.ask((partition, since), |all| self.reached_all(all));
        asked.await
    }

    async fn reached_all(
        &self,
        asked: Vec<(i32, Option<Since>)>,
    ) -> Result<Vec<Reached>, ServerError> {
        let lsn = |since: Option<Since>| since.map_or(0, |since| since.commit_lsn);
        let from = asked
            .iter()
            .map(|(partition, since)| (*partition, lsn(*since)));
        let from: Vec<(i32, u64)> = from.collect();
        let nothing = |(partition, since): (i32, Option<Since>)| {
            (
                partition,
                Reached {
                    since,
                    ..Reached::default()
                },
            )
        };
        let mut all: Vec<(i32, Reached)> = asked.into_iter().map(nothing).collect();
        for some in from.chunks(QUERIES_AT_ONCE) {
            let answer = self.http().ask(self.table().reached(some)).await?;
            let mut reader = Reader::new("the highest positions", &answer.body);
            while !reader.is_empty() {
                let (partition, lane, epoch) = (reader.i32()?, reader.text()?, reader.u8()?);
                let (offset, commit_lsn) = (reader.i64()?, reader.u64()?);
                let Ok(lane) = lane.parse() else { continue };
                for (_, reached) in all.iter_mut().filter(|(of, _)| *of == partition) {
                    reached.has(lane, epoch, offset, commit_lsn);
                }
            }
        }
        Ok(all.into_iter().map(|(_, reached)| reached).collect())
    }

    async fn held_all(&self, stored: Vec<Stored>) -> Result<Vec<bool>, ServerError> {
        let answer = self.http().ask(self.table().hold(&stored)).await?;
        let mut reader = Reader::new("the witnesses", &answer.body);
        let mut held = HashSet::new();
        while !reader.is_empty() {
            held.insert((reader.i64()?, reader.i32()?));
        }
        let is_held =
            |stored: &Stored| held.contains(&(stored.event_ts.0, stored.position.partition));
        Ok(stored.iter().map(is_held).collect())
    }

    /// What became of a witness.
    ///
    /// # Errors
    /// The server does not answer cleanly.
    pub async fn standing(&self, partition: i32, stored: &Stored) -> Result<Standing, ServerError> {
        let held = &self.together.held;
        let held = held.ask(*stored, |all| self.held_all(all));
        if held.await? {
            return Ok(Standing::Present);
        }
        let held = self.reached(partition, None).await?.highest;
        let highest = witness::highest(&held, partition);
        if witness::is_reached(highest, stored)
            || witness::was_dropped(self.oldest_month().await?, stored)
            || self.has_expired(stored).await?
        {
            return Ok(Standing::Passed);
        }
        Ok(Standing::Emptied(highest))
    }

    async fn oldest_month(&self) -> Result<Option<u32>, ServerError> {
        let answer = self.http().ask(self.table().oldest()).await?;
        let mut reader = Reader::new("the oldest month", &answer.body);
        let (rows, month) = (reader.u64()?, reader.i32()?);
        Ok(u32::try_from(month).ok().filter(|_| rows > 0))
    }

    /// A rule that cannot be asked about one `event_ts` alone may have deleted anything.
    async fn has_expired(&self, stored: &Stored) -> Result<bool, ServerError> {
        let answer = self.http().ask(self.table().engine()).await?;
        let engine = Reader::new("the engine", &answer.body).text()?;
        for ttl in witness::deleting_ttls(&engine) {
            match self
                .http()
                .ask(sql::has_expired(ttl, stored.event_ts))
                .await
            {
                Ok(answer) if Reader::new("the TTL", &answer.body).u8()? == 0 => {}
                Ok(_) => return Ok(true),
                Err(error) if error.reaction() == Reaction::Stop => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// What the table holds of a batch.
    ///
    /// # Errors
    /// The server does not answer cleanly.
    pub async fn read_back(&self, batch: &Batch) -> Result<Held, ServerError> {
        pass(Point::ClickhouseSinkReadBackBefore).await?;
        let positions = self.positions(batch).await?;
        let mut events = HashMap::new();
        let ids = batch.ids();
        let literals = ids.iter().map(|id| id_literal(id, self.id_type()));
        for ids in portions(literals, ID_BYTES) {
            let sql = self.table().events(&ids, self.id_type());
            let answer = self.http().ask(sql).await?;
            let mut reader = Reader::new("the events", &answer.body);
            while !reader.is_empty() {
                let (id, known) = known(&mut reader, self.id_type())?;
                events.entry(id).or_insert_with(Vec::new).push(known);
            }
        }
        pass(Point::ClickhouseSinkReadBackAfter).await?;
        Ok(Held { positions, events })
    }

    async fn positions(&self, batch: &Batch) -> Result<HashSet<(Position, u8)>, ServerError> {
        let spans = batch.spans();
        if spans.is_empty() {
            return Ok(HashSet::new());
        }
        let positions = &self.together.positions;
        let found = positions.ask(spans, |all| self.positions_of(all));
        Ok(found.await?.into_iter().collect())
    }

    async fn positions_of(
        &self,
        batches: Vec<Vec<Span>>,
    ) -> Result<Vec<Vec<(Position, u8)>>, ServerError> {
        let spans = || batches.iter().enumerate();
        let all: Vec<(usize, Span)> = spans()
            .flat_map(|(batch, spans)| spans.iter().map(move |span| (batch, *span)))
            .collect();
        let mut found = vec![Vec::new(); batches.len()];
        for some in all.chunks(QUERIES_AT_ONCE) {
            let spans: Vec<Span> = some.iter().map(|(_, span)| *span).collect();
            let answer = self.http().ask(self.table().read_back(&spans)).await?;
            let mut reader = Reader::new("the read-back", &answer.body);
            while !reader.is_empty() {
                let (at, offset, src_row) = (reader.u64()?, reader.i64()?, reader.u8()?);
                let range = usize::try_from(at).ok().and_then(|at| some.get(at));
                let (batch, span) = range.ok_or_else(|| ServerError::Answer {
                    query: "the read-back",
                    what: format!("range {at} of {}", some.len()),
                })?;
                found[*batch].push((span.at(offset), src_row));
            }
        }
        Ok(found)
    }
}

/// A row of [`Table::events`]: the encoded id and what is known of one sort key.
fn known(reader: &mut Reader<'_>, id_type: EventIdType) -> Result<(Box<[u8]>, Known), ServerError> {
    let start = reader.rest();
    match id_type {
        EventIdType::Int64 => drop(reader.i64()?),
        EventIdType::Uuid => drop((reader.u64()?, reader.u64()?)),
        EventIdType::String => drop(reader.bytes()?),
    }
    let id: Box<[u8]> = reader.since(start).into();
    reader.skip_nullable_text()?;
    reader.i64()?;
    let key: Box<[u8]> = reader.since(start).into();
    let source = reader.rest();
    reader.skip_nullable_text()?;
    reader.bytes()?;
    reader.skip_nullable_text()?;
    reader.skip_nullable_i64()?;
    let source = reader.since(source).into();
    let month = u32::try_from(reader.i32()?).unwrap_or(0);
    let (revision, deleted, missing) = (reader.u64()?, reader.u8()? == 1, reader.u8()? == 1);
    Ok((
        id,
        Known {
            key: Key { bytes: key, month },
            revision,
            deleted,
            missing,
            source,
        },
    ))
}

/// Literals that go into one statement each: no more than so many bytes of them, quoted once more, but at least one.
fn portions(literals: impl Iterator<Item = String>, most: usize) -> Vec<Vec<String>> {
    let (mut portions, mut left): (Vec<Vec<String>>, usize) = (Vec::new(), 0);
    for id in literals {
        let bytes = sql::literal(&id).len();
        match portions.last_mut() {
            Some(portion) if bytes <= left => {
                left -= bytes;
                portion.push(id);
            }
            _ => {
                left = most.saturating_sub(bytes);
                portions.push(vec![id]);
            }
        }
    }
    portions
}

/// An encoded event id as SQL.
fn id_literal(id: &[u8], id_type: EventIdType) -> String {
    let mut reader = Reader::new("an event id", id);
    let text = match id_type {
        EventIdType::Int64 => reader.i64().map(|id| id.to_string()),
        EventIdType::Uuid => {
            let words = reader.u64().and_then(|high| Ok((high, reader.u64()?)));
            words.map(|(high, low)| sql::literal(&uuid::Uuid::from_u64_pair(high, low).to_string()))
        }
        EventIdType::String => reader.text().map(|id| sql::literal(&id)),
    };
    text.expect("an id that this crate encoded")
}

#[cfg(test)]
mod tests {
    use engagement::testing::Sample;

    use super::*;
    use crate::row::Row;

    #[test]
    fn ids_become_literals_of_their_type() {
        let uuid = "00112233-4455-6677-8899-aabbccddeeff";
        for (id, id_type, expected) in [
            ("-7", EventIdType::Int64, "-7".to_owned()),
            (uuid, EventIdType::Uuid, format!("'{uuid}'")),
            ("a'b", EventIdType::String, "'a\\'b'".to_owned()),
        ] {
            let row = Row::of(&Sample::new().event_id(id).build(), id_type).unwrap();
            assert_eq!(id_literal(row.id(), id_type), expected);
        }
    }

    #[test]
    fn ids_are_asked_for_in_statements_of_bounded_size() {
        let sizes = |ids: &[&str], most| -> Vec<usize> {
            let portions = portions(ids.iter().map(ToString::to_string), most);
            portions.iter().map(Vec::len).collect()
        };
        assert_eq!(sizes(&[], 9), [0; 0]);
        assert_eq!(
            sizes(&["1", "2", "3", "4"], 9),
            [3, 1],
            "each is three bytes"
        );
        assert_eq!(
            sizes(&["'1'", "2", "much larger than all", "3"], 9),
            [1, 1, 1, 1]
        );
    }

    #[test]
    fn a_row_of_the_table_reads_back_as_key_and_source_of_the_row_sent() {
        let row = Row::of(&Sample::new().build(), EventIdType::Int64).unwrap();
        let mut answer = [row.key(), row.source()].concat();
        answer.extend_from_slice(&202_601_u32.to_le_bytes());
        answer.extend_from_slice(&9_u64.to_le_bytes());
        answer.extend_from_slice(&[1, 0]);
        let mut reader = Reader::new("test", &answer);
        let (id, known) = known(&mut reader, EventIdType::Int64).unwrap();
        assert!(reader.is_empty());
        assert_eq!(
            (&*id, &*known.key.bytes, &*known.source),
            (row.id(), row.key(), row.source())
        );
        assert_eq!(
            (
                known.key.month,
                known.revision,
                known.deleted,
                known.missing
            ),
            (202_601, 9, true, false)
        );
    }
}
