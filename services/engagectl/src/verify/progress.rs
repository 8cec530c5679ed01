//! One line that says what is being done, where somebody is watching.
//!
//! Invariant: nothing but this line is written while it is open, and only to standard error.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use ::verify::OnProgress;
use indicatif::{ProgressBar, ProgressStyle};

/// The line; on anything but a terminal each step is a line of its own.
pub(super) struct Line(Option<ProgressBar>);

impl Line {
    pub(super) fn open() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
        let bar = ProgressBar::new_spinner();
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(Some(bar))
    }

    /// What the comparison tells its steps to.
    pub(super) fn speaker(&self) -> OnProgress {
        match self.0.clone() {
            Some(bar) => Arc::new(move |what| bar.set_message(what.to_owned())),
            None => Arc::new(|what| eprintln!("{what} ..")),
        }
    }

    pub(super) fn close(self) {
        if let Some(bar) = self.0 {
            bar.finish_and_clear();
        }
    }
}
