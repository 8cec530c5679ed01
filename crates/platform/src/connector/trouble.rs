//! Why a task has failed: what of a Java trace a person needs, and the fix for what is well known. Pure.
//!
//! Invariant: a trace that nobody knows still shows its first line and its innermost cause.

/// A failed connector or task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// The first line of its trace.
    pub first: String,
    /// The innermost cause, where it is another line.
    pub cause: Option<String>,
    /// What repairs it, where that is known.
    pub fix: Option<&'static str>,
}

/// Words of a trace, all of which must be there, and what repairs it. The first that fits holds, so the special ones go first.
const KNOWN: [(&[&str], &str); 18] = [
    (
        &["can no longer get changes from replication slot"],
        "the slot is lost: `engagectl doctor` prints the plan",
    ),
    (
        &["requested WAL segment", "already been removed"],
        "the slot is lost: `engagectl doctor` prints the plan",
    ),
    (
        &["no longer available on the server"],
        "what the connector has not read is gone: `engagectl doctor` prints the plan",
    ),
    (
        &["replication slot", "is active"],
        "another process reads the slot (SELECT active_pid FROM pg_replication_slots): end it, or give this connector a slot of its own (connect.slot)",
    ),
    (
        &["all replication slots are in use"],
        "drop slots that nobody reads, or raise max_replication_slots and restart Postgres",
    ),
    (
        &["exceeds max_wal_senders"],
        "raise max_wal_senders and restart Postgres",
    ),
    (
        &["wal_level"],
        "ALTER SYSTEM SET wal_level = logical, then restart Postgres",
    ),
    (
        &["publication", "does not exist"],
        "engagectl init makes the publication",
    ),
    (
        &["replication slot", "does not exist"],
        "the slot is gone: `engagectl doctor` prints the plan",
    ),
    (
        &["password authentication failed"],
        "set the role's password (ALTER ROLE .. PASSWORD) and ENGAGE_CDC_PASSWORD to the same, then engagectl init",
    ),
    (
        &["permission denied"],
        "engagectl init grants what the role needs",
    ),
    (
        &["no pg_hba.conf entry"],
        "let the role in from where Connect runs, for replication too (pg_hba.conf), then reload Postgres",
    ),
    (
        &["RecordTooLargeException"],
        "a row is larger than the topic takes: raise max.message.bytes of the topic, and producer.override.max.request.size of the connector",
    ),
    (
        &["Compacted topic cannot accept message without key"],
        "a row without a key (a TRUNCATE) met a compacted topic: leave truncate out of the publication (engagectl init)",
    ),
    (
        &["not present in metadata"],
        "engagectl init makes the topics",
    ),
    (
        &["TopicAuthorizationException"],
        "give Connect's user its rights: engagectl access kafka",
    ),
    (
        &["OutOfMemoryError"],
        "give the Connect worker more heap (KAFKA_HEAP_OPTS), then restart it",
    ),
    (
        &["Connection to", "refused"],
        "Connect does not reach Postgres: start it, or set connect.database_host and connect.database_port as Connect sees it",
    ),
];

impl Trouble {
    /// Of a trace as Connect tells it.
    #[must_use]
    pub fn of(trace: &str) -> Self {
        let mut lines = trace.lines().map(str::trim).filter(|line| !line.is_empty());
        let first = lines.next().unwrap_or("no trace").to_owned();
        let mut causes = lines.filter_map(|line| line.strip_prefix("Caused by: "));
        let cause = causes.next_back().map(str::to_owned);
        let is_known = |words: &[&str]| words.iter().all(|word| trace.contains(word));
        let known = KNOWN.iter().find(|(words, _)| is_known(words));
        Self {
            cause: cause.filter(|cause| *cause != first),
            first,
            fix: known.map(|(_, fix)| *fix),
        }
    }

    /// First line and cause as one line.
    #[must_use]
    pub fn line(&self) -> String {
        match &self.cause {
            Some(cause) => format!("{} ({cause})", self.first),
            None => self.first.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "org.apache.kafka.connect.errors.ConnectException: An exception occurred in the change event producer.\n\
        \tat io.debezium.pipeline.ErrorHandler.setProducerThrowable(ErrorHandler.java:67)\n\
        Caused by: io.debezium.DebeziumException: Failed to start replication stream at LSN{0/1}\n\
        \tat x\n\
        Caused by: org.postgresql.util.PSQLException: ERROR: replication slot \"engage_cdc\" is active for PID 7\n\
        \t... 5 more\n";

    #[test]
    fn a_trace_shows_its_first_line_its_innermost_cause_and_the_fix() {
        let trouble = Trouble::of(TRACE);
        assert!(trouble.first.contains("change event producer"));
        assert!(
            trouble.cause.as_deref().unwrap().contains("is active"),
            "{trouble:?}"
        );
        assert!(trouble.fix.unwrap().contains("active_pid"), "{trouble:?}");
        assert!(!trouble.line().contains('\n'));
    }

    #[test]
    fn what_postgres_and_kafka_say_most_often_has_a_fix_of_its_own() {
        for (text, part) in [
            (
                "ERROR: can no longer get changes from replication slot \"engage_cdc\"",
                "doctor",
            ),
            (
                "FATAL: password authentication failed for user \"engage_cdc\"",
                "ENGAGE_CDC_PASSWORD",
            ),
            (
                "ERROR: publication \"engage_cdc\" does not exist",
                "init makes the publication",
            ),
            ("ERROR: permission denied for table content", "init grants"),
            (
                "Connection to 127.0.0.1:5432 refused. Check that",
                "connect.database_host",
            ),
            (
                "org.apache.kafka.common.errors.RecordTooLargeException: The message",
                "max.message.bytes",
            ),
            (
                "ERROR: all replication slots are in use",
                "max_replication_slots",
            ),
        ] {
            let trouble = Trouble::of(text);
            assert!(trouble.fix.unwrap().contains(part), "{trouble:?}");
        }
    }

    #[test]
    fn an_unknown_or_empty_trace_is_shown_as_it_is() {
        let trouble = Trouble::of("java.lang.NullPointerException\n\tat x");
        assert_eq!(trouble.line(), "java.lang.NullPointerException");
        assert_eq!(trouble.fix, None);
        assert_eq!(Trouble::of("").line(), "no trace");
    }
}
