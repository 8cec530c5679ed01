//! The fault points inside the services: each one is reached, in each service that passes it.
//!
//! Invariant: a point counts as visited only when the process itself has said so in its log, and for `kill` has died of
//! SIGKILL.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use engagectl::pipeline::SERVICES;
use faults::Point;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::trigger::{Trigger, nudge};
use super::{Class, Company};
use crate::{Arena, ReplicaId, wait};

/// How long a point may take to be reached.
const REACHED_WITHIN: Duration = Duration::from_secs(40);

/// The classes of this module.
pub const CLASSES: &[Class] = &[
    Class {
        name: "point.kill",
        about: "a replica kills itself between two particular statements",
        company: Company::Any,
        weight: 12,
        inject: |arena, rng| Box::pin(at_random(arena, rng, "kill".to_owned())),
    },
    Class {
        name: "point.pause",
        about: "one task of a replica stalls between two particular statements",
        company: Company::Any,
        weight: 4,
        inject: |arena, rng| {
            let pause = format!("pause:{}ms", rng.random_range(200..8000));
            Box::pin(at_random(arena, rng, pause))
        },
    },
    Class {
        name: "point.stop",
        about: "a replica freezes between two particular statements",
        company: Company::Any,
        weight: 4,
        inject: |arena, rng| Box::pin(at_random(arena, rng, "stop".to_owned())),
    },
    Class {
        name: "point.fail",
        about: "one step of a replica answers its error",
        company: Company::Any,
        weight: 6,
        inject: |arena, rng| Box::pin(at_random(arena, rng, "fail".to_owned())),
    },
];

/// How one point in one service is reached.
#[derive(Clone, Copy, Debug)]
pub struct Visit {
    /// The service.
    pub service: &'static str,
    /// The point.
    pub point: Point,
    /// What makes execution pass it.
    pub trigger: Trigger,
}

/// Every point in every service that passes it.
#[must_use]
pub fn all() -> Vec<Visit> {
    let visits = SERVICES.into_iter().flat_map(|service| {
        Point::ALL.iter().filter_map(move |point| {
            Some(Visit {
                service,
                point: *point,
                trigger: trigger(service, *point)?,
            })
        })
    });
    visits.collect()
}

/// `None`: this service does not pass it.
fn trigger(service: &str, point: Point) -> Option<Trigger> {
    use Point as P;
    let enricher = service == "enricher";
    match point {
        P::StreamTailBefore
        | P::StreamTailAfter
        | P::StreamSendBefore
        | P::StreamSendAfter
        | P::StreamAckBefore
        | P::StreamAckAfter => enricher.then_some(Trigger::Load),
        P::StreamPurgeBefore | P::StreamPurgeAfter => enricher.then_some(Trigger::LostAck),
        P::StreamFirstCommitBefore | P::StreamFirstCommitAfter => match service {
            "enricher" => Some(Trigger::Load),
            "webhook-forwarder" => None,
            _ => Some(Trigger::FirstStart),
        },
        P::StreamLastCommitBefore | P::StreamLastCommitAfter => Some(Trigger::Terminate),
        P::StreamRevokeBefore | P::StreamRevokeAfter => Some(Trigger::Rebalance),
        P::StreamDeadLetterBefore | P::StreamDeadLetterAfter => Some(Trigger::Poison),
        P::EnricherLookupBefore | P::EnricherLookupAfter => enricher.then_some(Trigger::Orphans),
        P::RedisAggregatorBeginBefore
        | P::RedisAggregatorBeginAfter
        | P::WebhookForwarderEnrolBefore
        | P::WebhookForwarderEnrolAfter => {
            (point.service() == service).then_some(Trigger::FirstStart)
        }
        _ => point.is_passed_by(service).then_some(Trigger::Load),
    }
}

/// `ENGAGE_FAULTS` of the first starts of each service: what it passes only once in its life.
#[must_use]
pub fn first_starts() -> BTreeMap<&'static str, Vec<String>> {
    let mut first: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    let mut visits = all();
    visits.retain(|visit| visit.trigger == Trigger::FirstStart);
    // A service's own points come before those of the stream crate.
    visits.sort_by_key(|visit| visit.point.service() == "stream");
    for visit in visits {
        let mut armed = format!("{}=kill", visit.point);
        if visit.service == "redis-aggregator" && visit.point != Point::RedisAggregatorBeginBefore {
            armed = format!("{armed},{}", one_begins());
        }
        first.entry(visit.service).or_default().push(armed);
    }
    first
}

