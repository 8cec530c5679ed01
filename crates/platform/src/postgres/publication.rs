//! What the publication lets through: all three tables, every operation that can be mirrored, every row.
//!
//! Invariant: nothing is taken out of it but `truncate`.

use sqlx::PgConnection;

use super::{HEARTBEAT_TABLE, PUBLICATION};
use crate::PlatformError;
use crate::plan::{Action, Component, Plan};

/// The publication as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Publication {
    tables: Vec<String>,
    /// Tables of which it lets only some rows through.
    filtered: Vec<String>,
    insert: bool,
    update: bool,
    delete: bool,
    truncate: bool,
}

/// `None`: there is no such publication.
pub(super) async fn read(
    connection: &mut PgConnection,
) -> Result<Option<Publication>, PlatformError> {
    let refused = |e| PlatformError::refused(Component::Postgres, "reading the publication", e);
    let operations: Option<(bool, bool, bool, bool)> = sqlx::query_as(
        "SELECT pubinsert, pubupdate, pubdelete, pubtruncate FROM pg_publication WHERE pubname = $1",
    )
    .bind(PUBLICATION)
    .fetch_optional(&mut *connection)
    .await
    .map_err(refused)?;
    let Some((insert, update, delete, truncate)) = operations else {
        return Ok(None);
    };
    // row filters are there from Postgres 15 on
    let tables: Vec<(String, bool)> = sqlx::query_as(
        "SELECT tablename::text, to_jsonb(t) ->> 'rowfilter' IS NOT NULL FROM pg_publication_tables t \
         WHERE pubname = $1 AND schemaname = 'public'",
    )
    .bind(PUBLICATION)
    .fetch_all(connection)
    .await
    .map_err(refused)?;
    let filtered = tables.iter().filter(|(_, is_filtered)| *is_filtered);
    Ok(Some(Publication {
        filtered: filtered.map(|(name, _)| name.clone()).collect(),
        tables: tables.into_iter().map(|(name, _)| name).collect(),
        insert,
        update,
        delete,
        truncate,
    }))
}

/// What it lacks.
pub(super) fn judge(found: Option<&Publication>, plan: &mut Plan) {
    let Some(found) = found else { return };
    for table in ["content", "engagement_events", HEARTBEAT_TABLE] {
        if !found.tables.iter().any(|name| name == table) {
            plan.change(
                Component::Postgres,
                format!("table {table} in publication {PUBLICATION}"),
                Action::Postgres(format!(
                    "ALTER PUBLICATION {PUBLICATION} ADD TABLE public.{table}"
                )),
            );
        }
    }
    if !(found.insert && found.update && found.delete) || found.truncate {
        plan.change(
            Component::Postgres,
            format!("operations of publication {PUBLICATION}: insert, update, delete"),
            Action::Postgres(format!(
                "ALTER PUBLICATION {PUBLICATION} SET (publish = 'insert, update, delete')"
            )),
        );
    }
    for table in &found.filtered {
        plan.problem(
            Component::Postgres,
            format!("publication {PUBLICATION} lets only some rows of {table} through"),
            format!(
                "ALTER PUBLICATION {PUBLICATION} DROP TABLE public.{table}; ALTER PUBLICATION {PUBLICATION} ADD TABLE \
                 public.{table}; in one transaction"
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Publication {
        Publication {
            tables: ["content", "engagement_events", HEARTBEAT_TABLE]
                .map(str::to_owned)
                .to_vec(),
            insert: true,
            update: true,
            delete: true,
            ..Publication::default()
        }
    }

    fn judged(publication: &Publication) -> Plan {
        let mut plan = Plan::default();
        judge(Some(publication), &mut plan);
        plan
    }

    #[test]
    fn a_whole_publication_needs_nothing_and_one_that_is_missing_is_made_elsewhere() {
        let plan = judged(&whole());
        assert!(plan.changes.is_empty() && plan.problems.is_empty());
        let mut plan = Plan::default();
        judge(None, &mut plan);
        assert!(plan.changes.is_empty());
    }

    #[test]
    fn a_table_or_an_operation_that_is_missing_is_added() {
        let mut publication = whole();
        publication.tables.remove(1);
        publication.update = false;
        let plan = judged(&publication);
        let what: Vec<_> = plan.changes.iter().map(|it| it.what.as_str()).collect();
        assert!(what[0].contains("engagement_events"), "{what:?}");
        assert!(what[1].contains("operations"), "{what:?}");
    }

    #[test]
    fn truncate_is_left_out_and_a_filter_is_a_problem() {
        let mut publication = whole();
        publication.truncate = true;
        publication.filtered = vec!["content".into()];
        let plan = judged(&publication);
        assert_eq!(plan.changes.len(), 1);
        assert!(plan.problems[0].what.contains("only some rows of content"));
    }
}
