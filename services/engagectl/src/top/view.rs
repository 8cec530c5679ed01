//! The screen of `top`.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Cell, Paragraph, Row, Table};

use super::state::{Readiness, Shown};
use super::text::{HEADINGS, cells, reasons, troubles};

/// Draws everything. Colors are left out by the terminal's library where `NO_COLOR` is set.
pub(super) fn draw(frame: &mut Frame<'_>, all: &[Shown], at: &str) {
    let services = u16::try_from(all.len())
        .unwrap_or(u16::MAX)
        .saturating_add(3);
    let [table, below] =
        Layout::vertical([Constraint::Length(services), Constraint::Min(3)]).areas(frame.area());
    frame.render_widget(services_table(all, at), table);
    let found = reasons(all).into_iter().chain(troubles(all));
    let mut lines: Vec<Line<'_>> = found.map(|one| Line::from(format!(" {one}"))).collect();
    if lines.is_empty() {
        lines.push(Line::from(
            " every service is ready, no partition is stopped, every breaker is closed",
        ));
    }
    let block = Block::bordered().title(" q or Ctrl-C ends this ");
    frame.render_widget(Paragraph::new(lines).block(block), below);
}

fn services_table(all: &[Shown], at: &str) -> Table<'static> {
    let rows = all.iter().map(|shown| {
        let color = match &shown.ready {
            Readiness::Ready => Color::Green,
            Readiness::NotReady(_) => Color::Yellow,
            Readiness::Away(_) => Color::Red,
        };
        let style = Style::new().fg(color);
        let last = HEADINGS.len() - 1;
        let cells = cells(shown).into_iter().enumerate();
        Row::new(cells.map(|(index, text)| match index == last {
            true => Cell::from(text).style(style),
            false => Cell::from(text),
        }))
    });
    let widths = [18, 9, 8, 8, 8, 9, 11, 7, 8].map(Constraint::Length);
    let widths = widths.into_iter().chain([Constraint::Min(10)]);
    Table::new(rows, widths)
        .header(Row::new(HEADINGS).style(Style::new().add_modifier(Modifier::BOLD)))
        .block(Block::bordered().title(format!(" Engage  {at} ")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::state::{Look, Metrics};
    use super::*;

    fn screen() -> Terminal<TestBackend> {
        let look = |name: &str, ready| Look {
            name: name.into(),
            at: Duration::from_secs(1),
            ready,
            metrics: Some(Metrics::parse(
                "engage_consumer_lag 12\nengage_breaker_state{endpoint=\"crm\"} 2\n",
            )),
        };
        let all = [
            Shown::of(&look("enricher", Readiness::Ready), None),
            Shown::of(
                &look(
                    "redis-aggregator",
                    Readiness::NotReady(vec!["redis: refused".into()]),
                ),
                None,
            ),
        ];
        let mut terminal = Terminal::new(TestBackend::new(120, 12)).unwrap();
        terminal.draw(|frame| draw(frame, &all, "T")).unwrap();
        terminal
    }

    #[test]
    fn every_service_has_a_row_with_its_state_and_breakers_are_below() {
        let text = screen().backend().to_string();
        for part in [
            "service",
            "enricher",
            "12",
            "ready",
            "redis: refused",
            "endpoint crm is open",
            "q or Ctrl-C",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
    }
}
