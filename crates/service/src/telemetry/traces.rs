//! The OTLP exporter: HTTP, protobuf, batches sent by a thread of their own.
//! Invariant: without an endpoint nothing is collected and nothing is sent.

use std::collections::HashMap;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Sampler as SdkSampler, SdkTracerProvider, SpanProcessor as _};
use secrecy::ExposeSecret as _;

use crate::Failure;
use crate::config::{Sampler, TelemetryConfig};
use crate::traces::{self, Head, Traces};

use super::export::Bounded;

/// Both ways by which spans reach the one exporter.
#[derive(Debug)]
pub(super) struct Exporting {
    /// Spans of `tracing`: those of a trace of their own are chosen by the sampler.
    pub(super) logged: SdkTracerProvider,
    processor: Bounded,
}

impl Exporting {
    /// Exports what is left.
    pub(super) fn shutdown(&self, timeout: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(timeout)
    }
}

/// Starts the exporter and installs [`Traces`], if traces are on.
pub(super) fn start(
    service: &'static str,
    config: &TelemetryConfig,
) -> Result<Option<Exporting>, Failure> {
    let (Some(url), Some(head)) = (config.traces_url(), Head::of(config)) else {
        return Ok(None);
    };
    let name = config.service_name.clone();
    let name = name.unwrap_or_else(|| service.to_owned());
    // Also reads OTEL_RESOURCE_ATTRIBUTES.
    let resource = Resource::builder()
        .with_service_name(name)
        .with_attribute(KeyValue::new("service.version", crate::VERSION))
        .build();
    let exporter = exporter(url, config)?;
    let (most, delay) = (config.max_queue_size.get(), config.schedule_delay());
    let processor = Bounded::new(exporter, &resource, most, delay);
    let logged = SdkTracerProvider::builder()
        .with_sampler(sampler(config))
        .with_span_processor(processor.clone())
        .with_resource(resource.clone())
        .build();
    let decided = traces::provider()
        .with_span_processor(processor.clone())
        .with_resource(resource)
        .build();
    if !Traces::new(&decided, service, head).install() {
        return Err(Failure::internal("traces are installed already"));
    }
    Ok(Some(Exporting { logged, processor }))
}

fn exporter(url: String, config: &TelemetryConfig) -> Result<SpanExporter, Failure> {
    let headers = config.headers.as_ref();
    let headers = headers.map(|headers| parse_headers(headers.expose_secret()));
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(url)
        .with_headers(headers.unwrap_or_default());
    exporter.build().map_err(|error| {
        Failure::usage("traces cannot be exported")
            .cause(error)
            .remedy("set OTEL_EXPORTER_OTLP_ENDPOINT to the HTTP port of the collector, for example http://127.0.0.1:4318, or leave it empty")
    })
}

fn sampler(config: &TelemetryConfig) -> SdkSampler {
    let parent = |root| SdkSampler::ParentBased(Box::new(root));
    let ratio = || SdkSampler::TraceIdRatioBased(config.sampler_arg.get());
    match config.sampler {
        Sampler::AlwaysOn => SdkSampler::AlwaysOn,
        Sampler::AlwaysOff => SdkSampler::AlwaysOff,
        Sampler::TraceIdRatio => ratio(),
        Sampler::ParentAlwaysOn => parent(SdkSampler::AlwaysOn),
        Sampler::ParentAlwaysOff => parent(SdkSampler::AlwaysOff),
        Sampler::ParentTraceIdRatio => parent(ratio()),
    }
}

/// `a=b,c=d%20e`, as the OpenTelemetry specification has it (W3C baggage syntax).
fn parse_headers(text: &str) -> HashMap<String, String> {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.trim().to_owned(), percent_decoded(value.trim())))
        .collect()
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = (first == b'%').then(|| after.get(..2)).flatten();
        let byte =
            escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_pairs_and_percent_encoding_is_decoded() {
        let headers = parse_headers("authorization=Bearer%20abc==, x-scope = 1,broken");
        assert_eq!(headers["authorization"], "Bearer abc==");
        assert_eq!(headers["x-scope"], "1");
        assert_eq!(headers.len(), 2);
        assert_eq!(percent_decoded("100%"), "100%");
    }

    #[test]
    fn nothing_is_exported_without_an_endpoint_or_when_disabled() {
        assert!(start("x", &TelemetryConfig::default()).unwrap().is_none());
        let endpoint = Some(url::Url::parse("http://127.0.0.1:4318").unwrap());
        let mut config = TelemetryConfig {
            endpoint,
            disabled: true,
            ..TelemetryConfig::default()
        };
        assert!(config.traces_url().is_none());
        config.disabled = false;
        assert_eq!(
            config.traces_url().unwrap(),
            "http://127.0.0.1:4318/v1/traces"
        );
    }
}
