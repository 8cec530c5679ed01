//! What a person sees: the plan, the list of runs, and how it goes.
//!
//! Invariant: plan and lists go to standard output, progress to standard error.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{DecimalBytes, ProgressBar, ProgressStyle};
use serde_json::json;
use stream::backfill::Addressee;

use super::ledger::{Finished, Run, Runs};
use super::throttle::Why;
use crate::cli::Output;

/// Pause between two lines where nobody watches a bar.
const EVERY: Duration = Duration::from_secs(5);

/// What is known before anything is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) counted: bool,
    /// Whether an index begins with `event_ts`.
    pub(super) indexed: bool,
    /// Rows a second, by option or by the last run; `None`: nobody knows.
    pub(super) speed: Option<f64>,
}

impl Size {
    pub(super) fn seconds(self) -> Option<f64> {
        let speed = self.speed.filter(|speed| *speed > 0.0)?;
        Some(self.rows as f64 / speed)
    }
}

/// The plan of a run, and what is left of it.
pub(super) fn plan(run: &Run, readers: &[String], size: Size, output: Output) -> String {
    match output {
        Output::Table => plan_text(run, readers, size),
        Output::Json => format!("{:#}\n", plan_json(run, readers, size)),
    }
}

fn plan_text(run: &Run, readers: &[String], size: Size) -> String {
    let spec = &run.spec;
    let about = if size.counted { "" } else { "about " };
    let content = spec.content_id.as_deref().unwrap_or("all");
    let done = run.spec.ranges.len() - run.work().len();
    let mut text = String::new();
    // writing to a String cannot fail
    let _ = writeln!(text, "run        {}", spec.run);
    let _ = writeln!(
        text,
        "events     {about}{} rows, {about}{}, of {}, content {content}",
        size.rows,
        DecimalBytes(size.bytes),
        spec.range
    );
    let _ = writeln!(
        text,
        "ranges     {}, {done} of them written ({} rows)",
        spec.ranges.len(),
        run.rows()
    );
    let _ = writeln!(
        text,
        "to         {} ({} partitions)",
        spec.topic, spec.partitions
    );
    for sink in &spec.sinks {
        let time = size.seconds().map_or_else(
            || "time unknown before the first run".to_owned(),
            |seconds| format!("about {}", duration(seconds)),
        );
        let _ = writeln!(text, "sink       {:<10} {time}", sink.name());
    }
    let _ = writeln!(text, "read by    {}", readers.join(", "));
    if !size.indexed {
        text += "note       no index begins with event_ts: Postgres sorts each range before its first row\n";
    }
    text
}

fn plan_json(run: &Run, readers: &[String], size: Size) -> serde_json::Value {
    let spec = &run.spec;
    let sinks: Vec<&str> = spec
        .sinks
        .iter()
        .map(|sink: &Addressee| sink.name())
        .collect();
    json!({
        "run": spec.run,
        "start": spec.range.start,
        "end": spec.range.end,
        "content_id": spec.content_id,
        "sinks": sinks,
        "groups": readers,
        "topic": spec.topic,
        "partitions": spec.partitions,
        "rows": size.rows,
        "rows_counted": size.counted,
        "bytes": size.bytes,
        "seconds": size.seconds(),
        "ranges": spec.ranges.len(),
        "ranges_left": run.work().len(),
        "rows_written": run.rows(),
        "index_on_event_ts": size.indexed,
    })
}

/// All runs, the newest last.
pub(super) fn list(runs: &Runs, output: Output) -> String {
    if output == Output::Json {
        let all: Vec<serde_json::Value> = runs.iter().map(one_json).collect();
        return format!("{:#}\n", json!(all));
    }
    let mut text = format!(
        "{:<14} {:<9} {:>12} {:>8} {:<40} SINKS\n",
        "RUN", "STATE", "ROWS", "LEFT OUT", "EVENTS OF"
    );
    for run in runs.iter() {
        let sinks: Vec<&str> = run.spec.sinks.iter().map(|sink| sink.name()).collect();
        let _ = writeln!(
            text,
            "{:<14} {:<9} {:>12} {:>8} {:<40} {}",
            run.spec.run,
            state(run),
            run.rows(),
            run.left_out(),
            run.spec.range.to_string(),
            sinks.join(",")
        );
    }
    text
}

