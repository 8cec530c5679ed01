//! Which point each service passes, and what makes it get there.
//!
//! Invariant: every point of a service is in the table for at least one; those of the tool are for its own tests.

use std::collections::BTreeMap;

use engagectl::pipeline::SERVICES;
use faults::Point;

use crate::faults::trigger::Trigger;

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
        P::EnricherCatalogBefore | P::EnricherCatalogAfter => enricher.then_some(Trigger::Start),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_visited_in_at_least_one_service() {
        let visits = all();
        let of_services = |point: &&Point| point.service() != "engagectl";
        for point in Point::ALL.iter().filter(of_services) {
            assert!(visits.iter().any(|visit| visit.point == *point), "{point}");
        }
    }

    #[test]
    fn what_happens_once_in_a_start_is_not_awaited_a_second_time() {
        let visits = all();
        let catalog = visits.iter().filter(|visit| {
            let point = visit.point;
            point == Point::EnricherCatalogBefore || point == Point::EnricherCatalogAfter
        });
        let triggers: Vec<Trigger> = catalog.map(|visit| visit.trigger).collect();
        assert_eq!(triggers, [Trigger::Start; 2]);
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
