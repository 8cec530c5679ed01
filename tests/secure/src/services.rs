//! The environment of each program: every secret by file.

use std::path::Path;

use crate::world::Places;

/// Names and values; later ones go before earlier ones.
pub(crate) type Environment = Vec<(String, String)>;

/// What this program needs, `engagectl` as its operator, `engagectl-erase` as who erases persons.
pub(crate) fn environment(program: &str, places: &Places) -> Environment {
    let mut all = kafka(program, places);
    match program {
        "enricher" => {
            all.extend(file("DATABASE_URL", places, "url-engage_enricher"));
            all.push(set("CONNECT_URL", &places.connect));
        }
        "clickhouse-sink" => all.extend(clickhouse("clickhouse_sink", places)),
        "redis-aggregator" => all.extend(redis("redis-aggregator", places)),
        "webhook-forwarder" => all.extend(webhook(places)),
        "engagectl" => {
            all.extend(file("DATABASE_URL", places, "url-engage_reader"));
            all.extend(file("ENGAGE_CDC_PASSWORD", places, "postgres-engage_cdc"));
            all.push(set("CONNECT_URL", &places.connect));
            all.push(path("ENGAGE_CONFIG", &places.config));
            all.extend(clickhouse("engagectl", places));
            all.extend(redis("engagectl", places));
        }
        "engagectl-erase" => {
            all.extend(file("DATABASE_URL", places, "url-engage_erase"));
            all.extend(file("ERASE_KEY", places, "erase-key"));
            all.push(path("ENGAGE_CONFIG", &places.config));
            all.extend(clickhouse("engagectl_erase", places));
            all.extend(redis("engagectl-erase", places));
        }
        "canary" => {
            all.extend(file("DATABASE_URL", places, "url-engage_canary"));
            all.extend(clickhouse("engage_reader", places));
            all.extend(redis("engage-reader", places));
        }
        other => panic!("{other} is no program of this pipeline"),
    }
    if let Some(port) = places.admin.get(program) {
        all.push(set("ADMIN_ADDR", &format!("127.0.0.1:{port}")));
    }
    all
}

pub(crate) fn kafka(user: &str, places: &Places) -> Environment {
    let mut all = vec![
        set("KAFKA_BOOTSTRAP_SERVERS", &places.kafka),
        set("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
        set("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
        set("KAFKA_SASL_USERNAME", user),
        path("KAFKA_SSL_CA_LOCATION", &places.ca),
    ];
    all.extend(file(
        "KAFKA_SASL_PASSWORD",
        places,
        &format!("kafka-{user}"),
    ));
    all
}

fn clickhouse(user: &str, places: &Places) -> Environment {
    let mut all = vec![
        set("CLICKHOUSE_URL", &places.clickhouse),
        set("CLICKHOUSE_USER", user),
        path("CLICKHOUSE_SSL_CA_LOCATION", &places.ca),
    ];
    all.extend(file(
        "CLICKHOUSE_PASSWORD",
        places,
        &format!("clickhouse-{user}"),
    ));
    all
}

fn redis(user: &str, places: &Places) -> Environment {
    let mut all = file("REDIS_URL", places, &format!("url-redis-{user}"));
    all.push(path("REDIS_SSL_CA_LOCATION", &places.ca));
    all
}

/// The receiver is on loopback, over plain HTTP.
fn webhook(places: &Places) -> Environment {
    let mut all = vec![
        set("WEBHOOK_NAME", "demo"),
        set(
            "WEBHOOK_URL",
            &format!("http://127.0.0.1:{}/webhook", places.receiver),
        ),
        set("WEBHOOK_START", "earliest"),
        set("WEBHOOK_ORDER", "event"),
        set("WEBHOOK_ALLOW_INSECURE", "true"),
        set("WEBHOOK_ALLOW_PRIVATE", "true"),
    ];
    all.extend(file("WEBHOOK_SECRET", places, "webhook"));
    all
}

pub(crate) fn file(name: &str, places: &Places, secret: &str) -> Environment {
    vec![path(&format!("{name}_FILE"), &places.secrets.file(secret))]
}

fn path(name: &str, path: &Path) -> (String, String) {
    set(name, &path.display().to_string())
}

fn set(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}
