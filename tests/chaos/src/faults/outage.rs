//! A long outage of what each sink writes to, one after the other, and how fast the backlog drains afterwards.
//!
//! Invariant: nothing else is broken meanwhile, and rows keep coming at the same rate until the backlog is gone.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::group::Group;
use crate::proxy::{Conduct, Cut, Pair};
use crate::{Arena, wait};

/// How much may be left of a backlog that counts as drained, in seconds of the steady stream: commits are a second old.
const LEFT_SECONDS: f64 = 3.0;

/// Each sink with its way to the server.
const SINKS: [(&str, Pair); 3] = [
    ("clickhouse-sink", Pair::ClickHouseSinkClickHouse),
    ("redis-aggregator", Pair::RedisAggregatorRedis),
    ("webhook-forwarder", Pair::WebhookForwarderReceiver),
];

/// How one sink came back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drain {
    /// The service.
    pub service: String,
    /// How long its server was away, in seconds.
    pub outage_s: f64,
    /// Records that waited when the server was back.
    pub backlog: i64,
    /// Records a second that kept coming.
    pub steady: f64,
    /// From the server's return until the backlog was gone, in seconds.
    pub seconds: f64,
    /// Records a second done meanwhile.
    pub rate: f64,
}

impl Drain {
    /// How many times the steady rate.
    #[must_use]
    pub fn times(&self) -> f64 {
        self.rate / self.steady.max(1.0)
    }
}

impl fmt::Display for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} records after {:.0} s drained in {:.1} s at {:.0}/s, {:.1} x the steady {:.0}/s",
            self.service,
            self.backlog,
            self.outage_s,
            self.seconds,
            self.rate,
            self.times(),
            self.steady
        )
    }
}

/// How far a group is, all partitions together.
#[derive(Clone, Copy, Debug)]
struct Point {
    done: i64,
    end: i64,
}

/// Cuts one sink after the other off from its server, for this long each, and measures how each comes back.
///
/// # Errors
/// The broker does not answer, or a sink has not come back in three times the outage (five minutes at least).
pub async fn measure_drain(arena: &Arena, outage: Duration) -> anyhow::Result<Vec<Drain>> {
    let mut measured = Vec::new();
    for (service, pair) in SINKS {
        if arena.fleet.runs(service) {
            arena.measures.begin();
            let drained = measure_one(arena, service, pair, outage).await;
            arena.measures.end();
            let drained = drained?;
            crate::run::say(&format!("sinks.outage: {drained}"));
            arena.measures.count("sinks.outage");
            measured.push(drained);
        }
    }
    Ok(measured)
}

async fn measure_one(
    arena: &Arena,
    service: &'static str,
    pair: Pair,
    outage: Duration,
) -> anyhow::Result<Drain> {
    let before = point(arena, service).await?;
    let link = arena.proxies.link(pair);
    link.set(Conduct::refusing());
    link.cut(Cut::Reset);
    let away = Instant::now();
    tokio::time::sleep(outage).await;
    let after = point(arena, service).await?;
    let outage_s = away.elapsed().as_secs_f64();
    let steady = float(after.end - before.end) / outage_s;
    link.heal();
    drain(arena, service, outage_s, steady).await
}

async fn drain(
    arena: &Arena,
    service: &'static str,
    outage_s: f64,
    steady: f64,
) -> anyhow::Result<Drain> {
    let (back, first) = (Instant::now(), point(arena, service).await?);
    let what = format!("{service} has done what waited for it");
    let within = Duration::from_secs_f64((outage_s * 3.0).max(300.0));
    let last = wait::until(&what, within, || async {
        match point(arena, service).await {
            Ok(now) if float(now.end - now.done) <= steady * LEFT_SECONDS => Ok(now),
            seen => Err(seen),
        }
    })
    .await?;
    let seconds = back.elapsed().as_secs_f64();
    Ok(Drain {
        service: service.to_owned(),
        outage_s,
        backlog: first.end - first.done,
        steady,
        seconds,
        rate: float(last.done - first.done) / seconds,
    })
}

async fn point(arena: &Arena, service: &str) -> anyhow::Result<Point> {
    let (done, end) = Group::of(service).progress(arena).await?;
    Ok(Point { done, end })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "counts of records; beyond 2^53 there are none"
)]
fn float(count: i64) -> f64 {
    count as f64
}
