//! The analytics store: database, table and views from `deploy/clickhouse/*.sql`.

mod columns;

use std::time::Duration;

use reqwest::Client;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use service::TlsFiles;
use url::Url;

use crate::plan::{Action, Component, Plan};
use crate::{PlatformError, Settings};

/// Applied in this order, one statement per semicolon.
const FILES: [&str; 4] = [
    include_str!("../../../deploy/clickhouse/01_database.sql"),
    include_str!("../../../deploy/clickhouse/02_events_enriched.sql"),
    include_str!("../../../deploy/clickhouse/03_views.sql"),
    include_str!("../../../deploy/clickhouse/04_profiles.sql"),
];

/// The type of the `event_id` column: the source key's own.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum EventIdType {
    /// `BIGINT` keys.
    #[default]
    Int64,
    /// `UUID` keys.
    #[serde(rename = "UUID")]
    Uuid,
    /// `TEXT` keys.
    String,
}

impl EventIdType {
    fn name(self) -> &'static str {
        match self {
            Self::Int64 => "Int64",
            Self::Uuid => "UUID",
            Self::String => "String",
        }
    }
}

/// Where ClickHouse is.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClickHouseSettings {
    /// The HTTP interface (`CLICKHOUSE_URL`).
    #[serde(serialize_with = "service::config::hidden_url")]
    pub url: Url,
    /// With `https://`: the authorities to trust, and this client's certificate.
    pub tls: TlsFiles,
    /// `CLICKHOUSE_USER`.
    pub user: String,
    /// `CLICKHOUSE_PASSWORD`.
    #[serde(serialize_with = "service::config::hidden_option")]
    pub password: Option<SecretString>,
    /// `CLICKHOUSE_DATABASE`.
    pub database: String,
    /// The type of `events_enriched.event_id`, for when the table has to be created.
    pub event_id_type: EventIdType,
}

impl Default for ClickHouseSettings {
    fn default() -> Self {
        Self {
            url: Url::parse("http://127.0.0.1:8123").expect("the literal is a URL"),
            tls: TlsFiles::default(),
            user: "default".into(),
            password: None,
            database: "engagement".into(),
            event_id_type: EventIdType::Int64,
        }
    }
}

pub(crate) async fn plan(settings: &ClickHouseSettings) -> Result<Plan, PlatformError> {
    let mut plan = Plan::default();
    let listing = "SELECT name FROM system.databases UNION ALL SELECT concat(database, '.', name) FROM system.tables";
    let existing = query(settings, "reading the tables", listing).await?;
    let is_there = existing.lines().any(|line| line == settings.database);
    if !is_there && !may_create(settings).await? {
        let ClickHouseSettings { user, database, .. } = settings;
        plan.problem(
            Component::ClickHouse,
            format!("user {user} sees no database {database}, and may not create one"),
            "name a user who may in CLICKHOUSE_USER and CLICKHOUSE_PASSWORD (after `make up`: engage, engage)",
        );
        return Ok(plan);
    }
    for statement in statements(settings) {
        let Some(object) = created_object(&statement) else {
            continue;
        };
        let what = format!("{} {}", object.kind, object.name);
        if existing.lines().any(|line| line == object.name) {
            plan.have(Component::ClickHouse, what);
        } else {
            plan.change(Component::ClickHouse, what, Action::ClickHouse(statement));
        }
    }
    check_table(settings, &mut plan).await?;
    Ok(plan)
}

