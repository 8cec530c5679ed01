//! Makes a replica reach a point, and waits until it has said so.
//!
//! Invariant: a point counts as visited only when the process itself has said so in its log, and for `kill` has died of
//! SIGKILL.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;

use super::{Visit, all};
use crate::faults::process::has_effect;
use crate::faults::trigger::{Trigger, nudge};
use crate::{Arena, ReplicaId, wait};

/// How long a point may take to be reached.
const REACHED_WITHIN: Duration = Duration::from_secs(40);

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
            if has_effect(arena, id).await {
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
    let services = arena.fleet.services().into_iter();
    let chains = services.map(|service| async move {
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
