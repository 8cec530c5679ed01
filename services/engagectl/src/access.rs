//! `engagectl access`: who needs what, as each server wants to be told.
//!
//! Invariant: nothing is asked and nothing is changed; names are those of the configuration in force.

use platform::access::{clickhouse, kafka, postgres, redis};
use serde_json::json;

use crate::cli::{Guarded, Output};
use crate::config::Config;

pub(crate) fn text(config: &Config, server: Guarded, output: Output) -> String {
    if output == Output::Json {
        return format!("{:#}\n", value(config, server));
    }
    match server {
        Guarded::Kafka => kafka::commands(&config.topics),
        Guarded::Postgres => postgres::statements(),
        Guarded::Redis => redis::lines(&config.redis.prefix),
        Guarded::Clickhouse => clickhouse::statements(&config.clickhouse.database),
    }
}

fn value(config: &Config, server: Guarded) -> serde_json::Value {
    match server {
        Guarded::Kafka => json!(kafka::rules(&config.topics)),
        Guarded::Postgres => {
            let text = postgres::statements();
            json!(text.lines().collect::<Vec<_>>())
        }
        Guarded::Redis => redis::users(&config.redis.prefix)
            .into_iter()
            .map(|user| json!({"user": user.name, "rules": user.rules}))
            .collect(),
        Guarded::Clickhouse => clickhouse::users(&config.clickhouse.database)
            .into_iter()
            .map(|user| json!({"user": user.name, "grants": user.grants}))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_of_the_configuration_in_force() {
        let mut config = Config::default();
        config.topics.enriched = "media.enriched".into();
        config.clickhouse.database = "media".into();
        config.redis.prefix = "m:".into();
        let text = |server| text(&config, server, Output::Table);
        assert!(text(Guarded::Kafka).contains("--topic media.enriched"));
        assert!(text(Guarded::Clickhouse).contains("ON media.events_enriched TO clickhouse_sink;"));
        assert!(text(Guarded::Redis).contains("~m:* "));
    }

    #[test]
    fn the_json_form_is_a_list_for_every_server() {
        for server in [
            Guarded::Kafka,
            Guarded::Postgres,
            Guarded::Redis,
            Guarded::Clickhouse,
        ] {
            assert!(
                value(&Config::default(), server)
                    .as_array()
                    .is_some_and(|all| !all.is_empty())
            );
        }
    }
}
