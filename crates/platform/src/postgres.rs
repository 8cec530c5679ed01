//! The source database: tables, full replica identity, heartbeat table, least-privilege role, publication.

mod publication;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use url::Url;

use crate::facts::{self, Heartbeat};
use crate::plan::{Action, Component, Plan};
use crate::{PlatformError, Schema};

/// The publication that Debezium reads. Created without `truncate`, which cannot be mirrored.
pub const PUBLICATION: &str = "engage_cdc";
/// Written by Debezium every few seconds, so that an idle database does not hold its slot back.
pub(crate) const HEARTBEAT_TABLE: &str = "engage_heartbeat";

/// How the source database is reached, and how Debezium will reach it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseSettings {
    /// A connection that may create tables, roles and publications (`DATABASE_URL`).
    #[serde(
        deserialize_with = "service::config::postgres_url",
        serialize_with = "service::config::hidden_secret"
    )]
    pub url: SecretString,
    /// The layout of the two tables, for when they have to be created.
    pub schema: Schema,
    /// The role that shall own tables that have to be created; without it, the connection's own.
    pub owner: Option<String>,
    /// The role that replicates; it can read the two tables and write the heartbeat, and nothing else.
    pub cdc_role: String,
    /// Its password, needed only to create the role and to register the connector.
    #[serde(serialize_with = "service::config::hidden_option")]
    pub cdc_password: Option<SecretString>,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self {
            url: SecretString::from("postgres://engage@127.0.0.1:5432/engage"),
            schema: Schema::Uuid,
            owner: None,
            cdc_role: "engage_cdc".into(),
            cdc_password: None,
        }
    }
}

impl DatabaseSettings {
    pub(crate) fn parsed(&self) -> Result<Url, PlatformError> {
        Url::parse(self.url.expose_secret()).map_err(|e| PlatformError::Setting {
            setting: "DATABASE_URL",
            found: "(not shown: it may hold a password)".into(),
            expected: format!("postgres://user:password@host:5432/database ({e})"),
        })
    }

    /// Host, port and database, without credentials.
    pub(crate) fn address(&self) -> String {
        self.parsed().map_or_else(
            |_| "an address that is no URL".to_owned(),
            |url| address(&url),
        )
    }

    pub(crate) async fn connect(&self) -> Result<PgConnection, PlatformError> {
        let url = self.parsed()?;
        PgConnection::connect(url.as_str())
            .await
            .map_err(|e| PlatformError::Unreachable {
                component: Component::Postgres,
                address: address(&url),
                cause: e.to_string(),
                setting: "DATABASE_URL",
            })
    }
}

fn address(url: &Url) -> String {
    format!(
        "{}:{}{}",
        url.host_str().unwrap_or("localhost"),
        url.port().unwrap_or(5432),
        url.path()
    )
}

/// One thing the database must have: a question that answers true or false, and what creates it.
struct Requirement {
    what: String,
    exists: String,
    create: String,
}

pub(crate) async fn plan(settings: &DatabaseSettings) -> Result<Plan, PlatformError> {
    let mut plan = Plan::default();
    let mut connection = settings.connect().await?;
    check_wal_level(&mut connection, &mut plan).await?;
    for requirement in requirements(settings)? {
        if holds(&mut connection, &requirement).await? {
            plan.have(Component::Postgres, requirement.what);
        } else {
            plan.change(
                Component::Postgres,
                requirement.what,
                Action::Postgres(requirement.create),
            );
        }
    }
    heartbeat_row(&mut connection, &mut plan).await?;
    let found = publication::read(&mut connection).await?;
    publication::judge(found.as_ref(), &mut plan);
    Ok(plan)
}

/// Debezium updates one row; in an empty table that is no change, and moves no slot.
async fn heartbeat_row(
    connection: &mut PgConnection,
    plan: &mut Plan,
) -> Result<(), PlatformError> {
    if facts::heartbeat(connection).await? == Heartbeat::NoRow {
        plan.change(
            Component::Postgres,
            format!("row of table {HEARTBEAT_TABLE}"),
            Action::Postgres(format!(
                "INSERT INTO public.{HEARTBEAT_TABLE} (id) VALUES (1) ON CONFLICT DO NOTHING"
            )),
        );
    }
    Ok(())
}

pub(crate) async fn execute(
    settings: &DatabaseSettings,
    what: &str,
    sql: &str,
) -> Result<(), PlatformError> {
    let mut connection = settings.connect().await?;
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(&mut connection)
        .await
        .map(drop)
        .map_err(|e| PlatformError::refused(Component::Postgres, what, e))
}

async fn check_wal_level(
    connection: &mut PgConnection,
    plan: &mut Plan,
) -> Result<(), PlatformError> {
    let (level,): (String,) = sqlx::query_as("SHOW wal_level")
        .fetch_one(connection)
        .await
        .map_err(|e| PlatformError::refused(Component::Postgres, "reading wal_level", e))?;
    if level == "logical" {
        plan.have(Component::Postgres, "wal_level = logical");
    } else {
        plan.problem(
            Component::Postgres,
            format!("wal_level is {level}, logical is needed to capture changes"),
            "ALTER SYSTEM SET wal_level = logical, then restart Postgres",
        );
    }
    Ok(())
}

