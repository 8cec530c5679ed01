//! The enumerations, in both directions.
//!
//! Invariant: exhaustive matches only, so that a new value does not compile until both directions know it.

use engagement_proto::v1;

use super::{DecodeError, invalid};
use crate::event::{Anomaly, EnrichmentStatus, Lane, Origin};

pub(super) const fn lane(lane: Lane) -> v1::Lane {
    match lane {
        Lane::Live => v1::Lane::Live,
        Lane::Backfill => v1::Lane::Backfill,
        Lane::Redrive => v1::Lane::Redrive,
    }
}

pub(super) const fn status(status: EnrichmentStatus) -> v1::EnrichmentStatus {
    match status {
        EnrichmentStatus::Ok => v1::EnrichmentStatus::Ok,
        EnrichmentStatus::Missing => v1::EnrichmentStatus::Missing,
        EnrichmentStatus::NoContent => v1::EnrichmentStatus::NoContent,
    }
}

pub(super) const fn origin(origin: Origin) -> v1::Origin {
    match origin {
        Origin::Stream => v1::Origin::Stream,
        Origin::Snapshot => v1::Origin::Snapshot,
        Origin::Backfill => v1::Origin::Backfill,
    }
}

pub(super) const fn anomaly(anomaly: Anomaly) -> v1::Anomaly {
    match anomaly {
        Anomaly::DurationNegative => v1::Anomaly::DurationNegative,
        Anomaly::Over100Percent => v1::Anomaly::Over100Percent,
        Anomaly::EventTsFuture => v1::Anomaly::EventTsFuture,
        Anomaly::EventTsAncient => v1::Anomaly::EventTsAncient,
        Anomaly::UnknownEventType => v1::Anomaly::UnknownEventType,
    }
}

pub(super) fn read_lane(lane: v1::Lane) -> Result<Lane, DecodeError> {
    match lane {
        v1::Lane::Live => Ok(Lane::Live),
        v1::Lane::Backfill => Ok(Lane::Backfill),
        v1::Lane::Redrive => Ok(Lane::Redrive),
        v1::Lane::Unspecified => Err(unknown("source.lane")),
    }
}

pub(super) fn read_status(status: v1::EnrichmentStatus) -> Result<EnrichmentStatus, DecodeError> {
    match status {
        v1::EnrichmentStatus::Ok => Ok(EnrichmentStatus::Ok),
        v1::EnrichmentStatus::Missing => Ok(EnrichmentStatus::Missing),
        v1::EnrichmentStatus::NoContent => Ok(EnrichmentStatus::NoContent),
        v1::EnrichmentStatus::Unspecified => Err(unknown("enrichment_status")),
    }
}

pub(super) fn read_origin(origin: v1::Origin) -> Result<Origin, DecodeError> {
    match origin {
        v1::Origin::Stream => Ok(Origin::Stream),
        v1::Origin::Snapshot => Ok(Origin::Snapshot),
        v1::Origin::Backfill => Ok(Origin::Backfill),
        v1::Origin::Unspecified => Err(unknown("origin")),
    }
}

pub(super) const fn read_anomaly(anomaly: v1::Anomaly) -> Option<Anomaly> {
    match anomaly {
        v1::Anomaly::DurationNegative => Some(Anomaly::DurationNegative),
        v1::Anomaly::Over100Percent => Some(Anomaly::Over100Percent),
        v1::Anomaly::EventTsFuture => Some(Anomaly::EventTsFuture),
        v1::Anomaly::EventTsAncient => Some(Anomaly::EventTsAncient),
        v1::Anomaly::UnknownEventType => Some(Anomaly::UnknownEventType),
        v1::Anomaly::Unspecified => None,
    }
}

fn unknown(field: &'static str) -> DecodeError {
    invalid(
        field,
        "no value this version knows",
        "a value of event.proto; a newer writer needs a newer reader",
    )
}
