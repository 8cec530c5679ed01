//! The person in Postgres.
//!
//! Invariant: what is done to the rows is one statement: all of it is there, or none.

use platform::DatabaseSettings;
use secrecy::ExposeSecret as _;
use service::Failure;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use super::args::InPostgres;
use super::person::Person;
use super::search::Place;

const TABLE: &str = "engagement_events";
/// The columns that are personal, whose person is in the first.
const PERSONAL: [&str; 3] = ["user_id", "device", "raw_payload"];
/// SQLSTATE of a text that is no value of its type, and of a number out of its range.
const NO_VALUE: [&str; 2] = ["22P02", "22003"];

/// The source database.
pub(super) struct Database {
    connection: PgConnection,
    columns: Vec<Column>,
}

/// A column of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Column {
    name: String,
    kind: String,
    not_null: bool,
}

impl Database {
    /// # Errors
    /// It does not answer (69), or the table has no users (78).
    pub(super) async fn open(settings: &DatabaseSettings) -> Result<Self, Failure> {
        let url = settings.url.expose_secret();
        let mut connection = PgConnection::connect(url)
            .await
            .map_err(|e| unanswered(&e))?;
        let sql = "SELECT attname::text, format_type(atttypid, NULL), attnotnull FROM pg_attribute \
                   WHERE attrelid = to_regclass($1) AND attname = ANY($2) AND NOT attisdropped";
        let found = sqlx::query(sql)
            .bind(TABLE)
            .bind(PERSONAL.map(str::to_owned).to_vec())
            .fetch_all(&mut connection)
            .await
            .map_err(|e| unanswered(&e))?;
        let column = |row: &sqlx::postgres::PgRow| Column {
            name: row.get(0),
            kind: row.get(1),
            not_null: row.get(2),
        };
        let columns: Vec<Column> = found.iter().map(column).collect();
        if !columns.iter().any(|column| column.name == PERSONAL[0]) {
            return Err(Failure::repair(format!("there is no {TABLE}.user_id"))
                .remedy("let DATABASE_URL name the database that the services read, and its role see the table")
                .next("engagectl check"));
        }
        Ok(Self {
            connection,
            columns,
        })
    }

    /// The user in the canonical text of the column's type.
    ///
    /// # Errors
    /// It is no value of that type (64).
    pub(super) async fn person(&mut self, user: &str) -> Result<Person, Failure> {
        let sql = format!("SELECT ({})::text", self.parameter());
        let found = sqlx::query_scalar::<_, String>(AssertSqlSafe(sql))
            .bind(user)
            .fetch_one(&mut self.connection)
            .await;
        found.map(Person::new).map_err(|error| {
            let code = error
                .as_database_error()
                .and_then(sqlx::error::DatabaseError::code);
            if code.is_some_and(|code| NO_VALUE.contains(&&*code)) {
                let kind = self.kind();
                return Failure::usage(format!(
                    "--user is no {kind}, and {TABLE}.user_id holds nothing else"
                ))
                .remedy("give the id as the application has written it");
            }
            unanswered(&error)
        })
    }

    /// How many rows there are.
    pub(super) async fn count(&mut self, person: &Person) -> Result<Place, Failure> {
        let sql = format!(
            "SELECT count(*) FROM {TABLE} WHERE user_id = {}",
            self.parameter()
        );
        let count = sqlx::query_scalar::<_, i64>(AssertSqlSafe(sql))
            .bind(person.id())
            .fetch_one(&mut self.connection)
            .await
            .map_err(|e| unanswered(&e))?;
        Ok(Place {
            store: "postgres",
            name: TABLE.to_owned(),
            count: count.unsigned_abs(),
        })
    }

    /// Whether it can be done at all.
    ///
    /// # Errors
    /// A column may not be NULL (64).
    pub(super) fn allows(&self, what: InPostgres) -> Result<(), Failure> {
        let user = self
            .columns
            .iter()
            .find(|column| column.name == PERSONAL[0]);
        if what == InPostgres::Null && user.is_some_and(|column| column.not_null) {
            return Err(Failure::usage(format!("{TABLE}.user_id may not be NULL"))
                .remedy("give --postgres delete"));
        }
        Ok(())
    }

