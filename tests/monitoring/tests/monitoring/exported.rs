//! A running pipeline exports what its services list, with the kinds and labels listed, and nothing else.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use e2e::{Content, Event, World};
use monitoring::exposition::{Family, families};
use monitoring::inventory::{Exporter, exporters};
use service::metrics::{Kind, Metric};

use crate::pipeline::{PATIENCE, Running, eventually, page, pipeline};

/// Something of everything that is counted only when it happens: events, a dead letter of each service.
async fn load(world: &World) {
    let content = world.insert_content(Content::podcast(300)).await;
    for duration in 1..49 {
        world.insert_event(Event::play(&content, duration)).await;
    }
    let event = world.insert_event(Event::play(&content, 49)).await;
    world.clickhouse_row(&event).await;
    let key = format!("{{\"content_id\":\"{content}\"}}");
    let addresses = world.addresses();
    let enriched = &addresses.platform_settings().topics.enriched;
    world
        .produce("cdc.public.engagement_events", &key, b"{\"op\":\"c\"")
        .await;
    // into a partition that the enricher knows as its own: in an empty one it would rightly refuse to begin behind this
    world.produce(enriched, &key, b"no event").await;
    let last = world.insert_event(Event::play(&content, 60)).await;
    world.clickhouse_row(&last).await;
    world.redis_count(&content, 50).await;
    world.delivered(&last).await;
}

fn complaints(exporter: &Exporter, page: &str) -> Vec<String> {
    let found = families(page);
    let listed: Vec<(&str, &Metric)> = exporter
        .metrics
        .iter()
        .flat_map(|metric| {
            std::iter::once(metric.name)
                .chain(metric.alias)
                .map(move |n| (n, metric))
        })
        .collect();
    let unknown = found
        .keys()
        .filter(|name| !listed.iter().any(|(n, _)| n == *name));
    let mut all: Vec<String> = unknown
        .map(|name| format!("{name} is not listed"))
        .collect();
    for (name, metric) in listed {
        match found.get(name) {
            None => all.push(format!("{name} is not exported")),
            Some(family) => all.extend(differences(name, metric, family)),
        }
    }
    all
}

fn differences(name: &str, metric: &Metric, family: &Family) -> Vec<String> {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let labels: BTreeSet<String> = metric.labels.iter().map(|l| l.name.to_owned()).collect();
    let mut all = Vec::new();
    if family.kind != kind {
        all.push(format!("{name} is a {}, listed as {kind}", family.kind));
    }
    if family.labels != labels {
        all.push(format!(
            "{name} has labels {:?}, listed {labels:?}",
            family.labels
        ));
    }
    if !family.described {
        all.push(format!("{name} has no description"));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn every_service_exports_what_it_lists_and_nothing_else() {
    let (world, _turn) = pipeline().await;
    load(world).await;
    let canary = Running::canary(world, "60s");
    let admin = |name: &str| -> SocketAddr {
        if name == "canary" {
            canary.admin
        } else {
            world.addresses().admin(name)
        }
    };
    for exporter in exporters() {
        let at = admin(exporter.name);
        eventually(exporter.name, PATIENCE, async || {
            let (_, text) = page(at, "/metrics").await.ok_or("no answer")?;
            match complaints(&exporter, &text) {
                none if none.is_empty() => Ok(()),
                some => Err(some.join("\n")),
            }
        })
        .await;
    }
}
