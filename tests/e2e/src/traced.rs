//! A pipeline whose traces can be read: by Jaeger's API, or from a collector where Jaeger could not be built.

use devstack::Needs;
use engagectl::jaeger::{Jaeger, Trace};
use engagectl::pipeline::{TraceAddresses, free_port};
use platform::Schema;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::World;
use crate::collector::Collector;

/// The share of events that are traced from their beginning: some are, some are not.
const SHARE: f64 = 0.5;

/// The pipeline, and where its spans arrive.
#[derive(Debug)]
pub struct Traced {
    world: &'static World,
    backend: Backend,
}

#[derive(Debug)]
enum Backend {
    Jaeger(Jaeger),
    Collector(Collector),
}

impl Traced {
    /// The one of this process, for one test at a time.
    pub async fn turn() -> (&'static Self, MutexGuard<'static, ()>) {
        static TRACED: OnceCell<Traced> = OnceCell::const_new();
        static TURN: Mutex<()> = Mutex::const_new(());
        let turn = TURN.lock().await;
        (TRACED.get_or_init(Self::start).await, turn)
    }

    async fn start() -> Self {
        let begun = std::thread::spawn(|| {
            // a runtime of its own: the first test's runtime ends before the last test
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let begun = runtime.block_on(begin());
            std::mem::forget(runtime);
            begun
        });
        tokio::task::spawn_blocking(move || begun.join().unwrap())
            .await
            .unwrap()
    }

    /// The pipeline.
    #[must_use]
    pub fn world(&self) -> &'static World {
        self.world
    }

    /// The share of events that are traced from their beginning.
    #[must_use]
    pub const fn share(&self) -> f64 {
        SHARE
    }

    /// The URL of Jaeger, if it is one.
    #[must_use]
    pub fn jaeger_url(&self) -> Option<&str> {
        let traces = self.world.addresses().traces.as_ref()?;
        matches!(self.backend, Backend::Jaeger(_)).then_some(traces.jaeger_url.as_str())
    }

    /// The trace, if it is known by now.
    pub async fn trace(&self, id: &str) -> Option<Trace> {
        match &self.backend {
            Backend::Jaeger(jaeger) => jaeger.trace(id).await.unwrap(),
            Backend::Collector(collector) => collector.traces(|span| span.trace_id == id).pop(),
        }
    }

    /// The traces in which a span of the service has this attribute.
    pub async fn with_attribute(&self, service: &str, name: &str, value: &str) -> Vec<Trace> {
        match &self.backend {
            Backend::Jaeger(jaeger) => jaeger.with_attribute(service, name, value).await.unwrap(),
            Backend::Collector(collector) => collector.traces(|span| {
                span.service == service && span.attributes.get(name).is_some_and(|it| it == value)
            }),
        }
    }
}

async fn begin() -> Traced {
    let share = |addresses: &mut engagectl::pipeline::Addresses| {
        if let Some(traces) = &mut addresses.traces {
            traces.share = SHARE;
        }
    };
    if devstack::has_jaeger() {
        let world = World::with(Schema::Uuid, Needs::all().jaeger(), share).await;
        let jaeger = Jaeger::at(&world.stack().jaeger().url);
        return Traced {
            world: Box::leak(Box::new(world)),
            backend: Backend::Jaeger(jaeger),
        };
    }
    eprintln!(
        "Jaeger is not built here (provision.sh --tracing needs Go): the spans go to a collector in this process instead"
    );
    let addr = ([127, 0, 0, 1], free_port()).into();
    let collector = Collector::start(addr);
    let traces = TraceAddresses {
        jaeger_url: String::new(),
        otlp_url: format!("http://{addr}"),
        share: SHARE,
    };
    let world = World::with(Schema::Uuid, Needs::all(), |addresses| {
        addresses.traces = Some(traces);
    })
    .await;
    Traced {
        world: Box::leak(Box::new(world)),
        backend: Backend::Collector(collector),
    }
}
