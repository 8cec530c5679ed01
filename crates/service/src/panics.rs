//! A panic anywhere is a defect: it is logged with its place, and the process drains and exits 70.
//! Invariant: no part of a service stays dead while the rest pretends to work.

use std::panic::PanicHookInfo;

use crate::Lifecycle;
use crate::lifecycle::{is_caught, panic_text, panicked};

/// Installs the hook of this process.
pub(crate) fn install(life: Lifecycle) {
    std::panic::set_hook(Box::new(move |info| report(&life, info)));
}

fn report(life: &Lifecycle, info: &PanicHookInfo<'_>) {
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let backtrace = std::backtrace::Backtrace::capture();
    tracing::error!(panic = panic_text(info.payload()), place, thread, %backtrace, "panic");
    // A task of the lifecycle fails under its own name.
    if !is_caught() {
        life.fail(panicked(format!("thread {thread}"), info.payload()));
    }
}
