//! What all tests of a test binary share: one stack, and whatever runs on it.
//!
//! Invariant: it belongs to no test's runtime, so it stays usable when the test that asked first has ended. The watchdog
//! ends it with the test process.

use std::{
    path::{Path, PathBuf},
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

/// A value that all tests of a test binary share, such as a pipeline on servers of its own: made when first asked for, on a
/// runtime that outlives the test which asked.
#[derive(Debug)]
pub struct Shared<T>(OnceLock<Option<T>>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Shared<T> {
    /// Nothing is made yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }
}

impl<T: Send + Sync> Shared<T> {
    /// The value.
    ///
    /// # Panics
    /// Where it could not be made: then for every test, without trying again.
    #[expect(
        clippy::panic,
        reason = "called by tests only, which have no better use for the error"
    )]
    pub async fn get<F: Future<Output = T>>(
        &'static self,
        make: impl FnOnce() -> F + Send + 'static,
    ) -> &'static T {
        let made = tokio::task::spawn_blocking(|| self.0.get_or_init(|| on_runtime_to_keep(make)));
        match made.await {
            Ok(Some(value)) => value,
            _ => {
                panic!(
                    "what the tests share could not be made; the first panic of this run says why"
                )
            }
        }
    }
}

/// What the value has begun goes on until the process ends. `None`: making it panicked.
fn on_runtime_to_keep<T: Send, F: Future<Output = T>>(
    make: impl FnOnce() -> F + Send,
) -> Option<T> {
    let make = || {
        let runtime = tokio::runtime::Runtime::new().ok()?;
        let value = runtime.block_on(make());
        std::mem::forget(runtime);
        Some(value)
    };
    thread::scope(|scope| scope.spawn(make).join().ok().flatten())
}

/// A program of this build: it lies one directory above the running test's.
///
/// # Panics
/// When it is not built.
#[must_use]
#[expect(
    clippy::panic,
    reason = "called by tests only, which have no better use for the error"
)]
pub fn program_beside_test(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    let directory = test.parent().and_then(Path::parent);
    let program = directory.unwrap_or(Path::new(".")).join(name);
    if !program.exists() {
        let program = program.display();
        panic!("{program} is not built: cargo build --workspace --bins --features faults");
    }
    program
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    struct Background(tokio::task::JoinHandle<()>);

    impl Background {
        async fn begin() -> Self {
            tokio::task::yield_now().await;
            Self(tokio::spawn(std::future::pending()))
        }
    }

    #[test]
    fn a_shared_value_is_made_once_and_outlives_the_runtime_of_who_asked_first() {
        static SHARED: Shared<Background> = Shared::new();
        let ask = || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(SHARED.get(Background::begin))
        };
        let first = ask();
        assert!(std::ptr::eq(first, ask()));
        assert!(!first.0.is_finished(), "its task still runs");
    }

    #[test]
    fn what_could_not_be_made_is_not_tried_again() {
        static SHARED: Shared<()> = Shared::new();
        static TRIED: AtomicUsize = AtomicUsize::new(0);
        for _ in 0..2 {
            let ask = || {
                let runtime = tokio::runtime::Runtime::new().unwrap();
                runtime.block_on(SHARED.get(|| async {
                    TRIED.fetch_add(1, Ordering::SeqCst);
                    panic!("no server");
                }));
            };
            assert!(thread::spawn(ask).join().is_err());
        }
        assert_eq!(TRIED.load(Ordering::SeqCst), 1);
    }
}