fn one_json(run: &Run) -> serde_json::Value {
    json!({
        "run": run.spec.run,
        "state": state(run),
        "rows": run.rows(),
        "left_out": run.left_out(),
        "start": run.spec.range.start,
        "end": run.spec.range.end,
        "content_id": run.spec.content_id,
        "ranges": run.spec.ranges.len(),
        "ranges_left": run.work().len(),
    })
}

/// What is said when all is written and read.
pub(super) fn ended(run: &Run, end: &Finished) -> String {
    let mut text = format!(
        "{} rows written in {:.1} s, {} in all; read by the sinks\n",
        end.written, end.seconds, end.rows
    );
    if run.left_out() > 0 {
        // writing to a String cannot fail
        let _ = writeln!(
            text,
            "{} of these rows were left out: they are larger than {} takes; raise its max.message.bytes and the producer's \
             message.max.bytes, then backfill that time again",
            run.left_out(),
            run.spec.topic
        );
    }
    if run.spec.sinks.contains(&Addressee::Webhook) {
        text += "what a receiver has got no group says; `engagectl verify --sinks webhook --receiver URL --historical --within 60s` compares it\n";
    }
    text
}

fn state(run: &Run) -> &'static str {
    match (run.finished.is_some(), run.is_written()) {
        (true, _) => "finished",
        (false, true) => "written",
        (false, false) => "open",
    }
}

fn duration(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds.ceil()).unwrap_or(Duration::MAX);
    humantime::format_duration(whole).to_string()
}

/// Says how it goes: a bar where somebody watches, a line every few seconds where nobody does.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    rows: u64,
    /// Rows that were there before this process.
    before: u64,
    total: u64,
    begun: Instant,
    said: Instant,
    waiting: Option<String>,
}

impl Progress {
    pub(super) fn new(before: u64, total: u64) -> Self {
        let now = Instant::now();
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(total.max(before));
            let style = ProgressStyle::with_template(
                "{spinner} {wide_bar} {human_pos}/{human_len} rows, {per_sec}, {eta} left {msg}",
            );
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.set_position(before);
            bar.reset_eta();
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self {
            bar,
            rows: before,
            before,
            total,
            begun: now,
            said: now,
            waiting: None,
        }
    }

    /// So many rows are noted.
    pub(super) fn noted(&mut self, rows: u64) {
        self.rows = rows;
        self.waiting = None;
        match &self.bar {
            Some(bar) => {
                bar.set_length(self.total.max(rows));
                bar.set_position(rows);
                bar.set_message("");
            }
            None if self.said.elapsed() >= EVERY => {
                self.said = Instant::now();
                eprintln!(
                    "{}",
                    line(self.rows, self.before, self.total, self.begun.elapsed())
                );
            }
            None => {}
        }
    }

    /// It makes way for this reason.
    pub(super) fn waits(&mut self, why: Why) {
        self.says(&why.to_string());
    }

    /// Something else is being done; said once.
    pub(super) fn says(&mut self, what: &str) {
        if self.waiting.as_deref() == Some(what) {
            return;
        }
        match &self.bar {
            Some(bar) => bar.set_message(what.to_owned()),
            None => eprintln!("{what} .."),
        }
        self.waiting = Some(what.to_owned());
    }

