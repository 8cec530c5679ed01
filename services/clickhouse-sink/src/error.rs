//! What ClickHouse answers when it does not do what was asked, and what to do about each answer.
//!
//! Invariant: the reaction follows from the code of the answer, never from its text, and no reaction loses a row:
//! what is not known for certain to be wrong with a row or with the configuration is tried again.

/// What to do about an answer that is not a clean success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reaction {
    /// The server is away, overloaded or restarting: back off, read back, try again.
    Retry,
    /// Something in these rows: fewer rows at a time, until the bad one is alone.
    Halve,
    /// The table is not there: wait, because a server that has just started says so too, and a human can create it.
    Missing,
    /// Nothing will work until a human changes table, user or settings.
    Stop,
}

/// Why a request to ClickHouse has no clean answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ServerError {
    /// No answer, or a cut one: the request may have been carried out.
    #[error("no complete answer from ClickHouse at {address}: {cause}")]
    Transport {
        /// Scheme, host and port.
        address: String,
        /// What the client saw.
        cause: String,
    },
    /// An exception, by ClickHouse's own code.
    #[error("ClickHouse refused with code {code}: {message}")]
    Exception {
        /// `X-ClickHouse-Exception-Code`.
        code: u32,
        /// Its text, cut.
        message: String,
    },
    /// An answer of something between us and ClickHouse.
    #[error("HTTP status {status} without a ClickHouse code: {message}")]
    Status {
        /// HTTP status.
        status: u16,
        /// Its body, cut.
        message: String,
    },
    /// The insert left rows out: a higher fence was taken since, or the table lacks the witness.
    #[error(
        "ClickHouse wrote {written} of {sent} rows: another owner has taken the partition over, or rows written before are gone"
    )]
    Superseded {
        /// Rows sent.
        sent: u64,
        /// Rows written, by `X-ClickHouse-Summary`.
        written: u64,
    },
    /// A success that wrote more rows than were sent, or does not say how many.
    #[error("ClickHouse acknowledged {written} rows where {sent} were sent")]
    Written {
        /// Rows sent.
        sent: u64,
        /// Rows written, by `X-ClickHouse-Summary`.
        written: u64,
    },
    /// A success whose body is not what was asked for.
    #[error("the answer to {query} is not what was asked for: {what}")]
    Answer {
        /// Which query.
        query: &'static str,
        /// What is odd.
        what: String,
    },
}

impl ServerError {
    /// No answer will come.
    #[must_use]
    pub fn lost() -> Self {
        Self::Transport {
            address: "the server".to_owned(),
            cause: "lost".to_owned(),
        }
    }

    /// Whether one of several inserts that were sent together may be the cause, and the others not.
    #[must_use]
    pub fn may_be_of_one(&self) -> bool {
        matches!(self, Self::Superseded { .. }) || self.reaction() == Reaction::Halve
    }

    /// What to do about it.
    #[must_use]
    pub fn reaction(&self) -> Reaction {
        match self {
            Self::Exception { code, .. } => reaction(*code),
            Self::Status { status: 413, .. } => Reaction::Halve,
            Self::Status {
                status: 400..=407, ..
            } => Reaction::Stop,
            Self::Transport { .. }
            | Self::Status { .. }
            | Self::Superseded { .. }
            | Self::Written { .. }
            | Self::Answer { .. } => Reaction::Retry,
        }
    }

    /// What a human should look at, and the next command to run.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::Exception {
                code: 192..=195 | 492 | 497 | 511 | 512 | 516 | 523 | 720 | 767,
                ..
            } => {
                "check CLICKHOUSE_USER and CLICKHOUSE_PASSWORD, and that this user has what `engagectl access clickhouse` lists: clickhouse-sink check"
            }
            Self::Exception {
                code: 60 | 81 | 291,
                ..
            } => "create database and table with: engagectl init",
            Self::Exception {
                code: 8 | 10 | 15 | 16 | 20 | 47 | 53 | 70 | 122,
                ..
            } => {
                "the table does not fit this version: compare with deploy/clickhouse, or move it away and run: engagectl init"
            }
            Self::Exception { .. } => {
                "look the code up in the server's log, then: clickhouse-sink check"
            }
            Self::Status { .. } => {
                "check that CLICKHOUSE_URL is ClickHouse's HTTP interface (port 8123): clickhouse-sink check"
            }
            Self::Transport { .. } => {
                "check CLICKHOUSE_URL and that the server runs; with https:// also that CLICKHOUSE_SSL_CA_LOCATION holds the authority of its certificate: clickhouse-sink check"
            }
            Self::Superseded { .. } | Self::Written { .. } | Self::Answer { .. } => {
                "start again; if it repeats, report it with the log"
            }
        }
    }

    /// Label `kind` of `engage_sink_errors_total`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match (self, self.reaction()) {
            (_, Reaction::Halve) => "bad_row",
            (_, Reaction::Missing | Reaction::Stop) => "configuration",
            (Self::Superseded { .. }, _) => "superseded",
            (Self::Transport { .. }, _) => "unreachable",
            (Self::Written { .. } | Self::Answer { .. }, _) => "unclear",
            (Self::Exception { .. } | Self::Status { .. }, _) => "unavailable",
        }
    }
}

