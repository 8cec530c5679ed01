//! Reads Jaeger's query API, the one that its pages use.
//!
//! Invariant: times are microseconds since 1970, ids are lower-case hexadecimal of full length, as in a `traceparent`.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A Jaeger.
#[derive(Clone, Debug)]
pub struct Jaeger {
    url: String,
    client: Client,
}

/// One span of a trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Span {
    /// Its trace.
    pub trace_id: String,
    /// Its own id.
    pub span_id: String,
    /// The span it is a part of; `None`: the trace begins with it, or its parent is nowhere to be seen.
    pub parent: Option<String>,
    /// The spans it is related to: trace and span.
    pub links: Vec<(String, String)>,
    /// Who made it.
    pub service: String,
    /// What was done.
    pub name: String,
    /// Its start.
    pub start: i64,
    /// Its end.
    pub end: i64,
    /// Attributes as text.
    pub attributes: BTreeMap<String, String>,
}

/// Spans of one trace, by start.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Trace {
    /// Its id.
    pub id: String,
    /// Its spans.
    pub spans: Vec<Span>,
}

impl Trace {
    /// The spans of a service.
    pub fn of<'a>(&'a self, service: &'a str) -> impl Iterator<Item = &'a Span> {
        self.spans
            .iter()
            .filter(move |span| span.service == service)
    }

    /// When it begins.
    #[must_use]
    pub fn start(&self) -> i64 {
        self.spans.first().map_or(0, |span| span.start)
    }
}

impl Jaeger {
    /// The one at this URL.
    ///
    /// # Panics
    /// Where this machine cannot build a plain HTTP client.
    #[must_use]
    pub fn at(url: &str) -> Self {
        let client = Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(10));
        Self {
            url: url.trim_end_matches('/').to_owned(),
            client: client.build().expect("a plain HTTP client builds"),
        }
    }

    /// The page of a trace.
    #[must_use]
    pub fn page(&self, trace_id: &str) -> String {
        format!("{}/trace/{trace_id}", self.url)
    }

    /// One trace; `None` where it is not known.
    ///
    /// # Errors
    /// It does not answer, or not in its API's form.
    pub async fn trace(&self, trace_id: &str) -> Result<Option<Trace>, String> {
        let url = format!("{}/api/traces/{trace_id}", self.url);
        Ok(self.ask(&url).await?.into_iter().next())
    }

    /// The newest traces that a service has a part in.
    ///
    /// # Errors
    /// As [`Jaeger::trace`].
    pub async fn newest(&self, service: &str, limit: usize) -> Result<Vec<Trace>, String> {
        let url = format!(
            "{}/api/traces?service={service}&limit={limit}&lookback=1h",
            self.url
        );
        self.ask(&url).await
    }

    /// The newest traces in which a span of the service has this attribute.
    ///
    /// # Errors
    /// As [`Jaeger::trace`].
    pub async fn with_attribute(
        &self,
        service: &str,
        name: &str,
        value: &str,
    ) -> Result<Vec<Trace>, String> {
        let mut url = url::Url::parse(&format!("{}/api/traces", self.url))
            .map_err(|error| format!("{} is no URL: {error}", self.url))?;
        let tags = serde_json::json!({ name: value }).to_string();
        url.query_pairs_mut()
            .append_pair("service", service)
            .append_pair("limit", "100")
            .append_pair("lookback", "1h")
            .append_pair("tags", &tags);
        self.ask(url.as_str()).await
    }

    async fn ask(&self, url: &str) -> Result<Vec<Trace>, String> {
        let failed = |error: reqwest::Error| format!("{}: {}", self.url, error.without_url());
        let answer = self.client.get(url).send().await.map_err(failed)?;
        if answer.status() == StatusCode::NOT_FOUND {
            return Ok(Vec::new());
        }
        let answer = answer.error_for_status().map_err(failed)?;
        let answer: Answer = answer.json().await.map_err(failed)?;
        let traces = answer.data.unwrap_or_default();
        Ok(traces.into_iter().map(RawTrace::into_trace).collect())
    }
}

