//! Does the table have the columns this sink writes, with types that hold every value?
//!
//! Invariant: a difference is named by its column before the first row is sent, not by a failing insert.

use crate::row::{COLUMNS, EventIdType};

/// One column, as `system.columns` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type, as ClickHouse spells it.
    pub type_name: String,
    /// `DEFAULT`, `MATERIALIZED`, `ALIAS` or nothing.
    pub default_kind: String,
}

/// What is wrong with the table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// There is no such table (or it is hidden from this user).
    #[error("table {table} does not exist, or this user may not see it")]
    NoTable {
        /// Database and name.
        table: String,
    },
    /// A column is not there.
    #[error("table {table} has no column {column} (expected {expected})")]
    NoColumn {
        /// Database and name.
        table: String,
        /// The column.
        column: &'static str,
        /// Its type.
        expected: &'static str,
    },
    /// A column has another type.
    #[error("column {column} of table {table} is {found}, expected {expected}")]
    Type {
        /// Database and name.
        table: String,
        /// The column.
        column: &'static str,
        /// The type found.
        found: String,
        /// The type expected.
        expected: &'static str,
    },
    /// A column cannot be written.
    #[error("column {column} of table {table} is {kind} and cannot be written")]
    NotWritable {
        /// Database and name.
        table: String,
        /// The column.
        column: &'static str,
        /// `ALIAS`, `MATERIALIZED` or `EPHEMERAL`.
        kind: String,
    },
    /// The table does not replace rows by revision.
    #[error("table {table} has engine {found}, expected a ReplacingMergeTree(revision, deleted)")]
    Engine {
        /// Database and name.
        table: String,
        /// The engine found.
        found: String,
    },
}

impl SchemaError {
    /// What would be right and the next command to run.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::NoTable { .. } => "create it with: engagectl init",
            Self::NoColumn { .. } => {
                "add the column with ALTER TABLE .. ADD COLUMN, or move the table away and run: engagectl init"
            }
            Self::Type { .. } | Self::NotWritable { .. } => {
                "change the column with ALTER TABLE .. MODIFY COLUMN, or move the table away and run: engagectl init"
            }
            Self::Engine { .. } => "move the table away and run: engagectl init",
        }
    }
}

/// Compares the columns found with those written, and gives the type of `event_id`.
///
/// # Errors
/// The first difference.
pub fn check(table: &str, found: &[Column]) -> Result<EventIdType, SchemaError> {
    if found.is_empty() {
        return Err(SchemaError::NoTable {
            table: table.to_owned(),
        });
    }
    let mut id_type = EventIdType::Int64;
    for (column, sent_as) in COLUMNS {
        let expected = if sent_as.is_empty() {
            "Int64, UUID or String"
        } else {
            sent_as
        };
        let at = found.iter().find(|at| at.name == column);
        let at = at.ok_or_else(|| SchemaError::NoColumn {
            table: table.to_owned(),
            column,
            expected,
        })?;
        if !matches!(at.default_kind.as_str(), "" | "DEFAULT") {
            return Err(SchemaError::NotWritable {
                table: table.to_owned(),
                column,
                kind: at.default_kind.clone(),
            });
        }
        let stored = without_low_cardinality(&at.type_name);
        let fits = if column == "event_id" {
            id_type_of(&stored).map(|found| id_type = found).is_some()
        } else {
            holds(&stored, sent_as)
        };
        if !fits {
            let found = at.type_name.clone();
            return Err(SchemaError::Type {
                table: table.to_owned(),
                column,
                found,
                expected,
            });
        }
    }
    Ok(id_type)
}

/// Whether the engine replaces rows by `revision` and knows `deleted`; Replicated and Shared forms too.
///
/// # Errors
/// It does not.
pub fn check_engine(table: &str, engine_full: &str) -> Result<(), SchemaError> {
    let head = engine_full
        .split(" PARTITION BY ")
        .next()
        .unwrap_or_default();
    let replaces = head.contains("ReplacingMergeTree(") && head.contains("revision, deleted)");
    if replaces {
        return Ok(());
    }
    Err(SchemaError::Engine {
        table: table.to_owned(),
        found: head.chars().take(120).collect(),
    })
}

/// Whether an answered insert is on the disk, by the table's settings.
#[must_use]
pub fn is_synced(engine_full: &str) -> bool {
    engine_full.contains("fsync_after_insert = 1")
        && engine_full.contains("fsync_part_directory = 1")
}