/// What to do about ClickHouse's error codes (`src/Common/ErrorCodes.cpp`; the numbers never change their meaning).
///
/// Everything not named here is tried again: keepers, disks, memory, quotas, parts, timeouts, cancelled queries.
#[must_use]
pub fn reaction(code: u32) -> Reaction {
    match code {
        // cannot parse text, escapes, quotes, dates, times, numbers, UUIDs, domains, bools, IP addresses
        6 | 25 | 26 | 27 | 38 | 41 | 72 | 376 | 441 | 467 | 675 | 676
        // out of bounds, incorrect data, too large array or string, division, partition value, range, NULL, decimal, enum
        | 69 | 117 | 128 | 131 | 153 | 248 | 321 | 349 | 407 | 490 | 691
        // too many rows or bytes in one query; throwIf; violated constraint
        | 158 | 307 | 395 | 396 | 469 => Reaction::Halve,
        // columns: missing, unknown, wrong number, duplicate, wrong type, not convertible, alias or materialized
        8 | 10 | 15 | 16 | 20 | 43 | 44 | 47 | 50 | 53 | 70 | 122 | 386 | 524
        // functions and queries this server does not know
        | 1 | 2 | 34 | 35 | 42 | 46 | 48 | 62 | 73 | 80 | 85 | 446 | 477
        // tables and databases
        | 291 | 392 | 620 | 727 | 774
        // settings
        | 36 | 115 | 137 | 164 | 318 | 452 | 457 | 471 | 472
        // users, roles, rights
        | 180 | 192 | 193 | 194 | 195 | 492 | 496 | 497 | 511 | 512 | 516 | 523 | 720 | 767 => Reaction::Stop,
        60 | 81 => Reaction::Missing,
        _ => Reaction::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::unknown_table(60, Reaction::Missing)]
    #[case::unknown_database(81, Reaction::Missing)]
    #[case::no_such_column(16, Reaction::Stop)]
    #[case::type_mismatch(53, Reaction::Stop)]
    #[case::access_denied(497, Reaction::Stop)]
    #[case::authentication_failed(516, Reaction::Stop)]
    #[case::violated_constraint(469, Reaction::Halve)]
    #[case::decimal_overflow(407, Reaction::Halve)]
    #[case::too_many_parts(252, Reaction::Retry)]
    #[case::memory_limit(241, Reaction::Retry)]
    #[case::table_is_read_only(242, Reaction::Retry)]
    #[case::timeout(159, Reaction::Retry)]
    #[case::query_was_cancelled(394, Reaction::Retry)]
    #[case::cut_body(33, Reaction::Retry)]
    #[case::code_of_a_later_version(2_000, Reaction::Retry)]
    fn the_code_decides(#[case] code: u32, #[case] expected: Reaction) {
        assert_eq!(reaction(code), expected);
    }

    #[test]
    fn answers_of_a_proxy_are_told_apart_by_their_status() {
        let status = |status| {
            ServerError::Status {
                status,
                message: String::new(),
            }
            .reaction()
        };
        assert_eq!(
            (status(502), status(413), status(403), status(429)),
            (
                Reaction::Retry,
                Reaction::Halve,
                Reaction::Stop,
                Reaction::Retry
            )
        );
    }

    #[test]
    fn a_doubtful_success_is_read_back_rather_than_believed() {
        let error = ServerError::Written {
            sent: 10,
            written: 9,
        };
        assert_eq!(
            (error.reaction(), error.kind()),
            (Reaction::Retry, "unclear")
        );
    }
}