async fn holds(
    connection: &mut PgConnection,
    requirement: &Requirement,
) -> Result<bool, PlatformError> {
    let (exists,): (bool,) = sqlx::query_as(AssertSqlSafe(requirement.exists.clone()))
        .fetch_one(connection)
        .await
        .map_err(|e| {
            PlatformError::refused(
                Component::Postgres,
                format!("looking for {}", requirement.what),
                e,
            )
        })?;
    Ok(exists)
}

fn requirements(settings: &DatabaseSettings) -> Result<Vec<Requirement>, PlatformError> {
    let role = identifier("database.cdc_role", &settings.cdc_role)?;
    let owner = settings
        .owner
        .as_deref()
        .map(|owner| identifier("database.owner", owner))
        .transpose()?;
    let mut all = vec![
        Requirement {
            what: "tables content and engagement_events".into(),
            exists: "SELECT to_regclass('public.content') IS NOT NULL \
                     AND to_regclass('public.engagement_events') IS NOT NULL"
                .into(),
            create: owned_by(owner, settings.schema.ddl()),
        },
        full_replica_identity("content"),
        full_replica_identity("engagement_events"),
        Requirement {
            what: format!("table {HEARTBEAT_TABLE}"),
            exists: format!("SELECT to_regclass('public.{HEARTBEAT_TABLE}') IS NOT NULL"),
            create: format!(
                "CREATE TABLE IF NOT EXISTS public.{HEARTBEAT_TABLE} (id integer PRIMARY KEY, ts timestamptz NOT NULL DEFAULT now()); \
                 INSERT INTO public.{HEARTBEAT_TABLE} (id) VALUES (1) ON CONFLICT DO NOTHING"
            ),
        },
    ];
    all.extend(role_requirements(role, settings.cdc_password.as_ref()));
    all.push(publication());
    Ok(all)
}

fn owned_by(owner: Option<&str>, ddl: &str) -> String {
    owner.map_or_else(
        || ddl.to_owned(),
        |owner| format!("SET ROLE {owner}; {ddl}; RESET ROLE"),
    )
}

fn full_replica_identity(table: &str) -> Requirement {
    Requirement {
        what: format!("REPLICA IDENTITY FULL on {table}"),
        exists: format!(
            "SELECT coalesce((SELECT relreplident = 'f' FROM pg_class WHERE oid = to_regclass('public.{table}')), false)"
        ),
        create: format!("ALTER TABLE public.{table} REPLICA IDENTITY FULL"),
    }
}

fn role_requirements(role: &str, password: Option<&SecretString>) -> [Requirement; 2] {
    let password = password.map_or(String::new(), |p| {
        format!(" PASSWORD {}", literal(p.expose_secret()))
    });
    [
        Requirement {
            what: format!("role {role} (replication, no superuser)"),
            exists: format!(
                "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}' AND rolreplication)"
            ),
            create: format!("CREATE ROLE {role} LOGIN REPLICATION{password}"),
        },
        Requirement {
            what: format!("rights of {role}: read both tables, write {HEARTBEAT_TABLE}"),
            exists: format!(
                "SELECT CASE WHEN to_regclass('public.{HEARTBEAT_TABLE}') IS NULL \
                 OR NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN false ELSE \
                 (SELECT bool_and(has_table_privilege('{role}', c.oid, 'SELECT')) FROM pg_class c \
                  WHERE c.oid IN (to_regclass('public.content'), to_regclass('public.engagement_events'))) \
                 AND has_table_privilege('{role}', to_regclass('public.{HEARTBEAT_TABLE}')::oid, 'UPDATE') END"
            ),
            create: format!(
                "GRANT USAGE ON SCHEMA public TO {role}; \
                 GRANT SELECT ON public.content, public.engagement_events TO {role}; \
                 GRANT SELECT, UPDATE ON public.{HEARTBEAT_TABLE} TO {role}"
            ),
        },
    ]
}

fn publication() -> Requirement {
    Requirement {
        what: format!("publication {PUBLICATION} (insert, update, delete)"),
        exists: format!(
            "SELECT EXISTS (SELECT FROM pg_publication WHERE pubname = '{PUBLICATION}')"
        ),
        create: format!(
            "CREATE PUBLICATION {PUBLICATION} FOR TABLE public.content, public.engagement_events, \
             public.{HEARTBEAT_TABLE} WITH (publish = 'insert, update, delete')"
        ),
    }
}

/// Only plain lower-case identifiers, so that nothing has to be quoted.
fn identifier<'a>(setting: &'static str, name: &'a str) -> Result<&'a str, PlatformError> {
    let plain = !name.is_empty()
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain {
        return Ok(name);
    }
    Err(PlatformError::Setting {
        setting,
        found: name.into(),
        expected: "lower-case letters, digits and underscores".into(),
    })
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_in_a_password_does_not_end_the_literal() {
        assert_eq!(literal("it's"), "'it''s'");
    }

    #[test]
    fn a_role_name_that_would_need_quoting_is_refused_by_its_setting() {
        let message = identifier("database.cdc_role", "x; DROP TABLE content")
            .unwrap_err()
            .to_string();
        assert!(message.contains("database.cdc_role"), "{message}");
    }

    #[test]
    fn the_publication_leaves_truncate_out() {
        assert!(
            publication()
                .create
                .contains("publish = 'insert, update, delete'")
        );
    }
}