/// Partitions begin together; all but one are held back, so that the next start finds some that have not begun.
fn one_begins() -> String {
    let held = (2..=16).map(|arrival| format!("redis-aggregator.begin.before=pause:60s@{arrival}"));
    held.collect::<Vec<_>>().join(",")
}

/// Waits until every first start has died where it should, and the one after them runs.
///
/// # Errors
/// A point that was not reached.
pub async fn first_starts_done(
    arena: &Arena,
    first: &BTreeMap<&'static str, Vec<String>>,
) -> anyhow::Result<()> {
    for (service, armed) in first {
        let id = ReplicaId { service, number: 1 };
        wait::until(
            &format!("{id} has died at {armed:?}, one after the other"),
            REACHED_WITHIN,
            || async {
                let (starts, ends) = arena.fleet.history(id);
                if starts > armed.len() {
                    Ok(())
                } else {
                    Err(ends)
                }
            },
        )
        .await?;
        for part in armed {
            let point = part.split('=').next().unwrap_or_default();
            let log = std::fs::read_to_string(arena.fleet.log(id)).unwrap_or_default();
            anyhow::ensure!(
                log.contains(&format!("fault point {point}: ")),
                "{id} never reached {point}"
            );
            arena.measures.count("point.kill");
        }
    }
    Ok(())
}

async fn at_random(arena: &Arena, rng: &mut ChaCha8Rng, action: String) -> anyhow::Result<String> {
    let mut visits = all();
    visits.retain(|visit| {
        visit.trigger != Trigger::FirstStart && (action != "fail" || visit.point.can_fail())
    });
    let visit = visits[rng.random_range(0..visits.len())];
    let arrival = match visit.trigger {
        Trigger::Load => rng.random_range(1..=4),
        _ => 1,
    };
    let id = any_replica(arena, visit.service, rng)?;
    let frozen = Duration::from_millis(rng.random_range(200..12_000)).min(arena.longest_freeze);
    let since = arena.measures.now();
    let done = visit_once(arena, id, visit, &action, arrival, frozen).await;
    match done {
        Ok(()) => Ok(format!("{id} at {}: {action}@{arrival}", visit.point)),
        // Somebody else killed or replaced the armed process, or keeps it from getting there.
        Err(error) if !arena.measures.still_alone(since) => Ok(format!(
            "{id} at {}: {action}@{arrival}, overtaken ({error})",
            visit.point
        )),
        Err(error) => Err(error),
    }
}

/// A replica with a stable name.
pub(crate) fn any_replica(
    arena: &Arena,
    service: &'static str,
    rng: &mut ChaCha8Rng,
) -> anyhow::Result<ReplicaId> {
    let mut replicas = arena.fleet.replicas_of(service);
    replicas.retain(|id| id.number <= 2);
    anyhow::ensure!(!replicas.is_empty(), "{service} has no replica");
    Ok(replicas[rng.random_range(0..replicas.len())])
}

/// Arms the point in the next start of the replica, restarts it, and waits until it was reached and acted.
///
/// # Errors
/// The point was not reached.
pub async fn visit_once(
    arena: &Arena,
    id: ReplicaId,
    visit: Visit,
    action: &str,
    arrival: u64,
    frozen: Duration,
) -> anyhow::Result<()> {
    let point = visit.point;
    let mut armed = format!("{point}={action}@{arrival}");
    if visit.trigger == Trigger::LostAck {
        armed = format!("stream.ack.before=fail@20,{armed}");
    }
    let offset = log_end(arena, id);
    let starts = AtomicUsize::new(start_armed(arena, id, &armed).await?);
    let said = format!("fault point {point}: ");
    let what = format!("{id} reaches {point} ({action})");
    let reached = wait::until(&what, REACHED_WITHIN, || async {
        nudge(arena, id, visit.trigger).await?;
        let text = log_from(arena, id, offset);
        if text.contains(&said) {
            return Ok(());
        }
        if arena.fleet.history(id).0 > starts.load(Ordering::Relaxed) {
            // It ended without having got there: told to stop when nothing was left to commit, for example.
            let again = start_armed(arena, id, &armed).await;
            let again = again.map_err(|error| format!("{error:#}"))?;
            starts.store(again, Ordering::Relaxed);
        }
        Err(last_line(&text))
    });
    reached.await?;
    if action == "stop" {
        tokio::time::sleep(frozen).await;
        arena.fleet.resume(id);
    }
    Ok(())
}

