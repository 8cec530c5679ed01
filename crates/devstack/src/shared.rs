//! One stack for all tests of a test binary.
//!
//! Invariant: it belongs to no test's runtime, so it stays usable when the test that asked first has ended. The watchdog
//! ends it with the test process.

use std::{
    sync::{Mutex, OnceLock, PoisonError},
    thread,
};

use crate::{Needs, Stack, StackError, builder::DEADLINE, site::Site};

/// Whatever was asked for and could not be started, so that each further test fails at once and with the reason.
static FAILED: Mutex<Option<String>> = Mutex::new(None);

/// The stack of this test process, with at least these servers. The first call starts them (seconds), later calls start
/// what is missing. Tests share the servers: use topic, table and key names of your own.
///
/// Stopping or killing a shared server disturbs the other tests: such a test starts a stack of its own with
/// [`Stack::builder`]. Run tests with `cargo test` (a process per test would start a stack per test).
///
/// # Panics
/// When a server cannot be started; the text says why.
#[must_use]
#[expect(
    clippy::panic,
    reason = "called by tests only, which have no better use for the error"
)]
pub fn shared_for_tests(needs: Needs) -> &'static Stack {
    static STACK: OnceLock<Result<Stack, StackError>> = OnceLock::new();
    let stack = match STACK.get_or_init(|| Site::private(DEADLINE).map(Stack::new)) {
        Ok(stack) => stack,
        Err(error) => panic!("{error}"),
    };
    if let Err(error) = on_own_runtime(stack, needs) {
        panic!("{error}");
    }
    stack
}

/// A runtime cannot be entered from within another, and a test's own one ends with that test.
fn on_own_runtime(stack: &Stack, needs: Needs) -> Result<(), String> {
    let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = failed.as_ref() {
        return Err(error.clone());
    }
    let result = thread::scope(|scope| scope.spawn(|| start(stack, needs)).join())
        .unwrap_or_else(|_| Err("the thread that starts the servers panicked".to_owned()));
    *failed = result.clone().err();
    result
}

fn start(stack: &Stack, needs: Needs) -> Result<(), String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?
        .block_on(stack.ensure(needs))
        .map_err(|e| e.to_string())
}
