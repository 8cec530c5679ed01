//! ClickHouse: what `check` asks, whether every view can be read, clock and version.

use platform::{Answered, Component, ask_clickhouse};
use service::clock::now;

use super::{Notes, checked, refused};
use crate::doctor::Asked;
use crate::doctor::judge::version::Product;
use crate::doctor::judge::{clock, version};
use crate::doctor::report::Diagnosis;

pub(in crate::doctor) async fn look(asked: Asked, notes: Notes) {
    if checked(&asked, Component::ClickHouse, &notes)
        .await
        .is_none()
    {
        return;
    }
    let settings = &asked.config.clickhouse;
    let before = now();
    let sql = "SELECT version(), toUnixTimestamp64Micro(now64(6)) FORMAT TSV";
    match ask_clickhouse(settings, "reading version and clock", sql).await {
        Err(error) => notes.add(refused("clickhouse", &error)),
        Ok(answer) => notes.add(told(&answer, before, now())),
    }
    views(&asked, &notes).await;
}

fn told(answer: &str, before: i64, after: i64) -> Vec<Diagnosis> {
    let (text, server) = answer
        .trim()
        .split_once('\t')
        .unwrap_or((answer.trim(), ""));
    let mut all = vec![version::judge(Product::ClickHouse, text)];
    all.extend(server.parse().ok().map(|server| {
        let at = Answered {
            before,
            server,
            after,
        };
        clock::judge("clickhouse", &at, 1)
    }));
    all
}

/// A view is checked against its tables only when it is read.
async fn views(asked: &Asked, notes: &Notes) {
    let settings = &asked.config.clickhouse;
    let database = settings.database.replace(['\\', '\'', '`'], "");
    let sql = format!(
        "SELECT name FROM system.tables WHERE database = '{database}' AND engine = 'View' ORDER BY name FORMAT TSVRaw"
    );
    let names = match ask_clickhouse(settings, "listing the views", &sql).await {
        Ok(names) => names,
        Err(error) => return notes.add(refused("clickhouse", &error)),
    };
    for name in names.lines() {
        let view = format!("`{database}`.`{}`", name.replace('`', ""));
        let sql = format!("SELECT * FROM {view} LIMIT 0 FORMAT Null");
        let read = ask_clickhouse(settings, &format!("reading view {name}"), &sql).await;
        notes.add(read.err().map(|error| {
            Diagnosis::error(format!("view {database}.{name}"), error.to_string())
                .right("it can be read")
                .next(format!("repair the table first, if it lacks something; otherwise DROP VIEW {view}, then engagectl init"))
        }));
    }
    notes.add([Diagnosis::ok(
        "views in clickhouse",
        format!("{} looked at", names.lines().count()),
    )]);
}
