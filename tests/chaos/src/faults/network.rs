//! Traffic between each pair is delayed, narrowed, cut, halved, swallowed.
//!
//! Invariant: each fault heals what it broke before it returns; one injection goes through every pair, in an order and
//! with figures drawn anew.

use std::num::NonZeroU64;
use std::time::Duration;

use rand::Rng;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

use super::{Class, Company, turn};
use crate::Arena;
use crate::proxy::{At, Conduct, Cut, Direction, Pair, Then, Trap};

/// A pair that says nothing for this long is left alone: lookups, for one, are rare.
const SPEAKS_WITHIN: Duration = Duration::from_millis(1500);

/// The classes of this module.
pub const CLASSES: &[Class] = &[
    Class {
        name: "network.delay",
        about: "everything between every pair arrives later",
        company: Company::Any,
        weight: 2,
        inject: |arena, rng| Box::pin(delay(arena, rng)),
    },
    Class {
        name: "network.narrow",
        about: "little bandwidth between one pair after the other",
        company: Company::Any,
        weight: 1,
        inject: |arena, rng| Box::pin(narrow(arena, rng)),
    },
    Class {
        name: "network.cut",
        about: "connections between each pair end at some byte, by FIN or RST",
        company: Company::Any,
        weight: 4,
        inject: |arena, rng| Box::pin(cut(arena, rng)),
    },
    Class {
        name: "network.halve",
        about: "half of a packet arrives, then nothing, between each pair",
        company: Company::Any,
        weight: 3,
        inject: |arena, rng| Box::pin(halve(arena, rng)),
    },
    Class {
        name: "network.blackhole",
        about: "silence between each pair, once beyond the session timeout",
        company: Company::Any,
        weight: 2,
        inject: |arena, rng| Box::pin(blackhole(arena, rng)),
    },
    Class {
        name: "network.answers-lost",
        about: "requests arrive, answers do not, and the connection ends",
        company: Company::Any,
        weight: 3,
        inject: |arena, rng| Box::pin(answers_lost(arena, rng)),
    },
];

fn shuffled(arena: &Arena, rng: &mut ChaCha8Rng) -> Vec<Pair> {
    let mut pairs = arena.pairs();
    pairs.shuffle(rng);
    pairs
}

fn millis(rng: &mut ChaCha8Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range))
}

fn ending(rng: &mut ChaCha8Rng) -> Cut {
    if rng.random() { Cut::Reset } else { Cut::Close }
}

fn direction(rng: &mut ChaCha8Rng) -> Direction {
    if rng.random() {
        Direction::Up
    } else {
        Direction::Down
    }
}

async fn delay(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let mut turns = Vec::new();
    for pair in arena.pairs() {
        turns.push(turn::on(pair).await);
        let delay = millis(rng, 1..250);
        arena.proxies.link(pair).set(Conduct::slow(delay));
    }
    let held = millis(rng, 2000..6000);
    tokio::time::sleep(held).await;
    for pair in arena.pairs() {
        arena.proxies.link(pair).heal();
    }
    Ok(format!("up to 250 ms between every pair for {held:?}"))
}

async fn narrow(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    for pair in shuffled(arena, rng) {
        let _turn = turn::on(pair).await;
        let rate = NonZeroU64::new(rng.random_range(10_000..200_000));
        let link = arena.proxies.link(pair);
        link.set(rate.map_or_else(Conduct::default, Conduct::narrow));
        tokio::time::sleep(millis(rng, 300..1200)).await;
        link.heal();
    }
    Ok("10 to 200 kB/s between each pair".to_owned())
}

async fn cut(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let mut exact = 0;
    for pair in shuffled(arena, rng) {
        let _turn = turn::on(pair).await;
        let how = ending(rng);
        let link = arena.proxies.link(pair);
        link.arm(Trap {
            direction: direction(rng),
            at: At::Bytes(rng.random_range(0..20_000)),
            then: Then::Cut(how),
        });
        if link.sprung(SPEAKS_WITHIN).await {
            exact += 1;
        } else {
            link.heal();
            link.cut(how);
        }
    }
    Ok(format!(
        "ended a connection of each pair, {exact} at an exact byte"
    ))
}

async fn halve(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let mut halved = 0;
    for pair in shuffled(arena, rng) {
        let _turn = turn::on(pair).await;
        let link = arena.proxies.link(pair);
        link.arm(Trap {
            direction: direction(rng),
            at: At::HalfOfNext,
            then: Then::Stall,
        });
        let torn_after = rng.random::<bool>().then(|| ending(rng));
        let held = millis(rng, 100..1500);
        if link.sprung(SPEAKS_WITHIN).await {
            halved += 1;
            tokio::time::sleep(held).await;
        }
        if let Some(how) = torn_after {
            link.cut(how);
        }
        link.heal();
    }
    Ok(format!("halved what {halved} pairs said"))
}

async fn blackhole(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    let mut longest = millis(rng, 7000..10_000);
    for pair in shuffled(arena, rng) {
        let _turn = turn::on(pair).await;
        let link = arena.proxies.link(pair);
        link.set(Conduct::blackhole());
        tokio::time::sleep(longest).await;
        if rng.random() {
            link.cut(Cut::Reset);
        }
        link.heal();
        longest = millis(rng, 200..2500);
    }
    Ok("silence between each pair, once for more than 7 s".to_owned())
}

async fn answers_lost(arena: &Arena, rng: &mut ChaCha8Rng) -> anyhow::Result<String> {
    for pair in shuffled(arena, rng) {
        let _turn = turn::on(pair).await;
        let link = arena.proxies.link(pair);
        link.set(Conduct::answers_held());
        tokio::time::sleep(millis(rng, 200..2000)).await;
        link.cut(ending(rng));
        link.heal();
    }
    Ok("lost what each server answered for up to 2 s".to_owned())
}
