//! ClickHouse: a user for the sink, one for the operator's tool, one for erasing persons, one for whoever reads the views.
//!
//! Invariant: the sink can neither create, alter nor delete; the reader sees the views' rows and nothing else of the server; only
//! who erases may change rows.

use std::fmt::Write as _;

/// Writes the table.
pub const SINK: &str = "clickhouse_sink";
/// Creates the tables, adds columns that they lack, and compares.
pub const OPERATOR: &str = "engagectl";
/// Erases persons (`engagectl erase`).
pub const ERASER: &str = "engagectl_erase";
/// Reads.
pub const READER: &str = "engage_reader";

/// One user and its grants, each without `TO ..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: &'static str,
    /// `GRANT .. ON ..`
    pub grants: Vec<String>,
}

/// The users of that database.
#[must_use]
pub fn users(database: &str) -> [User; 4] {
    let grants = |all: &[&str]| -> Vec<String> {
        let with = |grant: &&str| format!("GRANT {}", grant.replace("{db}", database));
        all.iter().map(with).collect()
    };
    [
        User {
            name: SINK,
            grants: grants(&[
                "SELECT, INSERT ON {db}.events_enriched",
                "SELECT, INSERT ON {db}.events_enriched_fences",
                "SELECT ON system.columns",
                "SELECT ON system.tables",
                "SELECT ON system.processes",
                "SELECT ON system.settings",
                "CREATE TEMPORARY TABLE ON *.*",
                "KILL QUERY ON *.*",
            ]),
        },
        User {
            name: OPERATOR,
            grants: grants(&[
                "CREATE DATABASE, CREATE TABLE, CREATE VIEW, SELECT ON {db}.*",
                "ALTER ADD COLUMN ON {db}.events_enriched",
                "TABLE ENGINE ON ReplacingMergeTree",
                "TABLE ENGINE ON AggregatingMergeTree",
                "SELECT ON system.databases",
                "SELECT ON system.tables",
                "SELECT ON system.columns",
            ]),
        },
        User {
            name: ERASER,
            grants: grants(&[
                "SELECT, ALTER UPDATE, ALTER DELETE ON {db}.*",
                "SELECT ON system.columns",
                "SELECT ON system.tables",
                "SELECT ON system.mutations",
            ]),
        },
        User {
            name: READER,
            grants: grants(&["SELECT ON {db}.*"]),
        },
    ]
}

/// As statements; the users are created beside them, each with a password of its own.
#[must_use]
pub fn statements(database: &str) -> String {
    let mut text = String::new();
    for User { name, grants } in users(database) {
        for grant in grants {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{grant} TO {name};");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sink_writes_its_two_tables_and_can_change_nothing_else() {
        let [sink, operator, _, reader] = users("media");
        let writing: Vec<_> = sink
            .grants
            .iter()
            .filter(|g| g.contains("INSERT"))
            .collect();
        assert!(
            writing
                .iter()
                .all(|grant| grant.contains(" ON media.events_enriched"))
        );
        let all = sink.grants.join(" ");
        assert!(
            !["ALTER", "DROP", "TRUNCATE", "ALL ON"]
                .iter()
                .any(|word| all.contains(word))
        );
        let altering = operator.grants.iter().filter(|g| g.contains("ALTER"));
        let altering: Vec<&String> = altering.collect();
        assert_eq!(
            altering,
            ["GRANT ALTER ADD COLUMN ON media.events_enriched"],
            "init adds what a newer version needs, and changes nothing that is there"
        );
        assert_eq!(reader.grants, ["GRANT SELECT ON media.*"]);
    }
}
