//! A full screen on the terminal, and the keys that end it.
//!
//! Invariant: however it ends (key, signal, error, panic), the terminal is as it was before.

use std::io::IsTerminal;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::{DefaultTerminal, Frame};

/// The screen; dropping it restores the terminal.
pub(crate) struct Screen(Box<DefaultTerminal>);

impl Screen {
    /// `None` where standard output or input is no terminal.
    pub(crate) fn open() -> Option<Self> {
        let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
        let opened = terminal.then(ratatui::try_init)?;
        opened.ok().map(|terminal| Self(Box::new(terminal)))
    }

    /// Draws it anew. A terminal that went away (a closed window) is no error of ours.
    pub(crate) fn draw(&mut self, show: impl FnOnce(&mut Frame<'_>)) {
        let _ = self.0.draw(show);
    }

    /// True once `q` or Ctrl-C was pressed (the keyboard is in raw mode, where Ctrl-C is no signal).
    pub(crate) fn quit_requested() -> bool {
        std::iter::from_fn(next_key).any(|quit| quit)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn next_key() -> Option<bool> {
    if !event::poll(Duration::ZERO).ok()? {
        return None;
    }
    let Event::Key(key) = event::read().ok()? else {
        return Some(false);
    };
    let interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    Some(interrupt || key.code == KeyCode::Char('q'))
}
