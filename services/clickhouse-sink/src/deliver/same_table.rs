//! Is the table still the one that this lane has written into? Asked when the lane starts, and in every doubt.
//!
//! A running lane meets the doubt by itself: each insert writes its rows only while the table holds the witness, so nothing
//! is added to a table that was emptied. Invariant: a witness that was given up is never taken for a proof again.

use stream::LaneError;
use stream::checkpoint::Stored;

use super::{Deliverer, Trouble};
use crate::error::ServerError;
use crate::witness::{Emptied, REMEDY, Standing};

impl Deliverer {
    /// A row that the table holds; to be committed with the offset.
    #[must_use]
    pub fn stored(&self) -> Option<Stored> {
        self.stored
    }

    /// What became of the row that is remembered; present, where none is.
    pub(super) async fn standing(&self) -> Result<Standing, ServerError> {
        match &self.stored {
            None => Ok(Standing::Present),
            Some(stored) => self.sink.writer.standing(self.partition, stored).await,
        }
    }

    /// What that means for the lane.
    pub(super) fn is_same_table(&mut self, standing: Standing) -> Result<(), Trouble> {
        let (partition, Some(stored)) = (self.partition, self.stored) else {
            return Ok(());
        };
        match standing {
            Standing::Present => Ok(()),
            Standing::Passed => {
                tracing::info!(partition, position = %stored.position, "the row remembered of this table has passed");
                self.stored = None;
                Ok(())
            }
            Standing::Emptied(highest) => {
                service::metrics::lineage_violation();
                self.sink.metrics.failed("emptied");
                let table = self.sink.writer.table();
                let emptied = Emptied {
                    table: format!("{}.{}", table.database, table.name),
                    partition,
                    stored,
                    highest,
                };
                Err(Trouble::End(LaneError::stop(emptied.to_string(), REMEDY)))
            }
        }
    }
}
