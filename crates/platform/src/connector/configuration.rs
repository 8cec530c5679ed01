//! The connector's configuration: `deploy/debezium/connector.json`, and what only the installation knows. Pure.
//!
//! Invariant: where the database's settings hold a reference in place of the password, the password itself is not in it.

use secrecy::ExposeSecret;
use serde_json::{Map, Value};
use url::Url;

use super::ConnectSettings;
use crate::postgres::{HEARTBEAT_TABLE, PUBLICATION};
use crate::{PlatformError, Settings};

const PASSWORD: &str = "database.password";

/// What the connector is registered with: `deploy/debezium/connector.json`, and what only the installation knows.
///
/// # Errors
/// The database's URL does not parse.
pub fn config(settings: &Settings, connect: &ConnectSettings) -> Result<Value, PlatformError> {
    let database = settings.database.parsed()?;
    let mut config: Map<String, Value> =
        serde_json::from_str(include_str!("../../../../deploy/debezium/connector.json"))
            .expect("deploy/debezium/connector.json is a JSON object");
    let own = own(settings, connect, &database).into_iter();
    let password = password(settings, connect).map(|password| (PASSWORD, password));
    for (key, value) in own.chain(password).chain(encryption(&database, connect)) {
        config.insert(key.into(), Value::String(value));
    }
    Ok(Value::Object(config))
}

/// Host, role, table and key names.
fn own(
    settings: &Settings,
    connect: &ConnectSettings,
    database: &Url,
) -> [(&'static str, String); 9] {
    let host = connect
        .database_host
        .clone()
        .or_else(|| database.host_str().map(str::to_owned));
    let port = connect.database_port.or(database.port()).unwrap_or(5432);
    [
        (
            "database.hostname",
            host.unwrap_or_else(|| "127.0.0.1".into()),
        ),
        ("database.port", port.to_string()),
        ("database.user", settings.database.cdc_role.clone()),
        (
            "database.dbname",
            database.path().trim_start_matches('/').to_owned(),
        ),
        (
            "table.include.list",
            "public.content,public.engagement_events".to_owned(),
        ),
        (
            "message.key.columns",
            "public.engagement_events:content_id".to_owned(),
        ),
        ("publication.name", PUBLICATION.to_owned()),
        ("slot.name", connect.slot.clone()),
        (
            "heartbeat.action.query",
            format!("UPDATE public.{HEARTBEAT_TABLE} SET ts = now() WHERE id = 1"),
        ),
    ]
}

/// The password, or what stands in place of it. `None`: none is known here, which is no reason to take one away.
fn password(settings: &Settings, connect: &ConnectSettings) -> Option<String> {
    let plain = settings.database.cdc_password.as_ref();
    let plain = plain.map(|password| password.expose_secret().to_owned());
    connect.database_password.clone().or(plain)
}

/// Whoever changes the connector and knows no password leaves it the one that it has.
pub(super) fn keep_password(wanted: &mut Value, found: &Map<String, Value>) {
    if let (Some(wanted), Some(password)) = (wanted.as_object_mut(), found.get(PASSWORD)) {
        wanted.entry(PASSWORD).or_insert_with(|| password.clone());
    }
}

/// As `sslmode` and `sslrootcert` of the URL say; without them Debezium's own default holds.
fn encryption(database: &Url, connect: &ConnectSettings) -> Vec<(&'static str, String)> {
    let parameter = |name: &str| {
        let mut pairs = database.query_pairs();
        pairs
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    let root = connect.database_ssl_root.as_ref();
    let root = root.map(|path| path.display().to_string());
    [
        ("database.sslmode", parameter("sslmode")),
        (
            "database.sslrootcert",
            root.or_else(|| parameter("sslrootcert")),
        ),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value?)))
    .collect()
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    #[test]
    fn the_configuration_takes_host_and_database_from_the_url() {
        let mut settings = Settings::default();
        settings.database.url = SecretString::from("postgres://u:p@db.example:6543/media");
        let config = config(&settings, &ConnectSettings::default()).unwrap();
        assert_eq!(config["database.hostname"], "db.example");
        assert_eq!(config["database.port"], "6543");
        assert_eq!(config["database.dbname"], "media");
        assert_eq!(
            config["message.key.columns"],
            "public.engagement_events:content_id"
        );
    }

    #[test]
    fn who_knows_no_password_takes_none_away_and_who_knows_one_sets_it() {
        let found = Map::from_iter([(PASSWORD.to_owned(), Value::from("hunter2"))]);
        let mut settings = Settings::default();
        let mut wanted = config(&settings, &ConnectSettings::default()).unwrap();
        assert_eq!(wanted.get(PASSWORD), None);
        keep_password(&mut wanted, &found);
        assert_eq!(wanted[PASSWORD], "hunter2");
        settings.database.cdc_password = Some(SecretString::from("new"));
        let mut wanted = config(&settings, &ConnectSettings::default()).unwrap();
        keep_password(&mut wanted, &found);
        assert_eq!(wanted[PASSWORD], "new");
    }

    #[test]
    fn the_connector_is_encrypted_as_the_url_is_and_may_hold_a_reference_in_place_of_the_password()
    {
        let mut settings = Settings::default();
        settings.database.url = SecretString::from(
            "postgres://u@db/media?sslmode=verify-full&sslrootcert=/here/ca.crt",
        );
        settings.database.cdc_password = Some(SecretString::from("hunter2"));
        let mut connect = ConnectSettings::default();
        let here = config(&settings, &connect).unwrap();
        assert_eq!(here["database.sslmode"], "verify-full");
        assert_eq!(here["database.sslrootcert"], "/here/ca.crt");
        assert_eq!(here["database.password"], "hunter2");

        connect.database_ssl_root = Some("/there/ca.crt".into());
        connect.database_password = Some("${file:/run/secrets/cdc:password}".into());
        let there = config(&settings, &connect).unwrap();
        assert_eq!(there["database.sslrootcert"], "/there/ca.crt");
        assert!(!there.to_string().contains("hunter2"));
    }
}