    pub(super) fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(rows: u64, before: u64, total: u64, elapsed: Duration) -> String {
    let speed = (rows - before.min(rows)) as f64 / elapsed.as_secs_f64().max(0.001);
    let left = total.saturating_sub(rows) as f64 / speed.max(0.001);
    let left = if speed >= 1.0 {
        format!(", {} left", duration(left))
    } else {
        String::new()
    };
    format!(
        "{rows} of about {} rows, {speed:.0}/s{left}",
        total.max(rows)
    )
}

#[cfg(test)]
mod tests {
    use super::super::ledger::{Cursor, Entry, plan_key};
    use super::*;
    use crate::backfill::range::Range;
    use engagement::event::Micros;

    fn run() -> Run {
        let range = Range {
            start: Micros(0),
            end: Micros(4_000_000),
        };
        let spec = crate::backfill::ledger::Spec {
            run: 1_767_882_112_123,
            database: crate::backfill::ledger::Database {
                system: "1".into(),
                timeline: 1,
                name: "engage".into(),
            },
            topic: "engagement.backfill.v1".into(),
            partitions: 16,
            range,
            content_id: None,
            sinks: vec![Addressee::Clickhouse],
            revision_lsn: 1,
            horizon: 1,
            ranges: range.split(2),
            rows: 9000,
        };
        let mut run = Run::new(spec);
        let page = crate::backfill::ledger::Page {
            range: 0,
            rows: 4000,
            last: Some(Cursor {
                at: Micros(5),
                id: "1".into(),
            }),
            is_last: true,
        };
        run.advance(&page, None);
        run
    }

    fn readers() -> [String; 2] {
        ["clickhouse-sink", "webhook-forwarder.crm.backfill"].map(str::to_owned)
    }

    fn size(speed: Option<f64>) -> Size {
        Size {
            rows: 9000,
            bytes: 3_000_000,
            counted: false,
            indexed: false,
            speed,
        }
    }

    #[test]
    fn the_plan_says_rows_bytes_time_and_what_is_left() {
        let text = plan(&run(), &readers(), size(Some(3000.0)), Output::Table);
        for part in [
            "about 9000 rows, about 3.00 MB",
            "1970-01-01T00:00:00Z .. 1970-01-01T00:00:04Z",
            "ranges     2, 1 of them written (4000 rows)",
            "clickhouse about 3s",
            "read by    clickhouse-sink, webhook-forwarder.crm.backfill",
            "no index begins with event_ts",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(plan(&run(), &[], size(None), Output::Table).contains("time unknown"));
        let json: serde_json::Value =
            serde_json::from_str(&plan(&run(), &[], size(None), Output::Json)).unwrap();
        assert_eq!(
            (json["rows"].as_u64(), json["ranges_left"].as_u64()),
            (Some(9000), Some(1))
        );
        assert!(json["seconds"].is_null());
    }

    #[test]
    fn a_line_of_progress_has_rate_and_time_left() {
        let text = line(5000, 1000, 9000, Duration::from_secs(2));
        assert_eq!(text, "5000 of about 9000 rows, 2000/s, 2s left");
        assert_eq!(
            line(0, 0, 9000, Duration::ZERO),
            "0 of about 9000 rows, 0/s"
        );
    }

    #[test]
    fn an_open_run_is_told_from_a_finished_one() {
        let mut runs = Runs::default();
        let plan = Entry::Plan(run().spec);
        runs.apply(
            &plan_key(run().spec.run),
            Some(&serde_json::to_vec(&plan).unwrap()),
        )
        .unwrap();
        assert!(list(&runs, Output::Table).contains("1767882112123  open"));
    }

    #[test]
    fn rows_that_were_left_out_are_counted_in_the_list_and_at_the_end() {
        let mut run = run();
        let end = Finished {
            rows: 4000,
            seconds: 2.0,
            written: 4000,
        };
        assert!(!ended(&run, &end).contains("left out"));
        run.leave_out(0, 3);
        let said = ended(&run, &end);
        assert!(said.contains("3 of these rows were left out"), "{said}");
        assert_eq!(one_json(&run)["left_out"], 3);
        let line = list(&Runs::of(run), Output::Table);
        assert!(line.contains("         4000        3 1970"), "{line}");
    }
}
