//! What a person does once changes are lost to the log: commands that can be run as they stand. Pure.
//!
//! Invariant: the range that is brought again begins before the last change that is known to be captured.

use std::fmt;
use std::time::Duration;

use engagement::event::Micros;

use crate::ConnectSettings;

/// Events may have happened before they were committed; those further back than this need an earlier start.
pub const MARGIN: Duration = Duration::from_secs(3600);

/// How changes that the slot no longer holds come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// When the last change was committed that is known to be captured; `None`: nobody knows.
    pub captured: Option<Micros>,
    margin: Duration,
    connector: String,
    slot: String,
}

impl Recovery {
    /// For a connector whose changes are captured up to a time; `margin` is how far before that the backfill begins.
    #[must_use]
    pub fn new(connect: &ConnectSettings, captured: Option<Micros>, margin: Duration) -> Self {
        Self {
            captured,
            margin,
            connector: connect.shown(),
            slot: connect.slot.clone(),
        }
    }

    /// The command that brings the rows of the gap again; without a known beginning `TIME` stands for it.
    #[must_use]
    pub fn backfill(&self) -> String {
        let margin = i64::try_from(self.margin.as_micros()).unwrap_or(i64::MAX);
        let start = self.captured.map(|at| Micros(at.0.saturating_sub(margin)));
        let start = start.map_or_else(|| "TIME".to_owned(), |start| start.to_string());
        format!("engagectl backfill --start {start} --end now")
    }

    /// All steps, in their order.
    #[must_use]
    pub fn steps(&self) -> Vec<String> {
        let Self {
            connector, slot, ..
        } = self;
        let mut steps = vec![
            format!("curl -X PUT '{connector}/stop'"),
            format!("curl -X DELETE '{connector}/offsets'"),
            format!("psql -c \"SELECT pg_drop_replication_slot('{slot}')\", if it is still there"),
            format!(
                "curl -X PUT '{connector}/resume', which makes the slot anew and takes a snapshot"
            ),
            self.backfill(),
        ];
        if self.captured.is_none() {
            let last = steps.pop().unwrap_or_default();
            steps.push(format!(
                "{last}, with TIME before SELECT max(src_committed_at) FROM engagement.events_enriched"
            ));
        }
        steps.push("engagectl verify --within 10m".to_owned());
        steps
    }
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.captured {
            Some(at) => write!(f, "changes committed after {at} are in no topic")?,
            None => f.write_str("changes committed since then are in no topic")?,
        }
        for (number, step) in (1..).zip(self.steps()) {
            write!(f, "\n{number}. {step}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-08T14:21:52Z
    const AT: Micros = Micros(1_767_882_112_000_000);

    fn recovery(captured: Option<Micros>) -> Recovery {
        let connect = ConnectSettings {
            url: "http://u:hush@connect:8083".parse().unwrap(),
            ..ConnectSettings::default()
        };
        Recovery::new(&connect, captured, Duration::from_secs(600))
    }

    #[test]
    fn the_backfill_begins_a_margin_before_the_last_change_that_was_captured() {
        assert_eq!(
            recovery(Some(AT)).backfill(),
            "engagectl backfill --start 2026-01-08T14:11:52Z --end now"
        );
    }

    #[test]
    fn without_a_known_beginning_it_is_said_where_to_find_it() {
        let text = recovery(None).to_string();
        assert!(text.contains("--start TIME") && text.contains("max(src_committed_at)"));
    }

    #[test]
    fn the_slot_is_made_anew_before_anything_is_brought_again_and_no_secret_is_shown() {
        let text = recovery(Some(AT)).to_string();
        let order = [
            "/stop",
            "/offsets",
            "pg_drop_replication_slot('engage_cdc')",
            "/resume",
            "backfill",
            "verify",
        ];
        let places: Vec<_> = order.iter().map(|word| text.find(word).unwrap()).collect();
        assert!(places.is_sorted(), "{text}");
        assert!(!text.contains("hush"), "{text}");
        assert!(text.contains("http://connect:8083/connectors/engage-cdc/stop"));
    }
}
