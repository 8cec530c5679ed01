//! A database of its own on the shared server.

use reqwest::Client;
use serde_json::Value;

/// The statements that `engagectl init` applies.
const DDL: [&str; 4] = [
    include_str!("../../../../deploy/clickhouse/01_database.sql"),
    include_str!("../../../../deploy/clickhouse/02_events_enriched.sql"),
    include_str!("../../../../deploy/clickhouse/03_views.sql"),
    include_str!("../../../../deploy/clickhouse/04_profiles.sql"),
];

/// One database, with all rights.
#[derive(Clone)]
pub(crate) struct Database {
    pub(crate) url: String,
    pub(crate) name: String,
    user: String,
    password: String,
    client: Client,
}

impl Database {
    /// Creates table and views.
    pub(crate) async fn create(
        server: &devstack::ClickHouse,
        name: &str,
        event_id_type: &str,
    ) -> Self {
        let database = Self::without_table(server, name);
        for statement in DDL.iter().flat_map(|file| file.split(';')) {
            let sql = statement
                .replace("{database}", name)
                .replace("{event_id_type}", event_id_type);
            if sql.contains("CREATE") {
                database.run(&sql).await;
            }
        }
        database
    }

    /// Creates nothing.
    pub(crate) fn without_table(server: &devstack::ClickHouse, name: &str) -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        Self {
            url: server.url.clone(),
            name: name.to_owned(),
            user: server.admin_user.clone(),
            password: server.admin_password.clone(),
            client: Client::builder().no_proxy().build().unwrap(),
        }
    }

    pub(crate) async fn run(&self, sql: &str) -> String {
        self.try_run(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub(crate) async fn try_run(&self, sql: &str) -> Result<String, String> {
        let bytes = self.bytes(sql).await?;
        Ok(String::from_utf8(bytes).unwrap().trim().to_owned())
    }

    pub(crate) async fn bytes(&self, sql: &str) -> Result<Vec<u8>, String> {
        self.post(&self.url, sql).await
    }

    /// Under an id by which the server knows the query while it runs.
    pub(crate) async fn run_as(&self, query_id: &str, sql: &str) -> Result<Vec<u8>, String> {
        let url = format!("{}/?query_id={query_id}", self.url.trim_end_matches('/'));
        self.post(&url, sql).await
    }

    async fn post(&self, url: &str, sql: &str) -> Result<Vec<u8>, String> {
        let request = self
            .client
            .post(url)
            .header("X-ClickHouse-User", &self.user)
            .header("X-ClickHouse-Key", &self.password);
        let response = request
            .body(sql.to_owned())
            .send()
            .await
            .map_err(|error| error.to_string())?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| error.to_string())?;
        if status.is_success() {
            Ok(body.to_vec())
        } else {
            Err(String::from_utf8_lossy(&body).into_owned())
        }
    }

    /// How many rows the server reads to answer, by its own account.
    pub(crate) async fn rows_read(&self, sql: &str) -> u64 {
        let request = self
            .client
            .post(format!("{}/?wait_end_of_query=1", self.url))
            .header("X-ClickHouse-User", &self.user)
            .header("X-ClickHouse-Key", &self.password);
        let response = request.body(sql.to_owned()).send().await.unwrap();
        let status = response.status();
        assert!(status.is_success(), "{sql}: {status}");
        let summary = &response.headers()["X-ClickHouse-Summary"];
        let summary: Value = serde_json::from_slice(summary.as_bytes()).unwrap();
        summary["read_rows"].as_str().unwrap().parse().unwrap()
    }

    /// Each row as JSON, numbers as numbers, times in RFC 3339.
    pub(crate) async fn json(&self, select: &str) -> Vec<Value> {
        let settings =
            "output_format_json_quote_64bit_integers = 0, date_time_output_format = 'iso'";
        let text = self
            .run(&format!("{select} FORMAT JSONEachRow SETTINGS {settings}"))
            .await;
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The table's full name.
    pub(crate) fn table(&self) -> String {
        format!("{}.events_enriched", self.name)
    }

    /// Rows, distinct event ids, sum of `duration_ms`: `"3\t3\t21000"`. An unreachable server has none.
    pub(crate) async fn totals(&self) -> String {
        let sql = format!(
            "SELECT count(), uniqExact(event_id), sum(duration_ms) FROM {}",
            self.table()
        );
        self.try_run(&sql).await.unwrap_or_default()
    }

    /// The same of the view `events`.
    pub(crate) async fn visible(&self) -> String {
        self.run(&format!(
            "SELECT count(), uniqExact(event_id), sum(duration_ms) FROM {}.events",
            self.name
        ))
        .await
    }
}
