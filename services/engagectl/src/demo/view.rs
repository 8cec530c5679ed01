//! The live view: a screen on a terminal, one line every few seconds where there is none.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table};

use crate::screen::Screen;

/// What is shown; read from the running services by `measure`.
#[derive(Clone, Debug, Default)]
pub(super) struct Snapshot {
    /// Since the generator started.
    pub(super) elapsed: Duration,
    /// Rows committed to Postgres.
    pub(super) inserted: u64,
    /// One line a sink.
    pub(super) sinks: Vec<SinkLine>,
    /// Content and its events in the last ten minutes, highest first.
    pub(super) top: Vec<(String, i64)>,
}

/// One sink's state.
#[derive(Clone, Debug)]
pub(super) struct SinkLine {
    /// The service's name.
    pub(super) name: &'static str,
    /// Whether `/readyz` says so; otherwise why not.
    pub(super) ready: Result<(), String>,
    /// Events that took effect since the start.
    pub(super) events: u64,
    /// Commit to visible, seconds, upper bounds of histogram buckets.
    pub(super) p50: Option<f64>,
    /// See `p50`.
    pub(super) p99: Option<f64>,
}

/// Where the snapshots go.
pub(super) enum View {
    /// A full screen that is redrawn.
    Screen(Screen, Vec<String>),
    /// Lines on standard error.
    Lines(Duration),
}

impl View {
    /// A screen where standard output and input are a terminal, lines otherwise. `links` are shown below the tables.
    #[must_use]
    pub(super) fn open(links: Vec<String>) -> Self {
        match Screen::open() {
            Some(screen) => Self::Screen(screen, links),
            None => {
                for link in links {
                    eprintln!("  {link}");
                }
                Self::Lines(Duration::ZERO)
            }
        }
    }

    /// Shows a snapshot. Lines appear every five seconds.
    pub(super) fn show(&mut self, snapshot: &Snapshot) {
        match self {
            Self::Screen(screen, links) => screen.draw(|frame| draw(frame, snapshot, links)),
            Self::Lines(next) if snapshot.elapsed >= *next => {
                *next = snapshot.elapsed + Duration::from_secs(5);
                eprintln!("{}", line(snapshot));
            }
            Self::Lines(_) => {}
        }
    }

    /// True once the user pressed `q` or Ctrl-C on the screen (which takes the keyboard in raw mode).
    #[must_use]
    pub(super) fn quit_requested(&self) -> bool {
        matches!(self, Self::Screen(..)) && Screen::quit_requested()
    }
}

fn line(snapshot: &Snapshot) -> String {
    let mut text = format!(
        "{:>4} s  inserted {}",
        snapshot.elapsed.as_secs(),
        snapshot.inserted
    );
    for sink in &snapshot.sinks {
        text += &format!(
            "  | {} {} p50 {} p99 {}",
            sink.name,
            sink.events,
            seconds(sink.p50),
            seconds(sink.p99)
        );
    }
    text
}

/// A bucket's bound in a readable unit, `-` where nothing was observed yet.
#[must_use]
pub(crate) fn seconds(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(s) if s.is_infinite() => "> 60 s".into(),
        Some(s) if s < 1.0 => format!("{:.0} ms", s * 1000.0),
        Some(s) => format!("{s:.1} s"),
    }
}

fn draw(frame: &mut Frame<'_>, snapshot: &Snapshot, links: &[String]) {
    let sinks = u16::try_from(snapshot.sinks.len()).unwrap_or(0) + 3;
    let below = u16::try_from(links.len()).unwrap_or(0) + 2;
    let [head, table, top, foot] = Layout::vertical([
        Constraint::Length(3),
        Constraint::Length(sinks),
        Constraint::Min(4),
        Constraint::Length(below),
    ])
    .areas(frame.area());
    let title = format!(
        " {} rows committed to Postgres in {} s",
        snapshot.inserted,
        snapshot.elapsed.as_secs()
    );
    frame.render_widget(
        Paragraph::new(title).block(Block::bordered().title(" Engage ")),
        head,
    );
    frame.render_widget(sink_table(snapshot), table);
    frame.render_widget(top_table(snapshot), top);
    let lines: Vec<Line<'_>> = links
        .iter()
        .map(|link| Line::from(format!(" {link}")))
        .collect();
    frame.render_widget(
        Paragraph::new(lines).block(Block::bordered().title(" q or Ctrl-C stops everything ")),
        foot,
    );
}

fn sink_table(snapshot: &Snapshot) -> Table<'static> {
    let rows = snapshot.sinks.iter().map(|sink| {
        let (state, color) = match &sink.ready {
            Ok(()) => ("ready".to_owned(), Color::Green),
            Err(reason) => (reason.clone(), Color::Yellow),
        };
        Row::new([
            Cell::from(sink.name),
            Cell::from(sink.events.to_string()),
            Cell::from(seconds(sink.p50)),
            Cell::from(seconds(sink.p99)),
            Cell::from(state).style(Style::new().fg(color)),
        ])
    });
    let widths = [
        Constraint::Length(20),
        Constraint::Length(12),
        Constraint::Length(10),
        Constraint::Length(10),
        Constraint::Min(10),
    ];
    Table::new(rows, widths)
        .header(
            Row::new(["sink", "events", "p50", "p99", "state"])
                .style(Style::new().add_modifier(Modifier::BOLD)),
        )
        .block(Block::bordered().title(" commit to visible "))
}

fn top_table(snapshot: &Snapshot) -> Table<'static> {
    let rows = snapshot
        .top
        .iter()
        .map(|(content, events)| Row::new([content.clone(), events.to_string()]));
    Table::new(rows, [Constraint::Length(40), Constraint::Min(8)])
        .block(Block::bordered().title(" top content, events in the last 10 minutes "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_the_unit_that_reads_best() {
        assert_eq!(seconds(Some(0.25)), "250 ms");
        assert_eq!(seconds(Some(2.5)), "2.5 s");
        assert_eq!(seconds(None), "-");
    }

    #[test]
    fn the_plain_line_names_every_sink() {
        let sinks = vec![SinkLine {
            name: "redis-aggregator",
            ready: Ok(()),
            events: 7,
            p50: Some(0.1),
            p99: None,
        }];
        let text = line(&Snapshot {
            inserted: 9,
            sinks,
            ..Snapshot::default()
        });
        assert!(
            text.contains("inserted 9") && text.contains("redis-aggregator 7 p50 100 ms p99 -"),
            "{text}"
        );
    }
}
