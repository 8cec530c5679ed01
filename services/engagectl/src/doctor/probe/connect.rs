//! Connect: the connector's state, what `check` asks, the worker's clock and version.

use engagement::event::Micros;
use platform::{Answered, Component, PlatformError};
use service::clock::now;
use sqlx::types::chrono::DateTime;

use super::{Notes, refused};
use crate::check;
use crate::doctor::Asked;
use crate::doctor::judge::version::Product;
use crate::doctor::judge::{clock, connector, version};
use crate::doctor::report::Diagnosis;

/// `Date` is told in whole seconds.
const SECOND: i64 = 1_000_000;

pub(in crate::doctor) async fn look(asked: Asked, notes: Notes) {
    let connect = &asked.config.connect;
    let state = match platform::connector_state(connect).await {
        Ok(state) => state,
        Err(error) => return notes.add(refused("connect", &error)),
    };
    // one that is not there is said by what follows, as everything that `init` makes
    if !state.connector.is_empty() {
        notes.add([connector::judge(&connect.name, &state)]);
    }
    let before = now();
    match platform::worker(connect).await {
        Err(error) => notes.add(refused("connect", &error)),
        Ok(worker) => {
            notes.add([version::judge(Product::Connect, &worker.version)]);
            let at = worker.date.as_deref().and_then(http_date);
            notes.add(at.map(|server| {
                let after = now();
                let at = Answered {
                    before,
                    server: server.0,
                    after,
                };
                clock::judge("connect", &at, SECOND)
            }));
        }
    }
    inspect(&asked, &notes).await;
}

/// What `check` says, without what was said already: the failure, and a Postgres that is away.
async fn inspect(asked: &Asked, notes: &Notes) {
    let inspected = platform::inspect_one(&asked.settings, Component::Connect).await;
    let postgres_is_away = |error: &PlatformError| {
        matches!(
            error,
            PlatformError::Unreachable {
                component: Component::Postgres,
                ..
            }
        )
    };
    match inspected {
        None => {}
        Some(Err(error)) if postgres_is_away(&error) => {}
        Some(Err(error)) => notes.add(refused("connect", &error)),
        Some(Ok(mut plan)) => {
            plan.problems
                .retain(|problem| !problem.what.contains(" has failed: "));
            let found = check::judged(Component::Connect, Ok(plan));
            notes.add(found.into_iter().map(Diagnosis::from));
        }
    }
}

fn http_date(text: &str) -> Option<Micros> {
    let at = DateTime::parse_from_rfc2822(text).ok()?;
    Some(Micros(at.timestamp_micros()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_is_read() {
        let at = http_date("Thu, 08 Jan 2026 14:21:52 GMT");
        assert_eq!(at, Some(Micros(1_767_882_112_000_000)));
        assert_eq!(http_date("today"), None);
    }
}
