//! All rows of Postgres: what a backfill of them costs, and the command that begins it.

use std::fmt;

use engagement::event::Micros;
use indicatif::DecimalBytes;
use service::Failure;

use super::log::Log;
use super::range::Range;
use super::rows::Wanted;
use super::source::Source;
use super::view::Size;
use crate::config::Config;

const SECOND: i64 = 1_000_000;

/// Every row, by the time of its event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole {
    range: Range,
    size: Size,
}

/// What Postgres has; `None`: no row.
///
/// # Errors
/// It cannot be asked (69), or its tables are not what a backfill needs (78).
pub(crate) async fn whole(config: &Config) -> Result<Option<Whole>, Failure> {
    let mut source = Source::open(&config.database).await?;
    let Some((first, last)) = source.extent().await? else {
        return Ok(None);
    };
    let range = of(first, last);
    let wanted = Wanted {
        range,
        content_id: None,
        after: None,
    };
    let size = source.size(&wanted).await?;
    // a hint only: where there is no topic of runs yet, nobody knows
    let speed = Log::new(config)
        .runs()
        .await
        .ok()
        .and_then(|runs| runs.speed());
    let size = Size { speed, ..size };
    Ok(Some(Whole { range, size }))
}

/// Whole seconds that hold both.
fn of(first: Micros, last: Micros) -> Range {
    Range {
        start: Micros(first.0.div_euclid(SECOND) * SECOND),
        end: Micros((last.0.div_euclid(SECOND) + 1) * SECOND),
    }
}

impl Whole {
    /// The command that brings them all.
    pub(crate) fn command(&self) -> String {
        let Range { start, end } = self.range;
        format!("engagectl backfill --start {start} --end {end} --sinks clickhouse --yes")
    }

    /// How many, about.
    pub(crate) const fn rows(&self) -> u64 {
        self.size.rows
    }
}

impl fmt::Display for Whole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let about = if self.size.counted { "" } else { "about " };
        write!(
            f,
            "{about}{} rows, {about}{}, of {}",
            self.size.rows,
            DecimalBytes(self.size.bytes),
            self.range
        )?;
        match self.size.seconds() {
            Some(seconds) => write!(f, ", about {seconds:.0} s at the speed of the last run"),
            None => f.write_str(", time unknown before the first run"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::moment::Moment;

    #[test]
    fn the_command_holds_the_first_and_the_last_row_and_reads_back() {
        let (first, last) = (Micros(1_767_882_112_123_456), Micros(1_767_882_115_000_000));
        let size = Size {
            rows: 5,
            bytes: 0,
            counted: true,
            indexed: true,
            speed: None,
        };
        let whole = Whole {
            range: of(first, last),
            size,
        };
        let command = whole.command();
        let mut words = command.split(' ').skip_while(|word| *word != "--start");
        let mut time = || {
            let moment: Moment = words.nth(1).unwrap().parse().unwrap();
            moment.micros(0)
        };
        let (start, end) = (time(), time());
        assert!(start <= first && last < end, "{command}");
        assert!(whole.to_string().contains("5 rows"));
    }
}
