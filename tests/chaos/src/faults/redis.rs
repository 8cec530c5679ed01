//! Redis: killed, lost answers, an older copy, emptied, out of memory.
//!
//! Invariant: each fault heals what it broke before it returns; a copy of the data is taken and put back only as a whole.

use std::path::{Path, PathBuf};
use std::time::Duration;

use devstack::Kind;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::disk::copy;
use super::group::Group;
use super::refusal::{Refusal, others_are_ready};
use super::{Class, Company, turn};
use crate::proxy::{Conduct, Cut, Pair};
use crate::{Arena, wait};

/// A rewrite may be under way after a restart.
const COPIED_WITHIN: Duration = Duration::from_secs(20);

/// How long the server may take for one command.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// The load runs all the time.
const COUNTED_WITHIN: Duration = Duration::from_secs(60);

/// The classes of this module.
pub const CLASSES: &[Class] = &[
    Class {
        name: "redis.kill",
        about: "kill -9 and restart",
        company: Company::Any,
        weight: 4,
        inject: |arena, rng| Box::pin(kill(arena, rng)),
    },
    Class {
        name: "redis.answers-lost",
        about: "scripts run, but their answers come after the client's timeout or never",
        company: Company::Any,
        weight: 4,
        inject: |arena, rng| Box::pin(answers_lost(arena, rng)),
    },
    Class {
        name: "redis.older-copy",
        about: "a failover to a copy that lacks the last seconds",
        company: Company::Any,
        weight: 3,
        inject: |arena, rng| Box::pin(older_copy(arena, rng)),
    },
    Class {
        name: "redis.out-of-memory",
        about: "every write is refused for some seconds",
        company: Company::Any,
        weight: 3,
        inject: |arena, rng| Box::pin(out_of_memory(arena, rng)),
    },
    Class {
        name: "redis.flushall",
        about: "emptied: must be named and refused; then the copy is put back",
        company: Company::None,
        weight: 1,
        inject: |arena, _| Box::pin(flushall(arena)),
    },
];

async fn kill(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let down = Duration::from_millis(rng.random_range(0..2500));
    let _turn = turn::at(Kind::Redis).await;
    arena.stack.redis().kill9().await?;
    tokio::time::sleep(down).await;
    arena.stack.redis().start().await?;
    Ok(format!("killed it, down for {down:?}"))
}

async fn answers_lost(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    // The client gives up after half a second.
    let held = Duration::from_millis(rng.random_range(400..2500));
    let come_late = rng.random::<bool>();
    let _turn = turn::at(Kind::Redis).await;
    let _link = turn::on(Pair::RedisAggregatorRedis).await;
    let link = arena.proxies.link(Pair::RedisAggregatorRedis);
    link.set(Conduct::answers_held());
    tokio::time::sleep(held).await;
    if !come_late {
        link.cut(Cut::Reset);
    }
    link.heal();
    let fate = if come_late { "late" } else { "never" };
    Ok(format!("answers held for {held:?}, then {fate}"))
}

async fn older_copy(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let lost = Duration::from_millis(rng.random_range(500..5000));
    let _turn = turn::at(Kind::Redis).await;
    let copy = Copy::take(arena).await?;
    tokio::time::sleep(lost).await;
    copy.put_back(arena).await?;
    Ok(format!("went back to a copy {lost:?} old"))
}

async fn out_of_memory(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let held = Duration::from_millis(rng.random_range(500..5000));
    let _turn = turn::at(Kind::Redis).await;
    command(arena, &["CONFIG", "SET", "maxmemory", "1"]).await?;
    tokio::time::sleep(held).await;
    command(arena, &["CONFIG", "SET", "maxmemory", "0"]).await?;
    Ok(format!("no memory for {held:?}"))
}

async fn flushall(arena: &Arena) -> anyhow::Result<String> {
    let _broker = turn::at(Kind::Kafka).await;
    let _turn = turn::at(Kind::Redis).await;
    something_is_counted(arena).await?;
    let copy = Copy::take(arena).await?;
    let refusal = Refusal::expected(arena, "redis-aggregator");
    let flushed = command(arena, &["FLUSHALL"]).await;
    let named = refusal.is_named(&["redis was wiped", "count anew"]).await;
    let others = others_are_ready(arena, "redis-aggregator").await;
    copy.put_back(arena).await?;
    refusal.repaired();
    flushed?;
    named?;
    others?;
    Ok("emptied it: refused by name; the copy was put back".to_owned())
}

/// The group's commits tell an emptied Redis from a new one; before the first, nothing is lost by emptying it.
async fn something_is_counted(arena: &Arena) -> anyhow::Result<()> {
    let group = Group::of("redis-aggregator");
    wait::until("a commit of counted records", COUNTED_WITHIN, || async {
        let commits = group.committed(arena).await;
        let commits = commits.map_err(|error| format!("{error:#}"))?;
        match commits
            .iter()
            .any(|commit| commit.metadata.contains("position="))
        {
            true => Ok(()),
            false => Err(format!(
                "{} commits, none speaks of a record",
                commits.len()
            )),
        }
    })
    .await
}

/// A whole copy of the append-only files.
struct Copy {
    data: PathBuf,
    copy: PathBuf,
}

impl Copy {
    /// While no rewrite is under way, the files are a prefix of what was written: at worst with a torn end.
    async fn take(arena: &Arena) -> anyhow::Result<Self> {
        let data = arena.stack.dir().join("redis");
        let copy = arena.stack.dir().join("redis.copy");
        wait::until("a copy of the append-only files", COPIED_WITHIN, || async {
            let before = files(&data);
            let state = command(arena, &["INFO", "persistence"]).await;
            let state = state.map_err(|error| format!("{error:#}"))?;
            if !state.contains("aof_rewrite_in_progress:0") {
                return Err("a rewrite is under way".to_owned());
            }
            let copied = replace(&data, &copy).await;
            copied.map_err(|error| format!("{error:#}"))?;
            match files(&data) == before {
                true => Ok(()),
                false => Err("a rewrite began meanwhile".to_owned()),
            }
        })
        .await?;
        Ok(Self { data, copy })
    }

    async fn put_back(self, arena: &Arena) -> anyhow::Result<()> {
        arena.stack.redis().kill9().await?;
        replace(&self.copy, &self.data).await?;
        tokio::fs::remove_dir_all(&self.copy).await?;
        Ok(arena.stack.redis().start().await?)
    }
}

/// The names of the append-only files: a rewrite gives them new ones.
fn files(data: &Path) -> Vec<std::ffi::OsString> {
    let entries = std::fs::read_dir(data.join("appendonlydir"));
    let mut names: Vec<_> = entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    names.sort();
    names
}

/// Makes `to` a copy of `from`.
async fn replace(from: &Path, to: &Path) -> anyhow::Result<()> {
    if to.exists() {
        tokio::fs::remove_dir_all(to).await?;
    }
    let (from, to) = (from.to_owned(), to.to_owned());
    tokio::task::spawn_blocking(move || copy(&from, &to)).await?
}

/// One command over a connection of its own, straight to the server.
async fn command(arena: &Arena, words: &[&str]) -> anyhow::Result<String> {
    let client = redis::Client::open(arena.addresses.redis_url.as_str())?;
    // By itself the client gives up after half a second, whatever the server then does.
    let patient = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ANSWERS_WITHIN))
        .set_response_timeout(Some(ANSWERS_WITHIN));
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&patient)
        .await?;
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    Ok(command.query_async(&mut connection).await?)
}
