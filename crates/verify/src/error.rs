//! Why a comparison could not be made. A difference is no error: it is in the report.
//!
//! Invariant: every error says what was asked, where, and what would be right.

/// A store could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not answer.
    #[error("cannot reach {what} at {place}: {cause}; start it, or correct {setting}")]
    Unreachable {
        /// Which store.
        what: &'static str,
        /// Where, without credentials.
        place: String,
        /// What the client says.
        cause: String,
        /// The setting that names the address.
        setting: &'static str,
    },
    /// It answers with an error.
    #[error("{what} refused {step}: {cause}")]
    Refused {
        /// Which store.
        what: &'static str,
        /// What was asked, in words.
        step: String,
        /// Its answer.
        cause: String,
    },
    /// A file of a TLS connection cannot be used.
    #[error(transparent)]
    Tls(service::TlsError),
    /// It answers with something else than was asked for.
    #[error("{what} answered {step} with {found}; expected {expected}")]
    Unexpected {
        /// Which store.
        what: &'static str,
        /// What was asked, in words.
        step: String,
        /// What came.
        found: String,
        /// What would be right.
        expected: &'static str,
    },
}

/// What would be right, where an answer of ClickHouse says that its user may not do this, or that it does not know the user.
#[must_use]
pub fn clickhouse_remedy(answer: &str) -> Option<&'static str> {
    let is_denied = ["(ACCESS_DENIED)", "(AUTHENTICATION_FAILED)"]
        .iter()
        .any(|code| answer.contains(code));
    is_denied.then_some(
        "name a user who may read its tables in CLICKHOUSE_USER and CLICKHOUSE_PASSWORD (after `make up`: engage, engage)",
    )
}

impl Error {
    /// The store was not there at all, as opposed to refusing a step.
    #[must_use]
    pub const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// What would be right, where ClickHouse says that its user may not do this, or does not know the user.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Refused { what, cause, .. } if *what == crate::clickhouse::WHAT => {
                clickhouse_remedy(cause)
            }
            _ => None,
        }
    }

    pub(crate) fn refused(
        what: &'static str,
        step: impl Into<String>,
        cause: impl std::fmt::Display,
    ) -> Self {
        Self::Refused {
            what,
            step: step.into(),
            cause: cause.to_string(),
        }
    }

    pub(crate) fn unexpected(
        what: &'static str,
        step: impl Into<String>,
        found: impl Into<String>,
        expected: &'static str,
    ) -> Self {
        Self::Unexpected {
            what,
            step: step.into(),
            found: found.into(),
            expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_rights_is_told_which_settings_name_another_one() {
        let denied = "Code: 497. DB::Exception: default: Not enough privileges. (ACCESS_DENIED)";
        let remedy = |what, cause| Error::refused(what, "the sums", cause).remedy();
        assert!(remedy("ClickHouse", denied).is_some_and(|text| text.contains("CLICKHOUSE_USER")));
        assert_eq!(
            remedy("ClickHouse", "Code: 241. (MEMORY_LIMIT_EXCEEDED)"),
            None
        );
        assert_eq!(remedy("Postgres", denied), None);
    }
}