fn id_type_of(stored: &str) -> Option<EventIdType> {
    [EventIdType::Int64, EventIdType::Uuid, EventIdType::String]
        .into_iter()
        .find(|id_type| id_type.name() == stored)
}

/// Exactly the type, but for the time zone, which only concerns how it is shown.
fn holds(stored: &str, sent_as: &str) -> bool {
    let plain = |text: &str| text.replace(", 'UTC'", "").replace(' ', "");
    plain(stored) == plain(sent_as)
}

/// `LowCardinality` changes the storage only.
fn without_low_cardinality(type_name: &str) -> String {
    let Some(at) = type_name.find("LowCardinality(") else {
        return type_name.to_owned();
    };
    let (before, rest) = (&type_name[..at], &type_name[at + "LowCardinality(".len()..]);
    let mut depth = 1_usize;
    let end = rest.char_indices().find(|(_, c)| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    end.map_or_else(
        || type_name.to_owned(),
        |(end, _)| format!("{before}{}{}", &rest[..end], &rest[end + 1..]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Vec<Column> {
        let found = COLUMNS.map(|(name, sent_as)| Column {
            name: name.into(),
            type_name: if sent_as.is_empty() { "Int64" } else { sent_as }.into(),
            default_kind: String::new(),
        });
        found.into()
    }

    fn with(name: &str, type_name: &str, kind: &str) -> Vec<Column> {
        let mut columns = columns();
        let column = columns
            .iter_mut()
            .find(|column| column.name == name)
            .unwrap();
        (column.type_name, column.default_kind) = (type_name.into(), kind.into());
        columns
    }

    #[test]
    fn the_type_of_event_id_is_that_of_the_table() {
        assert_eq!(check("t", &columns()), Ok(EventIdType::Int64));
        assert_eq!(
            check("t", &with("event_id", "UUID", "")),
            Ok(EventIdType::Uuid)
        );
        assert_eq!(
            check("t", &with("event_id", "String", "")),
            Ok(EventIdType::String)
        );
        let wrong = check("t", &with("event_id", "UInt32", "")).unwrap_err();
        assert_eq!(
            wrong.to_string(),
            "column event_id of table t is UInt32, expected Int64, UUID or String"
        );
    }

    #[test]
    fn storage_details_make_no_difference() {
        for (name, type_name) in [
            ("event_type", "LowCardinality(String)"),
            ("device", "LowCardinality(Nullable(String))"),
            ("anomalies", "Array(LowCardinality(String))"),
            ("event_ts", "DateTime64(6)"),
        ] {
            assert!(
                check("t", &with(name, type_name, "")).is_ok(),
                "{name} {type_name}"
            );
        }
    }

    #[test]
    fn a_difference_is_named_by_its_column() {
        let mut fewer = columns();
        fewer.retain(|column| column.name != "src_offset");
        assert_eq!(
            check("db.t", &fewer).unwrap_err().to_string(),
            "table db.t has no column src_offset (expected Int64)"
        );
        let narrow = check("db.t", &with("duration_ms", "Nullable(Int32)", "")).unwrap_err();
        assert_eq!(
            narrow.to_string(),
            "column duration_ms of table db.t is Nullable(Int32), expected Nullable(Int64)"
        );
        let alias = check(
            "db.t",
            &with("engagement_ratio", "Nullable(Decimal(18, 4))", "ALIAS"),
        )
        .unwrap_err();
        assert!(
            alias
                .to_string()
                .ends_with("is ALIAS and cannot be written")
        );
        let none = check("db.t", &[]).unwrap_err();
        assert!(none.remedy().contains("engagectl init"));
    }

    #[test]
    fn the_engine_must_replace_by_revision() {
        let ours = "ReplacingMergeTree(revision, deleted) PARTITION BY toYYYYMM(event_ts) ORDER BY x SETTINGS fsync_after_insert = 1, fsync_part_directory = 1";
        assert!(check_engine("t", ours).is_ok() && is_synced(ours));
        assert!(
            check_engine(
                "t",
                "ReplicatedReplacingMergeTree('/x', '{replica}', revision, deleted) ORDER BY x"
            )
            .is_ok()
        );
        assert!(
            check_engine("t", "MergeTree PARTITION BY x ORDER BY (revision, deleted)").is_err()
        );
        assert!(check_engine("t", "ReplacingMergeTree(revision) ORDER BY x").is_err());
    }
}
