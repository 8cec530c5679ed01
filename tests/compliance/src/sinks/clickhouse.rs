//! The ClickHouse sink: rows of the table itself, not of the view that would hide a second one.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use devstack::{ClickHouse, Launch};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Names, SinkUnderTest};
use crate::World;

const DDL: [&str; 2] = [
    include_str!("../../../../deploy/clickhouse/01_database.sql"),
    include_str!("../../../../deploy/clickhouse/02_events_enriched.sql"),
];

struct Sink {
    server: &'static ClickHouse,
    database: String,
    client: reqwest::Client,
}

pub(super) fn make(
    world: &'static World,
    name: String,
) -> BoxFuture<'static, Box<dyn SinkUnderTest>> {
    async move {
        let sink = Sink {
            server: world.stack().clickhouse(),
            database: name.replace(['-', '.'], "_"),
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
        };
        for statement in DDL.iter().flat_map(|file| file.split(';')) {
            let sql = statement
                .replace("{database}", &sink.database)
                .replace("{event_id_type}", "Int64");
            if sql.contains("CREATE") {
                sink.query(&sql).await;
            }
        }
        Box::new(sink) as Box<dyn SinkUnderTest>
    }
    .boxed()
}

impl Sink {
    async fn query(&self, sql: &str) -> String {
        let request = self
            .client
            .post(&self.server.url)
            .header("X-ClickHouse-User", &self.server.admin_user)
            .header("X-ClickHouse-Key", &self.server.admin_password);
        let response = request.body(sql.to_owned()).send().await.unwrap();
        let good = response.status().is_success();
        let text = response.text().await.unwrap();
        assert!(good, "{sql}: {text}");
        text
    }
}

impl SinkUnderTest for Sink {
    fn service(&self) -> &'static str {
        "clickhouse-sink"
    }

    fn store(&self) -> SocketAddr {
        self.server
            .url
            .trim_start_matches("http://")
            .parse()
            .unwrap()
    }

    fn configure(&self, launch: Launch, names: &Names, store: SocketAddr) -> Launch {
        launch
            .env("CLICKHOUSE_URL", format!("http://{store}"))
            .env("CLICKHOUSE_USER", &self.server.admin_user)
            .env("CLICKHOUSE_PASSWORD", &self.server.admin_password)
            .env("CLICKHOUSE_DATABASE", &self.database)
            .args(["--set", "batch.interval=200ms"])
            .args([
                "--set",
                &format!("kafka.dead_letter_topic={}", names.letters),
            ])
    }

    fn holds(&self) -> BoxFuture<'_, BTreeMap<String, u64>> {
        async {
            let sql = format!(
                "SELECT content_id, count() FROM {}.events_enriched GROUP BY content_id",
                self.database
            );
            let rows = self.query(&sql).await;
            rows.lines()
                .filter_map(|line| line.split_once('\t'))
                .map(|(content, count)| (content.to_owned(), count.parse().unwrap()))
                .collect()
        }
        .boxed()
    }

    fn write_point(&self) -> &'static str {
        "clickhouse-sink.insert.before"
    }

    fn metrics(&self) -> &'static [&'static str] {
        &[
            "engage_sink_batch_rows_count",
            "engage_sink_write_seconds_count",
        ]
    }
}
