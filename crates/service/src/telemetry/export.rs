//! The way of finished spans to the exporter: bounded, never waited for, and counted where it ends early.
//!
//! Invariant: every span that was finished and is not exported is counted in `engage_spans_dropped_total`, with the reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use metrics::counter;
use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Span, SpanData, SpanExporter, SpanProcessor,
};

use crate::metrics::SPANS_DROPPED;

/// Most spans of one request to the collector.
const BATCH: usize = 512;

/// A batch processor that is shared by providers, bounded by what is not exported yet.
#[derive(Clone, Debug)]
pub(super) struct Bounded {
    inner: Arc<BatchSpanProcessor>,
    waiting: Arc<AtomicUsize>,
    most: usize,
}

impl Bounded {
    /// Exports by a thread of its own, every `delay` or when [`BATCH`] spans wait; at most `most` of them do.
    pub(super) fn new<E: SpanExporter + 'static>(
        exporter: E,
        resource: &Resource,
        most: usize,
        delay: Duration,
    ) -> Self {
        let waiting = Arc::new(AtomicUsize::new(0));
        let exporter = Counted {
            inner: exporter,
            waiting: Arc::clone(&waiting),
            failing: AtomicBool::new(false),
        };
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(most)
            .with_max_export_batch_size(BATCH.min(most))
            .with_scheduled_delay(delay)
            .build();
        let mut inner = BatchSpanProcessor::new(exporter, config);
        inner.set_resource(resource);
        Self {
            inner: Arc::new(inner),
            waiting,
            most,
        }
    }
}

impl SpanProcessor for Bounded {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.waiting.fetch_add(1, Ordering::AcqRel) >= self.most {
            self.waiting.fetch_sub(1, Ordering::AcqRel);
            counter!(SPANS_DROPPED, "reason" => "queue_full").increment(1);
            return;
        }
        self.inner.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    /// A second call, by the other provider, finds it shut down already.
    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }
}

/// Counts what the collector does not take, and says so once instead of at every try.
#[derive(Debug)]
struct Counted<E> {
    inner: E,
    waiting: Arc<AtomicUsize>,
    failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.waiting.fetch_sub(spans, Ordering::AcqRel);
        let exported = self.inner.export(batch).await;
        match &exported {
            Ok(()) if self.failing.swap(false, Ordering::Relaxed) => {
                tracing::info!("the collector takes traces again");
            }
            Ok(()) => {}
            Err(error) => {
                counter!(SPANS_DROPPED, "reason" => "export_failed").increment(spans as u64);
                if !self.failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "the collector does not take traces, they are dropped until it does");
                }
            }
        }
        // Counted and told; the processor would log each failure as an error.
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::sync::{Mutex, PoisonError};

    use metrics_exporter_prometheus::PrometheusBuilder;
    use opentelemetry::trace::{Tracer as _, TracerProvider as _};
    use opentelemetry_sdk::error::OTelSdkError;
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;
    use crate::traces::testing::Finished;

    /// Tells that an export began, and waits for leave to end it.
    #[derive(Debug)]
    struct Slow {
        began: SyncSender<usize>,
        go: Mutex<Receiver<()>>,
    }

    impl SpanExporter for Slow {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            let _ = self.began.send(batch.len());
            let go = self.go.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = go.recv_timeout(Duration::from_secs(30));
            Ok(())
        }
    }

    /// Takes nothing.
    #[derive(Debug)]
    struct Away;

    impl SpanExporter for Away {
        async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
            Err(OTelSdkError::InternalFailure("connection refused".into()))
        }
    }

    fn provider(processor: impl SpanProcessor + 'static) -> SdkTracerProvider {
        SdkTracerProvider::builder()
            .with_span_processor(processor)
            .build()
    }

    fn finish(provider: &SdkTracerProvider, spans: usize) {
        let tracer = provider.tracer("test");
        (0..spans).for_each(|_| drop(tracer.start("span")));
    }

    /// Runs `work` and gives what this thread has counted.
    fn counted(reason: &str, work: impl FnOnce()) -> Option<String> {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, work);
        let wanted = format!("{SPANS_DROPPED}{{reason=\"{reason}\"}} ");
        let page = handle.render();
        let line = page.lines().find_map(|line| line.strip_prefix(&wanted));
        line.map(str::to_owned)
    }

    #[test]
    fn a_full_queue_drops_and_counts_instead_of_waiting() {
        let count = counted("queue_full", || {
            let ((began, seen), (go, wait)) = (sync_channel(64), sync_channel(64));
            let exporter = Slow {
                began,
                go: Mutex::new(wait),
            };
            let resource = Resource::builder_empty().build();
            let bounded = Bounded::new(exporter, &resource, 4, Duration::from_millis(10));
            let provider = provider(bounded);
            finish(&provider, 1);
            assert_eq!(seen.recv_timeout(Duration::from_secs(30)), Ok(1));
            // the collector hangs: four more may wait, the rest is dropped at once
            finish(&provider, 10);
            (0..8).for_each(|_| go.send(()).unwrap());
            provider.shutdown().unwrap();
        });
        assert_eq!(count.as_deref(), Some("6"));
    }

    #[test]
    fn what_the_collector_does_not_take_is_counted_and_no_error_of_the_process() {
        let finished = Finished::default();
        finish(&provider(finished.clone()), 3);
        let batch = finished.spans();
        let waiting = Arc::new(AtomicUsize::new(5));
        let count = counted("export_failed", || {
            let exporter = Counted {
                inner: Away,
                waiting: Arc::clone(&waiting),
                failing: AtomicBool::new(false),
            };
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            assert!(runtime.unwrap().block_on(exporter.export(batch)).is_ok());
        });
        assert_eq!(count.as_deref(), Some("3"));
        assert_eq!(waiting.load(Ordering::Acquire), 2);
    }
}
