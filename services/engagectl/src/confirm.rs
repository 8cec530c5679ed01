//! A question to whoever sits at the terminal.
//!
//! Invariant: nothing but a yes is a yes, and Ctrl-C is a no.

use std::io::{IsTerminal as _, Write as _};

use service::Failure;
use tokio_util::sync::CancellationToken;

/// Whether there is a terminal to ask on.
pub(crate) fn can_ask() -> bool {
    std::io::stdin().is_terminal()
}

/// Asks, and waits for the answer or for `stop`.
///
/// # Errors
/// The answer cannot be read (70), or Ctrl-C came in its place (75).
pub(crate) async fn confirmed(question: &str, stop: &CancellationToken) -> Result<bool, Failure> {
    eprint!("{question} [y/N] ");
    let _ = std::io::stderr().flush();
    // off the task that listens for Ctrl-C; a read that nobody waits for any more ends with the process
    let answer = tokio::task::spawn_blocking(|| {
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).map(|_| answer)
    });
    let Some(answer) = stop.run_until_cancelled(answer).await else {
        eprintln!();
        return Err(Failure::try_again("interrupted; nothing was written"));
    };
    let unread = |error: &dyn std::fmt::Display| {
        Failure::internal("cannot read the answer").cause(error.to_string())
    };
    let answer = answer.map_err(|error| unread(&error))?;
    let answer = answer.map_err(|error| unread(&error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