/// Restarts a replica with this armed; answers how many starts it will have had then.
async fn start_armed(arena: &Arena, id: ReplicaId, armed: &str) -> anyhow::Result<usize> {
    arena.fleet.arm_next_start(id, armed);
    let starts = arena.fleet.history(id).0;
    arena.fleet.kill9(id).await?;
    Ok(starts + 1)
}

fn log_end(arena: &Arena, id: ReplicaId) -> u64 {
    std::fs::metadata(arena.fleet.log(id)).map_or(0, |meta| meta.len())
}

/// What a replica has logged since.
pub(crate) fn log_from(arena: &Arena, id: ReplicaId, offset: u64) -> String {
    use std::io::{Read, Seek, SeekFrom};
    let mut bytes = Vec::new();
    if let Ok(mut file) = std::fs::File::open(arena.fleet.log(id)) {
        // What cannot be read is not there yet.
        let _ = file.seek(SeekFrom::Start(offset));
        let _ = file.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn last_line(text: &str) -> String {
    text.lines()
        .last()
        .unwrap_or("nothing in the log")
        .chars()
        .take(300)
        .collect()
}

/// In one replica of two; some points only one of them passes, for example the owner of partition 0. The first stays
/// armed while the second is tried: restarting the second may make the first the one that gets there.
async fn visit_in_one(arena: &Arena, visit: Visit, turn: usize) -> anyhow::Result<()> {
    let replica = |number| ReplicaId {
        service: visit.service,
        number,
    };
    let (first, second) = (replica(turn + 1), replica(2 - turn));
    let offset = log_end(arena, first);
    let died = visit_once(arena, first, visit, "kill", 1, Duration::ZERO).await;
    let Err(error) = died else { return Ok(()) };
    let said = format!("fault point {}: ", visit.point);
    let late = wait::until(
        "the first gets there after all",
        REACHED_WITHIN * 2,
        || async {
            let reached = log_from(arena, first, offset).contains(&said);
            reached.then_some(()).ok_or("not there")
        },
    );
    tokio::select! {
        Ok(()) = late => Ok(()),
        died = visit_once(arena, second, visit, "kill", 1, Duration::ZERO) => {
            died.with_context(|| format!("{error:#}"))
        }
    }
}

/// Positions are there to be read and proven.
async fn everybody_works(arena: &Arena) -> anyhow::Result<()> {
    for id in arena.fleet.replicas() {
        let what = format!("{id} makes events visible");
        wait::until(&what, REACHED_WITHIN, || async {
            if super::process::has_effect(arena, id).await {
                Ok(())
            } else {
                Err(arena.fleet.ready(id).await)
            }
        })
        .await?;
    }
    // The commits that the effects are followed by are sent every second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    Ok(())
}

/// Every point once with `kill`: one after the other in each service, the services side by side. Says how many.
///
/// # Errors
/// Points that were not reached, all of them.
pub async fn visit_all(arena: &Arena) -> anyhow::Result<usize> {
    everybody_works(arena).await?;
    let chains = SERVICES.map(|service| async move {
        let (mut visited, mut missed) = (0, Vec::new());
        let visits = all()
            .into_iter()
            .filter(|visit| visit.service == service && visit.trigger != Trigger::FirstStart);
        for (turn, visit) in visits.enumerate() {
            match visit_in_one(arena, visit, turn % 2).await {
                Ok(()) => {
                    arena.measures.count("point.kill");
                    visited += 1;
                }
                Err(error) => missed.push(format!("{error:#}")),
            }
        }
        (visited, missed)
    });
    let done = futures_util::future::join_all(chains).await;
    let missed: Vec<String> = done.iter().flat_map(|(_, missed)| missed.clone()).collect();
    anyhow::ensure!(
        missed.is_empty(),
        "{} fault points were not reached:\n{}",
        missed.len(),
        missed.join("\n")
    );
    Ok(done.iter().map(|(visited, _)| visited).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_visited_in_at_least_one_service() {
        let visits = all();
        for point in Point::ALL {
            assert!(visits.iter().any(|visit| visit.point == *point), "{point}");
        }
    }

    #[test]
    fn what_happens_once_in_a_life_is_armed_in_the_first_starts() {
        let first = first_starts();
        assert_eq!(
            first["webhook-forwarder"],
            [
                "webhook-forwarder.enrol.before=kill",
                "webhook-forwarder.enrol.after=kill"
            ]
        );
        assert_eq!(first["redis-aggregator"].len(), 4);
        assert_eq!(first["clickhouse-sink"].len(), 2);
        assert!(!first.contains_key("enricher"));
    }
}
