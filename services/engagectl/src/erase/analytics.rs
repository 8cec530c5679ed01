//! The person in ClickHouse: in `events_enriched`, and in whatever tables somebody has derived from it in the same database.
//!
//! Rows are blanked, not deleted: rows that are gone from the end of a partition are what the sink takes for an emptied table. No
//! statement names the user: it would stay in `system.query_log` and `system.mutations`. It names a salted hash.

use std::time::Duration;

use platform::ClickHouseSettings;
use service::Failure;
use tokio::time::Instant;

use super::person::Person;
use super::search::Place;

/// Between two looks at a mutation.
const PAUSE: Duration = Duration::from_millis(200);
/// The sink's own table, whose rows must stay.
const OWN: &str = "events_enriched";
const PERSONAL: [&str; 3] = ["user_id", "device", "raw_payload"];

/// The analytics store.
pub(super) struct Analytics {
    settings: ClickHouseSettings,
    /// Of the hashes; one for a run, so that a run that goes on sends the same statements.
    salt: String,
    tables: Vec<Table>,
}

/// A table that has a column `user_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Table {
    name: String,
    /// Which of the personal columns may be NULL and are no part of a key.
    blank: Vec<String>,
}

impl Analytics {
    /// # Errors
    /// It does not answer, or refuses (69).
    pub(super) async fn open(
        settings: &ClickHouseSettings,
        salt: impl Into<String>,
    ) -> Result<Self, Failure> {
        let columns = columns_query(&settings.database);
        let answer = ask(settings, "reading the tables with users", &columns).await?;
        Ok(Self {
            settings: settings.clone(),
            salt: salt.into(),
            tables: tables(&answer),
        })
    }

    /// How many rows there are, table by table.
    pub(super) async fn count(&self, person: &Person) -> Result<Vec<Place>, Failure> {
        let mut places = Vec::new();
        for table in &self.tables {
            let sql = format!(
                "SELECT count() FROM {} WHERE {}",
                self.name(table),
                self.condition(person)
            );
            let answer = ask(&self.settings, "counting a user's rows", &sql).await?;
            let count = answer.trim().parse().map_err(|_| {
                Failure::internal(format!("ClickHouse counts {:?} rows", answer.trim()))
            })?;
            places.push(Place {
                store: "clickhouse",
                name: format!("{}.{}", self.settings.database, table.name),
                count,
            });
        }
        Ok(places)
    }

    /// Blanks what is found, and waits until every part has been written anew.
    ///
    /// # Errors
    /// It refuses, or a mutation fails (69); it is not through by the deadline (75).
    pub(super) async fn erase(
        &self,
        person: &Person,
        found: &[Place],
        deadline: Instant,
    ) -> Result<(), Failure> {
        for (table, place) in self.tables.iter().zip(found) {
            if place.count == 0 {
                continue;
            }
            let sql = statement(&self.name(table), table, &self.condition(person));
            ask(&self.settings, "taking a user out of the rows", &sql).await?;
            self.wait(table, person, deadline).await?;
        }
        Ok(())
    }

