//! The columns and the engine of the table of events, against the definition that `engagectl init` creates it from. Pure.
//!
//! Invariant: only a column that may be NULL, or is computed, is added to a table that exists: any other would give rows that are
//! there already a value that nobody wrote.

use crate::plan::{Action, Component, Plan};

/// The table of events.
pub(super) const TABLE: &str = "events_enriched";

/// A column as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    name: String,
    type_name: String,
    /// Name, type and the rest, as in `CREATE TABLE`.
    definition: String,
}

/// A column as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    name: String,
    type_name: String,
    kind: String,
}

/// The columns of a `CREATE TABLE`.
pub(super) fn wanted(statement: &str) -> Vec<Wanted> {
    let sql: Vec<&str> = statement
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .collect();
    let sql = sql.join("\n");
    let body = sql.split_once('(').map_or("", |(_, rest)| rest);
    let items = split(body, ',');
    let items = items.iter().map(|item| item.trim());
    items
        .filter(|item| !item.starts_with("INDEX ") && !item.is_empty())
        .filter_map(|item| {
            let (name, rest) = item.split_once(char::is_whitespace)?;
            let type_name = split(rest.trim_start(), ' ').into_iter().next()?;
            Some(Wanted {
                name: name.to_owned(),
                type_name: type_name.to_owned(),
                definition: item.split_whitespace().collect::<Vec<_>>().join(" "),
            })
        })
        .collect()
}

/// The parts of a text between separators that stand in no bracket and no quotation, up to the bracket that closes all.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut begun, mut depth, mut quoted) = (Vec::new(), 0, 0_usize, false);
    for (at, c) in text.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            _ if quoted => {}
            '(' => depth += 1,
            ')' if depth == 0 => {
                parts.push(&text[begun..at]);
                return parts;
            }
            ')' => depth -= 1,
            c if c == separator && depth == 0 => {
                parts.push(&text[begun..at]);
                begun = at + c.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[begun..]);
    parts
}

/// The columns of a table, from lines of name, type and kind of default.
pub(super) fn found(lines: &str) -> Vec<Found> {
    let column = |line: &str| {
        let mut fields = line.split('\t').map(str::to_owned);
        Some(Found {
            name: fields.next()?,
            type_name: fields.next()?,
            kind: fields.next().unwrap_or_default(),
        })
    };
    lines.lines().filter_map(column).collect()
}

/// What the table lacks.
pub(super) fn judge(table: &str, wanted: &[Wanted], found: &[Found], plan: &mut Plan) {
    for column in wanted {
        let Wanted {
            name, type_name, ..
        } = column;
        match found.iter().find(|at| at.name == *name) {
            None if is_harmless(column) => plan.change(
                Component::ClickHouse,
                format!("column {name} {type_name} of {table}"),
                Action::ClickHouse(format!(
                    "ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {}",
                    column.definition
                )),
            ),
            None => plan.problem(
                Component::ClickHouse,
                format!("{table} has no column {name} ({type_name})"),
                "its rows cannot get what they never had: move the table away (RENAME TABLE), then `engagectl init` and \
                 `engagectl lineage adopt --table refill`",
            ),
            Some(at) if !fits(column, at) => plan.problem(
                Component::ClickHouse,
                format!("{table}.{name} is {}, {type_name} is needed", at.type_name),
                format!("ALTER TABLE {table} MODIFY COLUMN {name} {type_name}"),
            ),
            Some(_) => {}
        }
    }
}

/// The engine must replace rows by revision and know deletions; replicated and shared forms too.
pub(super) fn judge_engine(table: &str, engine: &str, plan: &mut Plan) {
    let head = engine.split(" PARTITION BY ").next().unwrap_or_default();
    if head.contains("ReplacingMergeTree(") && head.contains("revision, deleted)") {
        return;
    }
    let head: String = head.trim().chars().take(120).collect();
    plan.problem(
        Component::ClickHouse,
        format!("{table} has engine {head}, ReplacingMergeTree(revision, deleted) is needed"),
        "move the table away (RENAME TABLE), then `engagectl init` and `engagectl lineage adopt --table refill`",
    );
}

fn is_harmless(column: &Wanted) -> bool {
    column.type_name.contains("Nullable(") || column.definition.contains(" ALIAS ")
}

/// Low cardinality and time zone concern storage and show only; the key may have any of three types.
fn fits(column: &Wanted, found: &Found) -> bool {
    if column.definition.contains(" ALIAS ") {
        return true;
    }
    if column.name == "event_id" {
        return ["Int64", "UUID", "String"].contains(&plain(&found.type_name).as_str());
    }
    plain(&column.type_name) == plain(&found.type_name) && ["", "DEFAULT"].contains(&&*found.kind)
}

