//! Named places in the services and the tool where a test makes the process die, stall or fail.
//!
//! `ENGAGE_FAULTS="<point>=<action>[@n][,..]"` arms them: `kill` (SIGKILL to itself), `stop` (SIGSTOP to itself; somebody
//! else sends SIGCONT), `pause:<duration>` (only the task that arrives), `fail` (the step answers its usual error); at
//! the n-th arrival (the first unless given), once.
//!
//! Invariant: without the feature `inject` (release builds) every call compiles to nothing.

mod parse;
mod point;
mod rule;

#[cfg(feature = "inject")]
mod inject;

pub use parse::{Action, Armed, Error, parse};
pub use point::Point;
pub use rule::Rule;

/// The variable that arms the points.
#[cfg(feature = "inject")]
pub const VARIABLE: &str = "ENGAGE_FAULTS";

/// The variable that breaks one [`Rule`], by name.
#[cfg(feature = "inject")]
pub const BROKEN_RULE: &str = "ENGAGE_BROKEN_RULE";

/// The variables that are read here; a build without the points knows none of them.
#[cfg(feature = "inject")]
pub const VARIABLES: &[&str] = &[VARIABLE, BROKEN_RULE];

/// None: a variable that would arm something has no effect and is reported as unknown.
#[cfg(not(feature = "inject"))]
pub const VARIABLES: &[&str] = &[];

/// Arms what the environment says. Called once, before anything can arrive at a point.
///
/// # Errors
/// A point, an action or a rule that does not exist.
#[cfg(feature = "inject")]
pub fn arm() -> Result<(), Error> {
    inject::break_rule(&std::env::var(BROKEN_RULE).unwrap_or_default())?;
    inject::arm(&std::env::var(VARIABLE).unwrap_or_default())
}

/// Whether the service shall act against this rule.
#[cfg(feature = "inject")]
#[must_use]
pub fn is_broken(rule: Rule) -> bool {
    inject::is_broken(rule)
}

/// Never.
#[cfg(not(feature = "inject"))]
#[inline(always)]
#[must_use]
pub const fn is_broken(_: Rule) -> bool {
    false
}

/// Nothing to arm.
///
/// # Errors
/// Never.
#[cfg(not(feature = "inject"))]
#[inline(always)]
pub const fn arm() -> Result<(), Error> {
    Ok(())
}

/// Execution is here. Dies, freezes or waits if that was asked for.
#[cfg(feature = "inject")]
pub async fn reach(point: Point) {
    if let Some(pause) = inject::arrive(point) {
        tokio::time::sleep(pause).await;
    }
}

/// Nothing happens.
#[cfg(not(feature = "inject"))]
#[inline(always)]
pub fn reach(_: Point) -> std::future::Ready<()> {
    std::future::ready(())
}

/// As [`reach`], on a thread that may block.
#[cfg(feature = "inject")]
pub fn reach_blocking(point: Point) {
    if let Some(pause) = inject::arrive(point) {
        std::thread::sleep(pause);
    }
}

/// Nothing happens.
#[cfg(not(feature = "inject"))]
#[inline(always)]
pub const fn reach_blocking(_: Point) {}

/// Whether the step that begins here shall answer its usual error.
#[cfg(feature = "inject")]
#[must_use]
pub fn fails(point: Point) -> bool {
    inject::fails(point)
}

/// Never.
#[cfg(not(feature = "inject"))]
#[inline(always)]
#[must_use]
pub const fn fails(_: Point) -> bool {
    false
}
