//! ClickHouse: killed during an insert, down, slow, resets, lost and false answers.
//!
//! Invariant: each fault heals what it broke before it returns.

use std::time::Duration;

use devstack::Kind;
use rand::Rng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand_chacha::ChaCha8Rng;

use super::{Class, Company, turn};
use crate::Arena;
use crate::proxy::{At, Conduct, Cut, Direction, Link, Pair, Spoil, Then, Trap};

/// How long an insert may fail to come: at the same time another fault may keep every event from the sink, and a cold
/// Connect on a busy machine needs most of a minute alone.
const AN_INSERT_COMES_WITHIN: Duration = Duration::from_secs(180);

/// The classes of this module.
pub const CLASSES: &[Class] = &[
    Class {
        name: "clickhouse.kill",
        about: "kill -9 in the middle of an insert's body, and a restart",
        company: Company::Any,
        weight: 4,
        inject: |arena, rng| Box::pin(kill(arena, rng)),
    },
    Class {
        name: "clickhouse.down",
        about: "away for up to 30 s",
        company: Company::Any,
        weight: 1,
        inject: |arena, rng| Box::pin(down(arena, rng)),
    },
    Class {
        name: "clickhouse.unavailable",
        about: "503 to some inserts",
        company: Company::Any,
        weight: 2,
        inject: |arena, rng| Box::pin(unavailable(arena, rng)),
    },
    Class {
        name: "clickhouse.slow",
        about: "a narrow and slow way to it",
        company: Company::Any,
        weight: 2,
        inject: |arena, rng| Box::pin(slow(arena, rng)),
    },
    Class {
        name: "clickhouse.reset",
        about: "a reset at every sixteenth of an insert's body",
        company: Company::Any,
        weight: 2,
        inject: |arena, rng| Box::pin(reset(arena, rng)),
    },
    Class {
        name: "clickhouse.answer-lost",
        about: "the insert runs, its answer is lost",
        company: Company::Any,
        weight: 4,
        inject: |arena, rng| Box::pin(answer_lost(arena, rng)),
    },
    Class {
        name: "clickhouse.exception",
        about: "200 with an exception in the body, after the insert ran or without it",
        company: Company::Any,
        weight: 4,
        inject: |arena, rng| Box::pin(exception(arena, rng)),
    },
];

fn link(arena: &Arena) -> &Link {
    arena.proxies.link(Pair::ClickHouseSinkClickHouse)
}

async fn kill(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let down = Duration::from_millis(rng.random_range(0..3000));
    let _turn = turn::at(Kind::ClickHouse).await;
    let _link = turn::on(Pair::ClickHouseSinkClickHouse).await;
    let server = arena.stack.clickhouse();
    link(arena).arm(Trap {
        direction: Direction::Up,
        at: At::HalfOfNext,
        then: Then::Stall,
    });
    let in_the_middle = link(arena).sprung(Duration::from_secs(5)).await;
    server.kill9().await?;
    link(arena).cut(Cut::Reset);
    link(arena).heal();
    tokio::time::sleep(down).await;
    server.start().await?;
    let moment = if in_the_middle {
        "with half of a request"
    } else {
        "when idle"
    };
    Ok(format!("killed it {moment}, down for {down:?}"))
}

async fn down(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let down = Duration::from_secs(rng.random_range(5..=30));
    let _turn = turn::at(Kind::ClickHouse).await;
    let server = arena.stack.clickhouse();
    server.stop().await?;
    tokio::time::sleep(down).await;
    server.start().await?;
    Ok(format!("stopped it for {down:?}"))
}

async fn unavailable(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let count = rng.random_range(1..=5);
    spoil(arena, &vec![Spoil::Status(503); count]).await?;
    Ok(format!("503 to {count} inserts"))
}

async fn slow(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let delay = Duration::from_millis(rng.random_range(50..800));
    let rate = *[5_000, 20_000, 100_000].choose(rng).unwrap_or(&20_000);
    let held = Duration::from_secs(rng.random_range(2..8));
    let _turn = turn::at(Kind::ClickHouse).await;
    let _link = turn::on(Pair::ClickHouseSinkClickHouse).await;
    let mut conduct = Conduct::slow(delay);
    conduct.up.bytes_per_second = std::num::NonZeroU64::new(rate);
    link(arena).set(conduct);
    tokio::time::sleep(held).await;
    link(arena).heal();
    Ok(format!(
        "{delay:?} later each way and {rate} bytes/s, for {held:?}"
    ))
}

async fn reset(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let mut sixteenths: Vec<u8> = (0..16).collect();
    sixteenths.shuffle(rng);
    let spoils: Vec<Spoil> = sixteenths.into_iter().map(Spoil::ResetAt).collect();
    spoil(arena, &spoils).await?;
    Ok("reset 16 inserts, one at each sixteenth of the body".to_owned())
}

async fn answer_lost(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let count = rng.random_range(1..=4);
    spoil(arena, &vec![Spoil::LoseAnswer; count]).await?;
    Ok(format!("lost the answers to {count} inserts that ran"))
}

async fn exception(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let mut spoils = Vec::new();
    for (ran, in_head) in [(false, false), (false, true), (true, false), (true, true)] {
        spoils.push(Spoil::Exception { ran, in_head });
    }
    spoils.shuffle(rng);
    spoil(arena, &spoils).await?;
    Ok("200 with an exception, in head or body only, insert run or not".to_owned())
}

/// Spoils the next inserts, one each; events come all the time, so a sink that goes on will send them.
async fn spoil(arena: &Arena, spoils: &[Spoil]) -> anyhow::Result<()> {
    let _turn = turn::at(Kind::ClickHouse).await;
    let _link = turn::on(Pair::ClickHouseSinkClickHouse).await;
    let link = link(arena);
    for spoil in spoils {
        link.spoil(*spoil);
    }
    let all_used = link.sprung(AN_INSERT_COMES_WITHIN).await;
    link.heal();
    anyhow::ensure!(
        all_used,
        "clickhouse-sink did not send {} inserts within {AN_INSERT_COMES_WITHIN:?}",
        spoils.len()
    );
    Ok(())
}
