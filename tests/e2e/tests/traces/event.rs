//! An event as ClickHouse holds it, and the trace that must follow from that.

use e2e::World;
use engagement::event::{Lane, Micros, Position};

/// Where and when an event was committed.
#[derive(Debug)]
pub(crate) struct Committed {
    pub(crate) id: String,
    pub(crate) position: Position,
    pub(crate) at: Micros,
}

impl Committed {
    /// Waits until ClickHouse has it.
    pub(crate) async fn read(world: &World, id: &str) -> Self {
        let row = world.clickhouse_row(id).await;
        let at = row["src_committed_at"].replace(' ', "T") + "Z";
        Self {
            id: id.to_owned(),
            position: Position {
                lane: Lane::Live,
                epoch: row["src_epoch"].parse().unwrap(),
                partition: row["src_partition"].parse().unwrap(),
                offset: row["src_offset"].parse().unwrap(),
            },
            at: at.parse().unwrap(),
        }
    }

    /// The id of its trace, whoever begins it.
    pub(crate) fn trace_id(&self) -> String {
        stream::trace::trace_id(self.position, self.at).to_string()
    }

    /// Whether a share of all ids holds its trace's: the low 63 bits of an id are evenly spread.
    pub(crate) fn is_chosen(&self, share: f64) -> bool {
        let low = u64::from_str_radix(&self.trace_id()[16..], 16).unwrap() >> 1;
        let millionths = (share * 1e6).round() as u128;
        u128::from(low) * 1_000_000 < millionths << 63
    }
}
