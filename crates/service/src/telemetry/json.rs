//! One log line as one JSON object: time, level, service, message, fields, spans, and the ids of the trace it is part of.
//! Invariant: a line is always valid JSON; a field of the event never overwrites one of the line itself.

use std::fmt;
use std::time::Instant;

use opentelemetry::trace::TraceContextExt as _;
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::repeats::{Line, Repeats};
use crate::metrics;

/// The format.
pub(super) struct Lines {
    pub(super) service: &'static str,
    pub(super) repeats: Repeats,
}

impl<S> FormatEvent<S, JsonFields> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let left_out = match self.repeats.judge(event.metadata(), Instant::now()) {
            Line::Written { left_out } => left_out,
            Line::LeftOut => {
                ::metrics::counter!(metrics::LOG_SUPPRESSED).increment(1);
                return Ok(());
            }
        };
        let mut line = Map::new();
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        line.insert("timestamp".into(), time.into());
        line.insert("level".into(), event.metadata().level().as_str().into());
        line.insert("service".into(), self.service.into());
        line.insert("target".into(), event.metadata().target().into());
        if left_out > 0 {
            line.insert("left_out".into(), left_out.into());
        }
        trace_ids(&mut line);
        let spans = spans(context, event);
        if !spans.is_empty() {
            line.insert("spans".into(), spans.into());
        }
        event.record(&mut Fields { line: &mut line });
        writeln!(writer, "{}", Value::Object(line))
    }
}

fn trace_ids(line: &mut Map<String, Value>) {
    let context = opentelemetry::Context::current();
    let span = context.span();
    let ids = span.span_context();
    if ids.is_valid() {
        line.insert("trace_id".into(), ids.trace_id().to_string().into());
        line.insert("span_id".into(), ids.span_id().to_string().into());
    }
}

/// The spans around the event, outermost first, each with its fields.
fn spans<S>(context: &FmtContext<'_, S, JsonFields>, event: &Event<'_>) -> Vec<Value>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let parent = event
        .parent()
        .and_then(|id| context.span(id))
        .or_else(|| context.lookup_current());
    let Some(parent) = parent else {
        return Vec::new();
    };
    let scope = parent.scope().from_root();
    scope
        .map(|span| {
            let extensions = span.extensions();
            let fields = extensions
                .get::<FormattedFields<JsonFields>>()
                .map(|fields| fields.as_str());
            let mut object: Map<String, Value> = fields
                .and_then(|text| serde_json::from_str(text).ok())
                .unwrap_or_default();
            object.insert("span".into(), span.name().into());
            Value::Object(object)
        })
        .collect()
}

struct Fields<'a> {
    line: &'a mut Map<String, Value>,
}

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        // `r#type` is the field `type`.
        let name = field.name().trim_start_matches("r#");
        let name = if self.line.contains_key(name) {
            format!("field.{name}")
        } else {
            name.to_owned()
        };
        self.line.insert(name, value);
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(work: impl FnOnce()) -> Vec<Value> {
        let written = Written::default();
        let writer = written.clone();
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry()
            .with(layer.fmt_fields(JsonFields::new()).event_format(Lines {
                service: "enricher",
                repeats: Repeats::default(),
            }))
            .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("test")));
        tracing::subscriber::with_default(subscriber, work);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn a_line_has_message_fields_and_the_service() {
        let lines = logged(|| {
            tracing::info!(
                partition = 3,
                level = "mine",
                ok = true,
                "batch \"written\"\n"
            );
        });
        assert_eq!(lines[0]["message"], "batch \"written\"\n");
        assert_eq!(lines[0]["partition"], 3);
        assert_eq!(lines[0]["level"], "INFO");
        assert_eq!(lines[0]["field.level"], "mine");
        assert_eq!(lines[0]["service"], "enricher");
        assert!(lines[0].get("trace_id").is_none());
    }

    #[test]
    fn a_place_that_warns_again_and_again_is_cut_and_information_is_not() {
        let lines = logged(|| {
            for offset in 0..100 {
                tracing::warn!(offset, "record dead-lettered");
                tracing::info!(offset, "lane opened");
            }
        });
        let of = |level: &str| lines.iter().filter(|line| line["level"] == level).count();
        assert_eq!((of("WARN"), of("INFO")), (32, 100));
    }

    #[test]
    fn a_line_inside_a_span_has_its_fields_and_the_trace_id() {
        let lines = logged(|| {
            tracing::info_span!("apply", offset = 42).in_scope(|| tracing::warn!("late"));
        });
        assert_eq!(lines[0]["spans"][0], json!({"span": "apply", "offset": 42}));
        assert_eq!(lines[0]["trace_id"].as_str().unwrap().len(), 32);
        assert_eq!(lines[0]["span_id"].as_str().unwrap().len(), 16);
    }
}
