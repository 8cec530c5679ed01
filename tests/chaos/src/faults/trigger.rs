//! What makes a service pass a particular point.
//!
//! Invariant: a nudge may come any number of times; everything it adds to the pipeline is itself part of what is verified,
//! or is a record that can only become a dead letter.

use std::time::Duration;

use engagectl::pipeline::Addresses;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use sqlx::{Connection, PgConnection};

use crate::{Arena, ReplicaId, wait};

/// How long a newcomer may take to be a member of its group.
const JOINED_WITHIN: Duration = Duration::from_secs(20);

/// Why execution passes a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The load is enough.
    Load,
    /// Each start of the process passes it, once.
    Start,
    /// Only in the first start of a new group.
    FirstStart,
    /// The process is told to stop.
    Terminate,
    /// Another member joins its group.
    Rebalance,
    /// A record that cannot be understood.
    Poison,
    /// The acknowledgement of a record is lost, so its producer is given up.
    LostAck,
    /// Events whose content does not exist.
    Orphans,
}

/// Makes it happen (again).
///
/// # Errors
/// What could not be done, for the report of a wait.
pub(super) async fn nudge(arena: &Arena, id: ReplicaId, trigger: Trigger) -> Result<(), String> {
    let done = match trigger {
        Trigger::Load | Trigger::Start | Trigger::FirstStart | Trigger::LostAck => Ok(()),
        Trigger::Terminate => terminate(arena, id).await,
        Trigger::Rebalance => rebalance(arena, id).await,
        Trigger::Poison => poison(arena, id.service).await,
        Trigger::Orphans => orphans(&arena.addresses).await,
    };
    done.map_err(|error| format!("{error:#}"))
}

/// Once it works: a process that stops before that has nothing to commit.
async fn terminate(arena: &Arena, id: ReplicaId) -> anyhow::Result<()> {
    if arena.fleet.ready(id).await.is_ok() && super::process::has_effect(arena, id).await {
        tokio::time::sleep(Duration::from_millis(300)).await;
        arena.fleet.terminate(id);
    }
    Ok(())
}

/// A third member comes and goes again.
async fn rebalance(arena: &Arena, id: ReplicaId) -> anyhow::Result<()> {
    if arena.fleet.ready(id).await.is_err() {
        return Ok(());
    }
    let guest = arena.fleet.add(id.service)?;
    // On a busy machine a newcomer may take longer to be a member than it would be given to stay.
    let what = format!("{guest} is a member");
    let joined = wait::until(&what, JOINED_WITHIN, || arena.fleet.ready(guest)).await;
    arena.fleet.remove(guest).await?;
    joined
}

/// One record into a partition of the service's input.
async fn poison(arena: &Arena, service: &str) -> anyhow::Result<()> {
    let topic = match service {
        "enricher" => "cdc.public.engagement_events",
        _ => "engagement.enriched.v1",
    };
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &arena.addresses.kafka)
        // Each is counted, so none may be there twice.
        .set("enable.idempotence", "true")
        .create()?;
    for partition in 0..16 {
        let record = FutureRecord::<str, str>::to(topic)
            .partition(partition)
            .key("{}")
            .payload("{\"op\":");
        producer
            .send(record, Duration::from_secs(5))
            .await
            .map_err(|(error, _)| error)?;
        if service != "enricher" {
            arena.measures.poisoned();
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(())
}

/// Without the foreign key, as a platform that is only partly replicated.
async fn orphans(addresses: &Addresses) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(&addresses.postgres_admin_url).await?;
    sqlx::raw_sql(
        "SET session_replication_role = replica; \
         INSERT INTO engagement_events (content_id, event_type, duration_ms) \
         SELECT gen_random_uuid(), 'play', n FROM generate_series(1, 64) n",
    )
    .execute(&mut connection)
    .await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(())
}
