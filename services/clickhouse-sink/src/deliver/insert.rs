//! One run of planned rows on its way, and what its answer means for the batch.
//!
//! Invariant: after anything but a clean success the batch is in doubt.

use std::ops::Range;

use super::{Deliverer, Trouble, traced};
use crate::batch::Batch;
use crate::delivery::Delivery;
use crate::error::Reaction;
use crate::fence::Fence;
use crate::owner::Owner;
use crate::plan::Planned;
use crate::sql::Claim;
use crate::write::{Insert, Refused};

impl Deliverer {
    pub(super) async fn insert(
        &mut self,
        run: Range<usize>,
        batch: &Batch,
        delivery: &mut Delivery,
    ) -> Result<(), Trouble> {
        let Owner::Holds(fence, _) = self.owner else {
            delivery.doubted();
            return Ok(());
        };
        let rows = run.len();
        let Err(Refused { error, shared }) = self.send(delivery.rows(run), batch, fence).await
        else {
            delivery.inserted();
            for _ in 0..rows {
                let _ = self.budget(batch).note(false);
            }
            return Ok(());
        };
        let partition = self.partition;
        if shared && error.may_be_of_one() {
            self.sink.metrics.failed(error.kind());
            tracing::warn!(partition, rows, %error, "inserts of several partitions were refused, sending this one alone");
            self.alone = true;
            delivery.doubted();
            return Ok(());
        }
        if error.reaction() == Reaction::Halve {
            self.sink.metrics.failed(error.kind());
            tracing::warn!(partition, rows, %error, "a row was refused, halving");
            delivery.refused_for_a_row(error.to_string());
            return Ok(());
        }
        // the server may not have answered at all: see whether it is the table
        self.suspicious = true;
        delivery.doubted();
        Err(self.trouble(error))
    }

    async fn send(&self, rows: &[Planned], batch: &Batch, fence: Fence) -> Result<(), Refused> {
        let claim = Claim {
            partition: self.partition,
            fence,
            stored: self.stored,
        };
        let month = rows.first().map_or(0, |row| row.month);
        let mut insert = Insert::new(claim, month);
        insert.alone = self.alone;
        insert.parent = traced::traceparent();
        let bytes = rows.iter().map(|row| row.size(batch.entries())).sum();
        insert.reserve(rows.len(), bytes);
        for row in rows {
            insert.add_row(|data| row.write(batch.entries(), data));
        }
        self.sink.writer.insert(insert).await
    }
}
