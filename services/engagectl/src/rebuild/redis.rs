//! `engagectl rebuild redis`.
//!
//! Invariant: a partition that is made is left alone, unless it was said that it may go; whatever stops the others, running it again
//! goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use redis_aggregator::RedisAggregator;
use redis_aggregator::config::Config as Aggregator;
use redis_aggregator::connection::Server;
use redis_aggregator::error::StoreError;
use redis_aggregator::rebuild::{self, Maker, Place, Standing};
use redis_aggregator::store::Store;
use secrecy::SecretString;
use service::config::Loader;
use service::{App as _, Failure, Health};

use super::args::RebuildRedisArgs;
use super::log::Log;
use super::place::Places;
use super::table::Table;
use super::works::{Work, works};
use super::{idle, view};
use crate::cli::Output;
use crate::config::Config;
use crate::reset::Target;
use crate::reset::group::Group;

/// Contents, or sums of buckets, in one step.
const IN_ONE_STEP: usize = 500;
const NEXT: &str = "engagectl rebuild redis --execute";

/// Everything that is asked.
pub(super) struct Servers<'a> {
    pub(super) aggregator: Aggregator,
    /// The group of clickhouse-sink.
    pub(super) sink: Group,
    /// The group of redis-aggregator.
    pub(super) lanes: Group,
    pub(super) log: Log,
    pub(super) table: Table<'a>,
}

/// What a rebuild does.
pub(super) struct Plan {
    pub(super) address: String,
    pub(super) topic: String,
    pub(super) group: String,
    pub(super) members: Vec<String>,
    /// By which the table deletes rows.
    pub(super) ttl: Option<String>,
    pub(super) partitions: Vec<Part>,
}

/// One partition.
pub(super) struct Part {
    pub(super) number: i32,
    pub(super) standing: Standing,
    place: Place,
    /// `None`: it stays as it is.
    pub(super) work: Option<Work>,
}

pub(super) async fn run(
    config: &Config,
    args: &RebuildRedisArgs,
    output: Output,
) -> Result<(), Failure> {
    let servers = servers(config, args)?;
    let members = servers.lanes.members().await?;
    if args.execute {
        idle(&config.groups.redis, &members, NEXT)?;
    }
    let plan = plan(config, args, &servers, members).await?;
    if args.execute {
        execute(config, &servers, &plan).await?;
    }
    crate::cli::print(&match output {
        Output::Table => view::text(&plan, args.execute),
        Output::Json => format!("{:#}\n", view::json(&plan, args.execute)),
    });
    Ok(())
}

fn servers<'a>(config: &'a Config, args: &RebuildRedisArgs) -> Result<Servers<'a>, Failure> {
    let (kafka, topic) = (&config.kafka, &config.topics.enriched);
    Ok(Servers {
        aggregator: rebuild::quiet(aggregator(config, args)?),
        sink: Group::new(kafka, &config.groups.clickhouse, topic),
        lanes: Group::new(kafka, &config.groups.redis, topic),
        log: Log::new(kafka, topic),
        table: Table::new(&config.clickhouse)?,
    })
}

/// The configuration of the lanes that will go on: by their file, where they have one, and at the servers of this tool.
fn aggregator(config: &Config, args: &RebuildRedisArgs) -> Result<Aggregator, Failure> {
    let mut aggregator = match &args.aggregator {
        None => Aggregator::default(),
        Some(file) => {
            let loader = Loader::new(RedisAggregator::ENV).file(Some(file));
            let loaded = loader.load_service::<Aggregator>();
            loaded
                .map_err(|error| error.into_failure("redis-aggregator"))?
                .config
                .app
        }
    };
    let (theirs, topic) = (
        &mut aggregator.input.enriched_topic,
        &config.topics.enriched,
    );
    if args.aggregator.is_some() && theirs != topic {
        return Err(Failure::usage(format!(
            "redis-aggregator reads {theirs} by its file, and this tool {topic}"
        ))
        .remedy(
            "give both the same topic: input.enriched_topic there, KAFKA_ENRICHED_TOPIC here",
        ));
    }
    theirs.clone_from(topic);
    if args.aggregator.is_none() {
        aggregator.redis.prefix.clone_from(&config.redis.prefix);
    }
    aggregator.redis.url = SecretString::from(config.redis.url.as_str());
    aggregator.redis.tls = config.redis.tls.clone();
    Ok(aggregator)
}