fn plain(type_name: &str) -> String {
    let text = type_name.replace(", 'UTC'", "").replace(' ', "");
    without("LowCardinality(", &text)
}

/// A type without a wrapper of this name.
fn without(wrapper: &str, text: &str) -> String {
    let Some((before, rest)) = text.split_once(wrapper) else {
        return text.to_owned();
    };
    // up to the bracket that closes the wrapper
    let inner = split(rest, '\0')[0];
    let after = rest.get(inner.len() + 1..).unwrap_or_default();
    format!("{before}{inner}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DDL: &str = include_str!("../../../../deploy/clickhouse/02_events_enriched.sql");
    const NAME: &str = "engagement.events_enriched";

    fn definition() -> Vec<Wanted> {
        let first = DDL.split(';').next().unwrap();
        wanted(&first.replace("{event_id_type}", "Int64"))
    }

    fn whole() -> Vec<Found> {
        let column = |wanted: Wanted| Found {
            name: wanted.name,
            type_name: wanted.type_name,
            kind: String::new(),
        };
        definition().into_iter().map(column).collect()
    }

    fn judged(found: &[Found]) -> Plan {
        let mut plan = Plan::default();
        judge(NAME, &definition(), found, &mut plan);
        plan
    }

    #[test]
    fn the_definition_is_read_column_by_column_and_without_indexes() {
        let all = definition();
        let of = |name: &str| all.iter().find(|column| column.name == name).unwrap();
        assert_eq!(all.len(), 32, "{all:#?}");
        assert_eq!(of("event_ts").type_name, "DateTime64(6, 'UTC')");
        assert_eq!(of("device").type_name, "LowCardinality(Nullable(String))");
        assert_eq!(
            of("engagement_ratio").type_name,
            "Nullable(Decimal(18, 4))",
            "the comma in its comment ends nothing"
        );
        assert!(!all.iter().any(|column| column.name == "INDEX"));
    }

    #[test]
    fn the_table_as_it_is_created_is_right() {
        let plan = judged(&whole());
        assert!(plan.problems.is_empty(), "{:?}", plan.problems);
        assert!(plan.changes.is_empty(), "{:?}", plan.changes);
    }

    #[test]
    fn storage_details_and_the_type_of_the_key_make_no_difference() {
        let mut found = whole();
        for column in &mut found {
            column.type_name = match column.name.as_str() {
                "event_id" => "UUID".into(),
                "device" => "Nullable(String)".into(),
                "anomalies" => "Array(String)".into(),
                "event_ts" => "DateTime64(6)".into(),
                _ => continue,
            };
        }
        assert!(judged(&found).problems.is_empty());
    }

    #[test]
    fn a_column_that_may_be_null_is_added_and_any_other_is_a_problem() {
        let mut found = whole();
        found.retain(|column| !["device", "src_row"].contains(&column.name.as_str()));
        let plan = judged(&found);
        assert_eq!(plan.changes.len(), 1);
        assert!(plan.changes[0].what.contains("column device"));
        assert!(plan.problems[0].what.contains("no column src_row"));
        assert!(plan.problems[0].remedy.contains("--table refill"));
    }

    #[test]
    fn another_type_is_named_with_the_statement_that_changes_it() {
        let mut found = whole();
        let column = found
            .iter_mut()
            .find(|it| it.name == "duration_ms")
            .unwrap();
        column.type_name = "Nullable(Int32)".into();
        let plan = judged(&found);
        assert!(
            plan.problems[0]
                .remedy
                .contains("MODIFY COLUMN duration_ms Nullable(Int64)")
        );
    }

    #[test]
    fn the_engine_must_replace_by_revision_and_know_deletions() {
        let judged = |engine: &str| {
            let mut plan = Plan::default();
            judge_engine(NAME, engine, &mut plan);
            plan.problems.len()
        };
        assert_eq!(
            judged("ReplacingMergeTree(revision, deleted) PARTITION BY x"),
            0
        );
        let replicated =
            "ReplicatedReplacingMergeTree('/p', '{replica}', revision, deleted) PARTITION BY x";
        assert_eq!(judged(replicated), 0);
        assert_eq!(judged("MergeTree PARTITION BY x ORDER BY revision"), 1);
        assert_eq!(judged("ReplacingMergeTree(revision) ORDER BY x"), 1);
    }
}