#[derive(Deserialize)]
struct Answer {
    data: Option<Vec<RawTrace>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawTrace {
    #[serde(rename = "traceID")]
    trace_id: String,
    spans: Vec<RawSpan>,
    processes: BTreeMap<String, RawProcess>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSpan {
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
    operation_name: String,
    #[serde(default)]
    references: Vec<RawReference>,
    start_time: i64,
    duration: i64,
    #[serde(default)]
    tags: Vec<RawTag>,
    #[serde(rename = "processID")]
    process_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReference {
    ref_type: String,
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
}

#[derive(Deserialize)]
struct RawTag {
    key: String,
    value: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawProcess {
    service_name: String,
}

impl RawTrace {
    fn into_trace(self) -> Trace {
        let Self {
            trace_id,
            spans,
            processes,
        } = self;
        let service = |id: &str| {
            let process = processes.get(id);
            process.map_or_else(String::new, |process| process.service_name.clone())
        };
        let mut spans: Vec<Span> = spans
            .into_iter()
            .map(|raw| {
                let service = service(&raw.process_id);
                raw.into_span(service)
            })
            .collect();
        spans.sort_by_key(|span| (span.start, span.end));
        Trace {
            id: format!("{trace_id:0>32}"),
            spans,
        }
    }
}

impl RawSpan {
    fn into_span(self, service: String) -> Span {
        let whole = |reference: &RawReference| {
            (
                format!("{:0>32}", reference.trace_id),
                format!("{:0>16}", reference.span_id),
            )
        };
        let own = format!("{:0>32}", self.trace_id);
        let (parents, links): (Vec<_>, Vec<_>) = self
            .references
            .iter()
            .partition(|reference| reference.ref_type == "CHILD_OF");
        let parent = parents.into_iter().map(whole).find(|(id, _)| *id == own);
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        let tags = self.tags.into_iter();
        Span {
            span_id: format!("{:0>16}", self.span_id),
            parent: parent.map(|(_, span)| span),
            links: links.into_iter().map(whole).collect(),
            service,
            name: self.operation_name,
            start: self.start_time,
            end: self.start_time + self.duration,
            attributes: tags.map(|tag| (tag.key, text(tag.value))).collect(),
            trace_id: own,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"data":[{"traceID":"00000000000000000000000000000abc","spans":[
        {"traceID":"00000000000000000000000000000abc","spanID":"00000000000000b0","operationName":"process t",
         "references":[{"refType":"CHILD_OF","traceID":"00000000000000000000000000000abc","spanID":"00000000000000a0"},
                       {"refType":"FOLLOWS_FROM","traceID":"0def","spanID":"c0"}],
         "startTime":20,"duration":5,"tags":[{"key":"messaging.kafka.offset","type":"int64","value":7}],"processID":"p2"},
        {"traceID":"00000000000000000000000000000abc","spanID":"00000000000000a0","operationName":"capture t",
         "references":[],"startTime":10,"duration":3,"tags":[{"key":"span.kind","type":"string","value":"producer"}],
         "processID":"p1"}],
        "processes":{"p1":{"serviceName":"enricher","tags":[]},"p2":{"serviceName":"clickhouse-sink"}}}],"errors":null}"#;

    #[test]
    fn an_answer_becomes_spans_in_the_order_of_their_starts() {
        let answer: Answer = serde_json::from_str(ANSWER).unwrap();
        let traces = answer.data.unwrap().into_iter().map(RawTrace::into_trace);
        let [trace] = traces.collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(trace.start(), 10);
        let [capture, process] = trace.spans.clone().try_into().unwrap();
        assert_eq!(
            (capture.service.as_str(), capture.parent),
            ("enricher", None)
        );
        assert_eq!(process.parent.as_deref(), Some("00000000000000a0"));
        assert_eq!((process.start, process.end), (20, 25));
        assert_eq!(process.attributes["messaging.kafka.offset"], "7");
        let (linked, _) = &process.links[0];
        assert_eq!(linked, "00000000000000000000000000000def");
        assert_eq!(trace.of("clickhouse-sink").count(), 1);
    }
}