async fn plan(
    config: &Config,
    args: &RebuildRedisArgs,
    servers: &Servers<'_>,
    members: Vec<String>,
) -> Result<Plan, Failure> {
    let facts = servers.sink.facts(None, Target::Earliest).await?;
    let places = places(servers, facts.len()).await?;
    let to_make = places.to_make(args.replace)?;
    let mut works = if to_make.is_empty() {
        BTreeMap::new()
    } else {
        works(servers, &facts).await?
    };
    let parts = places.all.into_iter().enumerate().map(|(index, place)| {
        let number = i32::try_from(index).unwrap_or(i32::MAX);
        let work = works.remove(&number);
        Part {
            number,
            standing: place.standing(),
            place,
            work: work.filter(|_| to_make.contains(&index)),
        }
    });
    Ok(Plan {
        address: places.address,
        topic: config.topics.enriched.clone(),
        group: config.groups.redis.clone(),
        members,
        ttl: servers.table.ttl().await?,
        partitions: parts.collect(),
    })
}

/// What stands at each position, read without changing anything.
async fn places(servers: &Servers<'_>, partitions: usize) -> Result<Places, Failure> {
    let settings = &servers.aggregator.redis;
    let server = Server::new(settings)?;
    let mut connection = server.look().await?;
    let mut all = Vec::with_capacity(partitions);
    for partition in 0..partitions {
        let key = format!("{}{{{partition}}}:pos", settings.prefix);
        let place = Place::read(&mut connection, &key).await;
        all.push(place.map_err(|cause| server.error(cause))?);
    }
    Ok(Places {
        all,
        address: server.address().to_owned(),
    })
}

async fn execute(config: &Config, servers: &Servers<'_>, plan: &Plan) -> Result<(), Failure> {
    let health = Health::default().condition("redis");
    let store = Store::new(servers.aggregator.clone(), health)?;
    let run = service::backoff::random();
    for part in &plan.partitions {
        let Some(work) = &part.work else { continue };
        idle(&config.groups.redis, &servers.lanes.members().await?, NEXT)?;
        write(&store, part, work, run).await.map_err(half_made)?;
        eprintln!(
            "partition {}: {} contents, goes on at offset {}",
            part.number,
            work.made.contents.len(),
            work.replay.goal().applied.enriched + 1
        );
    }
    Ok(())
}

/// Whatever stops it, what is made stays.
fn half_made(error: StoreError) -> Failure {
    if let StoreError::Moved { .. } = error {
        return Failure::try_again("another rebuild, or a redis-aggregator, writes there too")
            .cause(error.to_string())
            .remedy("let only one of them run, then go on")
            .next(NEXT);
    }
    Failure::from(error).next(NEXT)
}

async fn write(store: &Arc<Store>, part: &Part, work: &Work, run: u64) -> Result<(), StoreError> {
    if !matches!(part.standing, Standing::Empty | Standing::Damaged) {
        store.forget_counts(part.number).await?;
    }
    let goal = work.replay.goal();
    let mut maker = Maker::begin(Arc::clone(store), part.number, &part.place, goal, run).await?;
    let contents: Vec<_> = work.made.contents.iter().collect();
    for some in contents.chunks(IN_ONE_STEP) {
        let mut batch = rebuild::batch(&store.config);
        for (id, held) in some {
            batch.add_totals(id, held.totals, held.info.clone());
        }
        maker.add(&mut batch).await?;
    }
    let buckets: Vec<_> = contents
        .iter()
        .flat_map(|(id, held)| held.buckets.iter().map(move |bucket| (id, bucket)))
        .collect();
    for some in buckets.chunks(IN_ONE_STEP) {
        let mut batch = rebuild::batch(&store.config);
        for (id, (bucket, sums)) in some {
            batch.add_bucket(id, **bucket, **sums);
        }
        maker.add(&mut batch).await?;
    }
    maker.finish().await
}
