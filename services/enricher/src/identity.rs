//! Which database the changes come from: Postgres' system identifier and timeline.
//!
//! Invariant: an identity that was once recorded is never replaced silently by another one; LSNs of two databases, or
//! of two histories of one, do not compare.

use std::time::Duration;

use sqlx::PgPool;
use stream::checkpoint::Database;

use crate::lookup::sql;

/// Reads the identity; `None` (and a warning) when Postgres cannot be asked in time.
pub(crate) async fn read(pool: &PgPool, timeout: Duration) -> Option<Database> {
    let asked = sqlx::query_as::<_, (String, i64)>(sql::IDENTITY).fetch_one(pool);
    let (system, timeline) = match tokio::time::timeout(timeout, asked).await {
        Ok(Ok(row)) => row,
        Ok(Err(error)) => return unknown(&error.to_string()),
        Err(_) => return unknown("no answer in time"),
    };
    match (system.parse(), u32::try_from(timeline)) {
        (Ok(system), Ok(timeline)) => Some(Database { system, timeline }),
        _ => unknown("the answer is not a number"),
    }
}

fn unknown(reason: &str) -> Option<Database> {
    tracing::warn!(
        reason,
        "the source database's identity is not known; it is not compared"
    );
    None
}

/// Why changes of `now` cannot continue a chain of `noted`.
#[must_use]
pub(crate) fn changed(noted: Database, now: Database) -> String {
    let Database { system, timeline } = now;
    if noted.system == system {
        return format!(
            "the source database went from timeline {} to {timeline} (promoted or restored): commits after the switch \
             may repeat LSNs that were used before it",
            noted.timeline
        );
    }
    format!(
        "the source database is another one: system identifier {system}, the chain was made from {}",
        noted.system
    )
}

/// What to do about it.
pub(crate) const REMEDY: &str = "see `engagectl lineage show`; when the database is the right one, open a new epoch with \
     `engagectl lineage adopt --new-epoch`, then `engagectl verify`";
