//! All stores together: looking, removing, and waiting for what is on its way between them.
//!
//! Invariant: Postgres comes first, and the other stores only when the services have passed what was changed there: they would bring
//! the person back.

use std::time::Duration;

use service::Failure;
use tokio::time::Instant;

use super::analytics::Analytics;
use super::args::InPostgres;
use super::cache::Cache;
use super::database::Database;
use super::log::Log;
use super::passing::{Ends, behind, unread};
use super::person::Person;
use super::search::{Found, Place};
use crate::config::{Config, Groups};

/// Between two looks at who is behind.
const PAUSE: Duration = Duration::from_millis(250);
/// How often the stores are gone over where something writes the person meanwhile.
const ROUNDS: u32 = 3;

/// Everything that may hold a person.
pub(super) struct Stores {
    pub(super) database: Database,
    /// `None` where there is no ClickHouse.
    analytics: Option<Analytics>,
    /// `None` where there is no Redis.
    cache: Option<Cache>,
    pub(super) log: Log,
    slot: String,
    groups: Groups,
}

impl Stores {
    /// # Errors
    /// A store does not answer.
    pub(super) async fn open(
        config: &Config,
        database: Database,
        log: Log,
        run: &str,
    ) -> Result<Self, Failure> {
        let analytics = match config.groups.clickhouse.as_str() {
            "" => None,
            _ => Some(Analytics::open(&config.clickhouse, run).await?),
        };
        let cache = match config.groups.redis.as_str() {
            "" => None,
            _ => Some(Cache::open(config).await?),
        };
        Ok(Self {
            database,
            analytics,
            cache,
            log,
            slot: config.connect.slot.clone(),
            groups: config.groups.clone(),
        })
    }

    /// Where the person is now.
    pub(super) async fn search(&mut self, person: &Person) -> Result<Found, Failure> {
        let mut places = vec![self.database.count(person).await?];
        if let Some(analytics) = &self.analytics {
            places.extend(analytics.count(person).await?);
        }
        if let Some(cache) = &mut self.cache {
            places.extend(cache.count(person).await?);
        }
        let letters = self.log.letters(person).await?;
        Ok(Found { places, letters })
    }

    /// Removes the person; what is found afterwards.
    pub(super) async fn erase(
        &mut self,
        person: &Person,
        what: InPostgres,
        deadline: Instant,
    ) -> Result<Found, Failure> {
        self.in_postgres(person, what, deadline).await?;
        for _ in 0..ROUNDS {
            let found = self.search(person).await?;
            let rows = found.total_of("postgres");
            let in_sinks = found.total() - rows;
            if in_sinks == 0 && (rows == 0 || what == InPostgres::Keep) {
                return Ok(found);
            }
            if rows > 0 && what != InPostgres::Keep {
                self.in_postgres(person, what, deadline).await?;
            }
            self.in_sinks(person, &found, deadline).await?;
        }
        self.search(person).await
    }

    async fn in_postgres(
        &mut self,
        person: &Person,
        what: InPostgres,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let rows = self.database.erase(person, what).await?;
        eprintln!("postgres: {rows} rows, {}", what.name());
        self.passed(deadline).await?;
        eprintln!("services: they have passed it");
        Ok(())
    }

    async fn in_sinks(
        &mut self,
        person: &Person,
        found: &Found,
        deadline: Instant,
    ) -> Result<(), Failure> {
        if let Some(analytics) = &self.analytics {
            let rows: Vec<Place> = of_store(found, "clickhouse");
            analytics.erase(person, &rows, deadline).await?;
            eprintln!("clickhouse: {} rows", found.total_of("clickhouse"));
        }
        if let Some(cache) = &mut self.cache {
            let removed = cache.erase(person).await?;
            let removed: u64 = removed.iter().map(|place| place.count).sum();
            eprintln!("redis: {removed} keys and entries");
        }
        Ok(())
    }

    /// Waits until the connector, the enricher and the sinks have passed what is committed in Postgres now.
    async fn passed(&mut self, deadline: Instant) -> Result<(), Failure> {
        let position = self.database.position().await?;
        loop {
            match self.database.captured(&self.slot).await? {
                None => {
                    eprintln!(
                        "there is no slot {}: nothing captures this database",
                        self.slot
                    );
                    break;
                }
                Some(captured) if captured >= position => break,
                Some(_) => {
                    wait(deadline, "the connector has not confirmed what was changed").await?;
                }
            }
        }
        let changes = self.log.ends_of_changes().await?;
        let enricher = self.groups.enricher.clone();
        self.until_passed(&[&enricher], &changes, deadline).await?;
        let events = self.log.ends_of_events().await?;
        let (clickhouse, redis) = (self.groups.clickhouse.clone(), self.groups.redis.clone());
        self.until_passed(&[&clickhouse, &redis], &events, deadline)
            .await?;
        self.until_backfills_passed(&clickhouse, deadline).await
    }

    /// What a backfill has read before the change and written.
    async fn until_backfills_passed(&self, group: &str, deadline: Instant) -> Result<(), Failure> {
        if group.is_empty() {
            return Ok(());
        }
        let ends = self.log.ends_of_backfills().await?;
        loop {
            let committed = self.log.committed_of_backfills(group).await?;
            match unread(&ends, &committed) {
                0 => return Ok(()),
                lacks => {
                    let why = format!("{group} has {lacks} records of a backfill to read");
                    wait(deadline, &why).await?;
                }
            }
        }
    }

    async fn until_passed(
        &self,
        names: &[&str],
        ends: &Ends,
        deadline: Instant,
    ) -> Result<(), Failure> {
        loop {
            let groups = self.log.groups().await?;
            let behind = behind(&groups, names, ends);
            let Some((name, lacks)) = behind.first() else {
                return Ok(());
            };
            wait(deadline, &format!("{name} is {lacks} records behind")).await?;
        }
    }
}

fn of_store(found: &Found, store: &str) -> Vec<Place> {
    let of_store = found.places.iter().filter(|place| place.store == store);
    of_store.cloned().collect()
}

/// A moment; after the deadline the failure.
async fn wait(deadline: Instant, why: &str) -> Result<(), Failure> {
    if Instant::now() >= deadline {
        return Err(Failure::try_again(why)
            .remedy("what was done stays; let it catch up (engagectl lag), then give the same command again, perhaps with a longer --within")
            .next("engagectl lag"));
    }
    tokio::time::sleep(PAUSE).await;
    Ok(())
}
