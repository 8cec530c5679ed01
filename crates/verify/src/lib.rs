#![doc = include_str!("../docs/architecture.md")]

mod analytics;
mod cell;
mod clickhouse;
mod error;
mod postgres;
mod report;
mod rows;
mod settle;
mod slots;
mod sources;
mod tally;
mod wire;

pub use error::Error;
pub use report::{DeadLetterReport, Difference, Kind, Report, SinkReport};
pub use settle::{settle, settle_with};
pub use sources::{
    KafkaSource, OnProgress, Options, PostgresSource, ReceiverSource, RedisSource, Sink, Sources,
};

use tokio::time::Instant;

/// Compares every sink with Postgres, once, as things are now.
///
/// # Errors
/// A store that cannot be read. A difference is no error: it is in the report.
pub async fn run(sources: &Sources, options: &Options) -> Result<Report, Error> {
    let begun = Instant::now();
    let mut report = Report::default();
    let mut source = postgres::Source::open(&sources.postgres).await?;
    if let Some(settings) = &sources.clickhouse {
        let store = clickhouse::Store::new(settings, sources.postgres.statement_timeout);
        let found = analytics::compare(&mut source, &store, options, &[], None).await?;
        report.events = found.compared;
        report.sinks.push(found);
    }
    source.close().await;
    report.elapsed = begun.elapsed();
    Ok(report)
}