    /// Takes the person out of the rows; says of how many.
    pub(super) async fn erase(
        &mut self,
        person: &Person,
        what: InPostgres,
    ) -> Result<u64, Failure> {
        let Some(sql) = statement(what, &self.columns) else {
            return Ok(0);
        };
        let done = sqlx::query(AssertSqlSafe(sql))
            .bind(person.id())
            .execute(&mut self.connection)
            .await;
        done.map(|done| done.rows_affected()).map_err(|error| {
            Failure::unavailable("Postgres has not taken the person out of the rows")
                .cause(error)
                .remedy("give the role of DATABASE_URL the rights of engage_erase: engagectl access postgres")
        })
    }

    /// The end of the log, which covers everything that was committed so far.
    pub(super) async fn position(&mut self) -> Result<i64, Failure> {
        self.number(
            "SELECT (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint",
            None,
        )
        .await
        .map(Option::unwrap_or_default)
    }

    /// Up to where the connector has confirmed what it has written; `None` where there is no such slot, and nothing is captured.
    pub(super) async fn captured(&mut self, slot: &str) -> Result<Option<i64>, Failure> {
        let sql = "SELECT (confirmed_flush_lsn - '0/0'::pg_lsn)::bigint FROM pg_replication_slots WHERE slot_name = $1";
        self.number(sql, Some(slot)).await
    }

    async fn number(
        &mut self,
        sql: &'static str,
        argument: Option<&str>,
    ) -> Result<Option<i64>, Failure> {
        let mut query = sqlx::query_scalar::<_, Option<i64>>(sql);
        if let Some(argument) = argument {
            query = query.bind(argument.to_owned());
        }
        let found = query.fetch_optional(&mut self.connection).await;
        found
            .map(|found| found.map(Option::unwrap_or_default))
            .map_err(|e| unanswered(&e))
    }

    fn kind(&self) -> &str {
        let user = self
            .columns
            .iter()
            .find(|column| column.name == PERSONAL[0]);
        user.map_or("text", |column| &column.kind)
    }

    /// The user as a value of the column, so that an index serves.
    fn parameter(&self) -> String {
        format!("$1::text::{}", self.kind())
    }
}

/// The one statement; `None`: nothing is to be done.
fn statement(what: InPostgres, columns: &[Column]) -> Option<String> {
    let user = columns.iter().find(|column| column.name == PERSONAL[0])?;
    let condition = format!("WHERE user_id = $1::text::{}", user.kind);
    let blanked: Vec<String> = columns
        .iter()
        .filter(|column| !column.not_null)
        .map(|column| format!("{} = NULL", column.name))
        .collect();
    match what {
        InPostgres::Keep => None,
        InPostgres::Delete => Some(format!("DELETE FROM {TABLE} {condition}")),
        InPostgres::Null => Some(format!(
            "UPDATE {TABLE} SET {} {condition}",
            blanked.join(", ")
        )),
    }
}

fn unanswered(error: &sqlx::Error) -> Failure {
    Failure::unavailable("Postgres cannot be asked")
        .cause(error.to_string())
        .remedy("correct DATABASE_URL, and give its role the rights of engage_erase: engagectl access postgres")
        .next("engagectl check")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(not_null: &[&str]) -> Vec<Column> {
        let column = |name: &str| Column {
            name: name.into(),
            kind: "uuid".into(),
            not_null: not_null.contains(&name),
        };
        PERSONAL.iter().map(|name| column(name)).collect()
    }

    #[test]
    fn a_row_is_blanked_or_deleted_by_the_type_of_its_column() {
        assert_eq!(
            statement(InPostgres::Null, &columns(&[])).unwrap(),
            "UPDATE engagement_events SET user_id = NULL, device = NULL, raw_payload = NULL WHERE user_id = $1::text::uuid"
        );
        assert_eq!(
            statement(InPostgres::Delete, &columns(&[])).unwrap(),
            "DELETE FROM engagement_events WHERE user_id = $1::text::uuid"
        );
        assert_eq!(statement(InPostgres::Keep, &columns(&[])), None);
    }

    #[test]
    fn a_column_that_may_not_be_null_is_left_and_one_that_is_not_there_not_named() {
        let some = statement(InPostgres::Null, &columns(&["device"])).unwrap();
        assert!(some.contains("SET user_id = NULL, raw_payload = NULL WHERE"));
        let few = statement(InPostgres::Null, &columns(&[])[..1]).unwrap();
        assert!(few.contains("SET user_id = NULL WHERE"));
    }
}
