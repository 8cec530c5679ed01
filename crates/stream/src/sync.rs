//! Locks whose data stays valid even if a holder panicked.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Every section guarded here is a handful of plain assignments, so a poisoned lock holds no half-made state.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
