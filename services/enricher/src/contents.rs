//! The content table in memory: read from the start of the content topic, then followed, without a consumer group.
//!
//! Invariant: [`Contents::loaded`] turns true only after every partition was read up to the end it had at start (the
//! join barrier), and the catalog never falls back behind that.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use engagement::catalog::{Catalog, Content};
use tokio::sync::watch;

use crate::metrics;

/// The contents known to this process.
#[derive(Debug)]
pub struct Contents {
    catalog: RwLock<Catalog>,
    changes: watch::Sender<u64>,
    loaded: watch::Sender<bool>,
    fault: RwLock<Option<String>>,
}

impl Default for Contents {
    fn default() -> Self {
        let (changes, loaded) = (watch::Sender::new(0), watch::Sender::new(false));
        Self {
            catalog: RwLock::default(),
            changes,
            loaded,
            fault: RwLock::default(),
        }
    }
}

impl Contents {
    /// The catalog, for a short while: whoever follows the topic waits meanwhile.
    pub fn read(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Catalog> {
        self.catalog.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over what Postgres said about contents that were not known.
    pub fn resolve<'a>(&self, found: impl Iterator<Item = (&'a str, &'a Content)>) {
        let mut catalog = self.write();
        found.for_each(|(id, content)| catalog.resolve(id, content));
    }

    /// Turns true when the catalog has reached the end that the topic had at start.
    #[must_use]
    pub fn loaded(&self) -> watch::Receiver<bool> {
        self.loaded.subscribe()
    }

    /// Changes whenever contents arrive.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// So many records of the topic have arrived in all.
    pub(crate) fn arrived(&self, records: u64) {
        self.changes.send_replace(records);
        metrics::catalog_entries(self.read().len());
    }

    /// The join barrier is reached.
    pub(crate) fn set_loaded(&self) {
        metrics::catalog_entries(self.read().len());
        self.loaded.send_replace(true);
    }

    /// Whether the join barrier was reached.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        *self.loaded.borrow()
    }

    /// Whether the catalog is complete and followed.
    ///
    /// # Errors
    /// Why not.
    pub fn readiness(&self) -> Result<(), String> {
        if let Some(fault) = &*self.fault.read().unwrap_or_else(PoisonError::into_inner) {
            return Err(format!("the content topic is not followed: {fault}"));
        }
        match self.is_loaded() {
            true => Ok(()),
            false => Err(format!(
                "the catalog is loading, {} contents so far",
                self.read().len()
            )),
        }
    }

    pub(crate) fn is_followed(&self) -> bool {
        let fault = self.fault.read().unwrap_or_else(PoisonError::into_inner);
        fault.is_none()
    }

    pub(crate) fn set_fault(&self, fault: Option<String>) {
        let mut known = self.fault.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(cause) = &fault
            && known.is_none()
        {
            tracing::warn!(cause, "the content topic is not followed for now");
        }
        *known = fault;
    }
}