    async fn wait(&self, table: &Table, person: &Person, deadline: Instant) -> Result<(), Failure> {
        let sql = format!(
            "SELECT count(), max(latest_fail_reason) FROM system.mutations WHERE database = '{}' AND table = '{}' \
             AND NOT is_done AND position(command, '{}') > 0 FORMAT TSV",
            literal(&self.settings.database),
            literal(&table.name),
            person.hash(&self.salt)
        );
        loop {
            let answer = ask(&self.settings, "waiting for a mutation", &sql).await?;
            let (open, reason) = answer.trim_end().split_once('\t').unwrap_or(("0", ""));
            if !reason.trim().is_empty() {
                return Err(Failure::unavailable(format!(
                    "ClickHouse cannot rewrite table {}",
                    table.name
                ))
                .cause(reason.to_owned())
                .remedy("repair what it says; the mutation goes on by itself (system.mutations)"));
            }
            if open == "0" {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Failure::try_again(format!(
                    "ClickHouse is still rewriting table {}",
                    table.name
                ))
                .remedy(
                    "it goes on by itself; run the same command again, with a longer --within",
                ));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn condition(&self, person: &Person) -> String {
        format!(
            "lower(hex(SHA256(concat('{}', toString(user_id))))) = '{}'",
            literal(&self.salt),
            person.hash(&self.salt)
        )
    }

    fn name(&self, table: &Table) -> String {
        format!("`{}`.`{}`", self.settings.database, table.name)
    }
}

/// Personal columns of all tables that keep rows, one a line: table, column, whether it can be blanked.
fn columns_query(database: &str) -> String {
    format!(
        "SELECT c.table, c.name, position(c.type, 'Nullable(') IN (1, 16), \
         c.is_in_sorting_key OR c.is_in_partition_key OR c.is_in_primary_key \
         FROM system.columns AS c JOIN system.tables AS t ON t.database = c.database AND t.name = c.table \
         WHERE c.database = '{}' AND t.engine LIKE '%MergeTree' AND c.name IN ('{}') ORDER BY c.table, c.position FORMAT TSV",
        literal(database),
        PERSONAL.join("', '")
    )
}

/// The tables of an answer that have a user.
fn tables(answer: &str) -> Vec<Table> {
    let mut tables: Vec<(Table, bool)> = Vec::new();
    for line in answer.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[table, column, nullable, key] = fields.as_slice() else {
            continue;
        };
        if tables.last().is_none_or(|(last, _)| last.name != table) {
            let table = Table {
                name: table.to_owned(),
                blank: Vec::new(),
            };
            tables.push((table, false));
        }
        if let Some((last, has_user)) = tables.last_mut() {
            *has_user |= column == PERSONAL[0];
            if nullable == "1" && key == "0" {
                last.blank.push(column.to_owned());
            }
        }
    }
    let with_users = tables.into_iter().filter(|(_, has_user)| *has_user);
    with_users.map(|(table, _)| table).collect()
}

/// What rewrites a table: rows stay where the user can be blanked, and always in the sink's own.
fn statement(name: &str, table: &Table, condition: &str) -> String {
    let can_blank = table.blank.iter().any(|column| column == PERSONAL[0]);
    if !can_blank && table.name != OWN {
        return format!("ALTER TABLE {name} DELETE WHERE {condition}");
    }
    let blank: Vec<String> = table
        .blank
        .iter()
        .map(|column| format!("{column} = NULL"))
        .collect();
    format!(
        "ALTER TABLE {name} UPDATE {} WHERE {condition}",
        blank.join(", ")
    )
}

fn literal(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

async fn ask(settings: &ClickHouseSettings, step: &str, sql: &str) -> Result<String, Failure> {
    let answer = platform::run_in_clickhouse(settings, step, sql).await;
    answer.map_err(crate::init::failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, blank: &[&str]) -> Table {
        Table {
            name: name.into(),
            blank: blank.iter().map(|column| (*column).to_owned()).collect(),
        }
    }

    #[test]
    fn tables_with_users_are_found_with_what_can_be_blanked() {
        let answer = "daily\tuser_id\t0\t1\n\
                      events_enriched\tuser_id\t1\t0\nevents_enriched\tdevice\t1\t0\nevents_enriched\traw_payload\t1\t0\n\
                      per_device\tdevice\t1\t1\n";
        assert_eq!(
            tables(answer),
            [
                table("daily", &[]),
                table("events_enriched", &["user_id", "device", "raw_payload"]),
            ]
        );
        assert_eq!(tables(""), []);
    }

    #[test]
    fn the_sinks_rows_stay_and_rows_sorted_by_user_go() {
        let own = statement("t", &table(OWN, &["user_id", "device"]), "c");
        assert_eq!(
            own,
            "ALTER TABLE t UPDATE user_id = NULL, device = NULL WHERE c"
        );
        let derived = statement("t", &table("daily", &[]), "c");
        assert_eq!(derived, "ALTER TABLE t DELETE WHERE c");
    }

    #[test]
    fn no_statement_names_the_user() {
        let analytics = Analytics {
            settings: ClickHouseSettings::default(),
            salt: "it's".into(),
            tables: Vec::new(),
        };
        let condition = analytics.condition(&Person::new("somebody"));
        assert!(!condition.contains("somebody"), "{condition}");
        assert!(condition.contains("concat('it\\'s', toString(user_id))"));
        assert!(condition.ends_with(&format!("'{}'", Person::new("somebody").hash("it's"))));
    }
}
