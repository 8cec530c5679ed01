//! Keeps the connector going: nothing else of the pipeline runs without it, and the enricher always does.
//!
//! Invariant: looking changes nothing unless something has failed; every enricher may look.

use std::time::{Duration, Instant};

use platform::{DatabaseSettings, Keeper, Look};
use service::Context;
use tokio::time::timeout;

use crate::config::Config;
use crate::metrics;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// Between two looks at the slot, which take a connection to Postgres each.
const MEASURE_EVERY: Duration = Duration::from_secs(10);
/// A dependency that has not answered after this time does not answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Watches the connector in the background, where one is configured.
pub(crate) fn keep(config: &Config, ctx: &Context) {
    let (Some(connect), Some(url)) = (config.connect.clone(), config.database.url.clone()) else {
        return;
    };
    let database = DatabaseSettings {
        url,
        ..DatabaseSettings::default()
    };
    let mut keeper = Keeper::new(connect, database);
    let stop = ctx.lifecycle.soft();
    ctx.lifecycle.spawn("capture", async move {
        let mut last = Look::Well;
        let mut measured: Option<Instant> = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(EVERY) => {}
            }
            let look = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                look = keeper.look(Instant::now()) => look,
            };
            match look {
                Ok(look) => {
                    report(&look, &last);
                    last = look;
                }
                Err(error) => tracing::debug!(%error, "the connector cannot be looked at"),
            }
            if measured.is_none_or(|at| at.elapsed() >= MEASURE_EVERY) {
                measured = Some(Instant::now());
                if stop.run_until_cancelled(measure(&keeper)).await.is_none() {
                    return Ok(());
                }
            }
        }
    });
}

/// What is not answered leaves its gauges as they were, and is counted.
async fn measure(keeper: &Keeper) {
    let (connector, slot) = keeper.names();
    match timeout(ANSWER, keeper.is_running()).await {
        Ok(Ok(is_running)) => metrics::connector_running(connector, is_running),
        _ => metrics::look_failed("connect"),
    }
    match timeout(ANSWER, keeper.slot()).await {
        Ok(Ok(state)) => metrics::slot(slot, &state),
        _ => metrics::look_failed("postgres"),
    }
}

fn report(look: &Look, last: &Look) {
    match look {
        Look::Restarted { trouble } => {
            metrics::connector_restarted();
            tracing::warn!(trouble, "the connector had failed and was started again");
        }
        Look::Lost { what, remedy } if look != last => {
            tracing::error!(
                what,
                remedy,
                "the connector has failed and cannot go on without a gap"
            );
        }
        Look::Lost { .. } | Look::Well | Look::Waiting => {}
    }
}
