//! For tests: spans that are kept instead of exported.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};

use super::{Head, Traces, provider};
use crate::config::{Sampler, TelemetryConfig};

/// What was finished, in that order.
#[derive(Clone, Debug, Default)]
pub struct Finished(Arc<Mutex<Vec<SpanData>>>);

impl Finished {
    /// All of it so far.
    #[must_use]
    pub fn spans(&self) -> Vec<SpanData> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl SpanProcessor for Finished {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// Traces with this sampler, which live as long as the process; `None` for one that traces nothing.
#[must_use]
pub fn traces(sampler: Sampler) -> (Option<&'static Traces>, Finished) {
    let finished = Finished::default();
    let provider = provider().with_span_processor(finished.clone()).build();
    let config = TelemetryConfig {
        sampler,
        ..TelemetryConfig::default()
    };
    let traces = Head::of(&config).map(|head| Traces::new(&provider, "test", head));
    (traces.map(|traces| &*Box::leak(Box::new(traces))), finished)
}
