//! Whether ClickHouse answers, asked beside the work: a sink that has nothing to write would not notice a server that stands
//! still, and one that writes would notice only when its request has timed out.
//!
//! Invariant: asking writes nothing, uses connections of its own, and has no part in what the lanes do.

use std::time::Duration;

use service::{Condition, Failure};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::error::ServerError;
use crate::http::Http;

/// Pause between two questions.
const EVERY: Duration = Duration::from_secs(2);
/// A server that has not answered after this time does not answer.
const ANSWER: Duration = Duration::from_secs(5);

/// Asks until told to stop; `condition` follows the answers.
///
/// # Errors
/// None; a task of the service has a result.
pub async fn watch(
    http: Http,
    condition: Condition,
    stop: CancellationToken,
) -> Result<(), Failure> {
    while stop.run_until_cancelled(sleep(EVERY)).await.is_some() {
        let question = timeout(ANSWER, http.ask("SELECT 1".to_owned()));
        match stop.run_until_cancelled(question).await {
            None => break,
            Some(Err(_)) => condition.not_ready(format!(
                "no answer within {} s from {}",
                ANSWER.as_secs(),
                http.address()
            )),
            Some(Ok(Ok(_))) => condition.ready(),
            Some(Ok(Err(error))) => condition.not_ready(reason(&error)),
        }
    }
    Ok(())
}

fn reason(error: &ServerError) -> String {
    format!("{error}; {}", error.remedy())
}
