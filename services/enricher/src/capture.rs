//! Keeps the connector going: nothing else of the pipeline runs without it, and the enricher always does.
//!
//! Invariant: looking changes nothing unless something has failed; every enricher may look.

use std::time::{Duration, Instant};

use platform::{DatabaseSettings, Keeper, Look};
use service::Context;

use crate::config::Config;
use crate::metrics;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);

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
        }
    });
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
