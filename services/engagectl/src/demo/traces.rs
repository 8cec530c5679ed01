//! The end of a traced demo: whether a trace has reached every sink.
//!
//! Invariant: a demo that was told to trace and shows no whole trace has failed.

use std::time::Duration;

use service::Failure;
use tokio::time::{Instant, sleep};

use crate::jaeger::{Jaeger, Trace};
use crate::pipeline::{Addresses, SINKS};

/// The spans of the last events are on their way for so long at most.
const WITHIN: Duration = Duration::from_secs(20);
/// Traces looked at.
const LOOKED_AT: usize = 200;
/// The receiver's name in traces.
const RECEIVER: &str = "webhook-receiver";

/// Says where a whole trace is; nothing where the demo is not traced.
pub(super) async fn reached_every_sink(addresses: &Addresses) -> Result<(), Failure> {
    let Some(traces) = &addresses.traces else {
        return Ok(());
    };
    let jaeger = Jaeger::at(&traces.jaeger_url);
    let deadline = Instant::now() + WITHIN;
    loop {
        let found = jaeger.newest("enricher", LOOKED_AT).await;
        let seen = found.as_ref().map_or(0, Vec::len);
        if let Some(trace) = found.iter().flatten().find(|trace| is_whole(trace)) {
            let page = jaeger.page(&trace.id);
            let whole = found.iter().flatten().filter(|trace| is_whole(trace));
            crate::cli::print(&format!(
                "  {} of the newest {seen} traces begin at the commit and end in every sink, such as {page}\n",
                whole.count()
            ));
            return Ok(());
        }
        if Instant::now() > deadline {
            let why = found
                .err()
                .unwrap_or_else(|| format!("{seen} traces were seen"));
            return Err(Failure::internal("no trace has reached every sink")
                .cause(why)
                .remedy("look at the services' logs, and whether engage_spans_dropped_total rises on their /metrics"));
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// It begins with the capture, at the commit, and has a part of each sink and of the receiver.
fn is_whole(trace: &Trace) -> bool {
    let begins = trace.spans.first().is_some_and(|span| {
        span.service == "enricher" && span.name.starts_with("capture ") && span.parent.is_none()
    });
    let has = |service: &str| trace.of(service).next().is_some();
    begins && SINKS.into_iter().all(has) && has(RECEIVER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jaeger::Span;

    fn trace(services: &[&str]) -> Trace {
        let span = |service: &&str| Span {
            service: (*service).to_owned(),
            name: "capture t".into(),
            ..Span::default()
        };
        Trace {
            id: "1".into(),
            spans: services.iter().map(span).collect(),
        }
    }

    #[test]
    fn a_trace_is_whole_only_with_every_sink_and_from_the_commit_on() {
        let all = [
            "enricher",
            "clickhouse-sink",
            "redis-aggregator",
            "webhook-forwarder",
            RECEIVER,
        ];
        assert!(is_whole(&trace(&all)));
        for missing in 0..all.len() {
            let rest = all.iter().enumerate().filter(|(at, _)| *at != missing);
            let rest: Vec<_> = rest.map(|(_, service)| *service).collect();
            assert!(!is_whole(&trace(&rest)), "{rest:?}");
        }
    }
}
