//! The words of `engagectl doctor`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use platform::SlotState;
use url::Url;

use crate::cli::{Skip, examples};

/// Options of `doctor`.
#[derive(Debug, Args)]
#[command(after_help = examples::DOCTOR)]
pub struct DoctorArgs {
    /// Leave a component out, because it is managed elsewhere or not used; may be repeated.
    #[arg(long, value_enum, value_name = "COMPONENT")]
    pub skip: Vec<Skip>,
    /// Longest time for each server.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "30s", value_name = "DURATION")]
    pub deadline: Duration,
    /// Also look at the endpoints of this configuration file of webhook-forwarder.
    #[arg(long, value_name = "FILE")]
    pub endpoints: Option<PathBuf>,
    /// Also look at this webhook target; may be repeated. Nothing is delivered.
    #[arg(long, value_name = "URL")]
    pub webhook: Vec<Url>,
    /// Go on looking at slot and connector alone, and print what changes.
    #[arg(long, conflicts_with_all = ["skip", "deadline", "endpoints", "webhook"])]
    pub watch: bool,
    /// With --watch: pause between two looks.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s", value_name = "DURATION")]
    pub every: Duration,
    /// How much WAL the slot may retain: a share of max_slot_wal_keep_size (`50%`) or a size (`20GiB`).
    #[arg(long, default_value = "50%", value_name = "SHARE|SIZE")]
    pub retained: Retained,
    /// How far before the last captured commit the backfill of a lost slot begins: events may be older than their commits.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "1h", value_name = "DURATION")]
    pub margin: Duration,
}

impl DoctorArgs {
    /// Whether a component is looked at.
    pub(super) fn looks_at(&self, component: platform::Component) -> bool {
        let mut skipped = self.skip.iter().copied().map(platform::Component::from);
        !skipped.any(|skipped| skipped == component)
    }
}

/// How much WAL a slot may retain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Retained {
    /// A share of what Postgres keeps at most, in percent.
    Percent(u8),
    /// Bytes.
    Bytes(i64),
}

impl Retained {
    /// Whether a slot retains as much; `None`: it is a share, and there is no limit.
    #[must_use]
    pub fn is_reached(self, state: &SlotState) -> Option<bool> {
        match self {
            Self::Percent(percent) => Some(state.share()? * 100.0 >= f64::from(percent)),
            Self::Bytes(bytes) => Some(state.retained_bytes >= bytes),
        }
    }
}

impl FromStr for Retained {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("{text:?} is neither a share such as 50% nor a size such as 20GiB");
        if let Some(percent) = text.strip_suffix('%') {
            let percent: u8 = percent.trim().parse().map_err(|_| wrong())?;
            return (1..=100)
                .contains(&percent)
                .then_some(Self::Percent(percent))
                .ok_or_else(wrong);
        }
        let digits = text.find(|c: char| !c.is_ascii_digit());
        let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
        let factor = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "mb" => 1_000_000,
            "mib" | "m" => 1 << 20,
            "gb" => 1_000_000_000,
            "gib" | "g" => 1 << 30,
            "tb" => 1_000_000_000_000,
            "tib" | "t" => 1 << 40,
            _ => return Err(wrong()),
        };
        let number: i64 = number.parse().map_err(|_| wrong())?;
        number
            .checked_mul(factor)
            .filter(|bytes| *bytes > 0)
            .map(Self::Bytes)
            .ok_or_else(wrong)
    }
}

impl fmt::Display for Retained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}% of max_slot_wal_keep_size"),
            Self::Bytes(bytes) => f.write_str(&super::report::size(*bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_a_share_or_a_size() {
        let read = |text: &str| text.parse::<Retained>();
        assert_eq!(read("50%"), Ok(Retained::Percent(50)));
        assert_eq!(read("20GiB"), Ok(Retained::Bytes(20 << 30)));
        assert_eq!(read("500 MB"), Ok(Retained::Bytes(500_000_000)));
        assert_eq!(read("7"), Ok(Retained::Bytes(7)));
        for wrong in [
            "",
            "0%",
            "101%",
            "half",
            "-1GB",
            "5 parsecs",
            "0",
            "99999999999TiB",
        ] {
            assert!(read(wrong).is_err_and(|e| e.contains("50%")), "{wrong}");
        }
    }
}