/// Whether the user has the right to create the database: one that is there is not shown to who may do nothing in it.
async fn may_create(settings: &ClickHouseSettings) -> Result<bool, PlatformError> {
    let database = settings.database.replace('`', "");
    let sql = format!("CHECK GRANT CREATE DATABASE ON `{database}`.*");
    match query(settings, "asking what the user may do", &sql).await {
        Ok(answer) => Ok(answer.trim() == "1"),
        // servers before 24.11 do not know the question
        Err(PlatformError::Refused { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// The table of events, if it is there, against its definition.
async fn check_table(settings: &ClickHouseSettings, plan: &mut Plan) -> Result<(), PlatformError> {
    let table = format!("{}.{}", settings.database, columns::TABLE);
    let all = statements(settings);
    let named = |statement: &&String| created_object(statement).is_some_and(|it| it.name == table);
    let Some(definition) = all.iter().find(named) else {
        return Ok(());
    };
    let database = settings.database.replace(['\\', '\''], "");
    let place = format!(
        "WHERE database = '{database}' AND table = '{}'",
        columns::TABLE
    );
    let sql = format!("SELECT name, type, default_kind FROM system.columns {place} FORMAT TSVRaw");
    let found = columns::found(&query(settings, "reading the columns", &sql).await?);
    if found.is_empty() {
        return Ok(());
    }
    columns::judge(&table, &columns::wanted(definition), &found, plan);
    let place = place.replace("AND table =", "AND name =");
    let sql = format!("SELECT engine_full FROM system.tables {place} FORMAT TSVRaw");
    columns::judge_engine(
        &table,
        &query(settings, "reading the engine", &sql).await?,
        plan,
    );
    Ok(())
}

pub(crate) async fn execute(
    settings: &Settings,
    what: &str,
    sql: &str,
) -> Result<(), PlatformError> {
    let Some(clickhouse) = &settings.clickhouse else {
        return Ok(());
    };
    query(clickhouse, &format!("creating {what}"), sql)
        .await
        .map(drop)
}

/// What the server answers to one statement, within 30 s. `step` says in words what it is for.
///
/// # Errors
/// It cannot be reached, or answers with an exception.
pub async fn query(
    settings: &ClickHouseSettings,
    step: &str,
    sql: &str,
) -> Result<String, PlatformError> {
    let mut request = client(&settings.tls)?
        .post(settings.url.clone())
        .header("X-ClickHouse-User", &settings.user);
    if let Some(password) = &settings.password {
        request = request.header("X-ClickHouse-Key", password.expose_secret());
    }
    let response =
        request
            .body(sql.to_owned())
            .send()
            .await
            .map_err(|e| PlatformError::Unreachable {
                component: Component::ClickHouse,
                address: settings.url.origin().ascii_serialization(),
                cause: innermost(&e),
                setting: "CLICKHOUSE_URL and, with https://, CLICKHOUSE_SSL_CA_LOCATION",
            })?;
    // A 200 can carry an exception in its body: the header tells.
    let failed = !response.status().is_success()
        || response
            .headers()
            .contains_key("X-ClickHouse-Exception-Code");
    let body = response
        .text()
        .await
        .map_err(|e| PlatformError::refused(Component::ClickHouse, step, e))?;
    if failed {
        let cause: String = body.chars().take(600).collect();
        return Err(PlatformError::refused(Component::ClickHouse, step, cause));
    }
    Ok(body)
}

/// What the last of the causes says: the outer ones only repeat the address.
pub(crate) fn innermost(error: &reqwest::Error) -> String {
    let mut last: &dyn std::error::Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

struct Object {
    kind: &'static str,
    name: String,
}

fn statements(settings: &ClickHouseSettings) -> Vec<String> {
    FILES
        .iter()
        .flat_map(|file| file.split(';'))
        .map(|statement| {
            statement
                .replace("{database}", &settings.database)
                .replace("{event_id_type}", settings.event_id_type.name())
                .trim()
                .to_owned()
        })
        .filter(|statement| created_object(statement).is_some())
        .collect()
}

/// What a `CREATE ..` statement creates; comments in front of it are passed over.
fn created_object(statement: &str) -> Option<Object> {
    let sql: String = statement
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .collect::<Vec<_>>()
        .join(" ");
    let mut words = sql
        .split_whitespace()
        .filter(|w| !["IF", "NOT", "EXISTS"].contains(&w.to_uppercase().as_str()));
    if !words.next()?.eq_ignore_ascii_case("create") {
        return None;
    }
    let kind = match words.next()?.to_ascii_lowercase().as_str() {
        "database" => "database",
        "table" => "table",
        "view" => "view",
        _ => return None,
    };
    let name = words.next()?.split('(').next()?.replace('`', "");
    Some(Object { kind, name })
}

fn client(tls: &TlsFiles) -> Result<Client, PlatformError> {
    let client = Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(30));
    let client = tls.http("clickhouse", client).map_err(PlatformError::Tls)?;
    Ok(client
        .build()
        .expect("a client whose files were read builds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_statement_creates_the_configured_database() {
        let settings = ClickHouseSettings {
            database: "media".into(),
            ..Default::default()
        };
        let first = created_object(&statements(&settings)[0]).unwrap();
        assert_eq!((first.kind, first.name.as_str()), ("database", "media"));
    }

    #[test]
    fn no_marker_is_left_in_any_statement() {
        for statement in statements(&ClickHouseSettings::default()) {
            assert!(
                !statement.contains("{database}") && !statement.contains("{event_id_type}"),
                "{statement}"
            );
        }
    }

    #[test]
    fn a_comment_before_the_statement_does_not_hide_it() {
        let object = created_object(
            "-- current rows\nCREATE VIEW IF NOT EXISTS engagement.events AS SELECT 1",
        )
        .unwrap();
        assert_eq!(
            (object.kind, object.name.as_str()),
            ("view", "engagement.events")
        );
    }
}
