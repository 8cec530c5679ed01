//! The life of a running service: admin port, signals, work, drain.
//! Invariant: it ends in bounded time after the first signal: the drain deadline, then a short grace.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::exposition::Exposition;
use crate::lifecycle::{Lifecycle, caught};
use crate::{App, Context, Failure, Health, admin, panics, process};

/// How long a forced stop may take: enough to drop connections, not to finish work.
const GRACE: Duration = Duration::from_secs(2);

/// Runs the service until it has stopped.
pub(crate) fn to_the_end<A: App>(
    config: A::Config,
    addr: SocketAddr,
    drain: Duration,
) -> Result<(), Failure> {
    let life = Lifecycle::default();
    panics::install(life.clone());
    let exposition = Exposition::install::<A>()?;
    let runtime = process::runtime::<A>()?;
    let result = runtime.block_on(Box::pin(serve::<A>(config, &life, addr, exposition, drain)));
    runtime.shutdown_timeout(GRACE);
    result
}

async fn serve<A: App>(
    config: A::Config,
    life: &Lifecycle,
    addr: SocketAddr,
    exposition: Exposition,
    drain: Duration,
) -> Result<(), Failure> {
    let signals = Signals::listen()?;
    let health = Health::default();
    running_condition(&health, life);
    let listener = admin::bind(A::NAME, addr).await?;
    // Port 0 lets the system choose.
    let addr = listener.local_addr().unwrap_or(addr);
    tokio::spawn(admin::serve(listener, health.clone(), exposition.clone()));
    tokio::spawn(exposition.upkeep());
    tokio::spawn(health.clone().tell_changes());
    tracing::info!(version = crate::VERSION, git_sha = crate::GIT_SHA, admin = %addr, "started");

    let context = Context {
        lifecycle: life.clone(),
        health,
    };
    supervise(life, work::<A>(config, context), signals, drain).await;
    match life.take_failure() {
        Some(failure) => Err(failure),
        None => {
            tracing::info!("stopped cleanly");
            Ok(())
        }
    }
}

/// Not ready before the service has registered what it depends on, nor while it stops.
fn running_condition(health: &Health, life: &Lifecycle) {
    let soft = life.soft();
    let registered = health.clone();
    health.readiness("running", move || {
        match (soft.is_cancelled(), registered.readiness_count()) {
            (true, _) => Err("stopping".into()),
            (false, ..=1) => Err("starting".into()),
            (false, _) => Ok(()),
        }
    });
}

/// The service itself, and then all its tasks.
async fn work<A: App>(config: A::Config, context: Context) {
    let life = context.lifecycle.clone();
    if let Err(failure) = caught(A::NAME, A::run(config, context)).await {
        life.fail(failure);
    }
    life.soft().cancel();
    let tasks = life.tracker();
    tasks.close();
    tasks.wait().await;
}

/// Running, draining, forced: each phase ends when the work does, or by what starts the next.
async fn supervise(
    life: &Lifecycle,
    work: impl Future<Output = ()>,
    mut signals: Signals,
    drain: Duration,
) {
    let mut work = pin!(work);
    let soft = life.soft();
    let signal = tokio::select! {
        () = &mut work => return,
        name = signals.next() => Some(name),
        () = soft.cancelled() => None,
    };
    soft.cancel();
    tracing::info!(signal, deadline = ?drain, "stopping: finishing what is begun");
    let reason = tokio::select! {
        () = &mut work => return,
        name = signals.next() => format!("a second signal ({name})"),
        () = sleep(drain) => format!("the drain deadline of {drain:?}"),
    };
    tracing::warn!(reason, "stopping by force");
    life.hard().cancel();
    let ended = timeout(GRACE, work).await.is_ok();
    let left = if ended {
        "work begun was dropped"
    } else {
        "work begun did not end and was abandoned"
    };
    life.fail(
        Failure::try_again(format!("stopped by force after {reason}"))
            .cause(left)
            .remedy("start it again: it resumes where the work is safe; a longer drain is set by DRAIN_DEADLINE"),
    );
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::internal("cannot listen for signals").cause(error))
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
