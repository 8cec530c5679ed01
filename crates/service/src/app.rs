//! What a service is to the skeleton: a name, a configuration, a `run` and a `check`.
//! Invariant: `run` is called once, after configuration, telemetry and the admin port stand.

use std::future::Future;

use serde::de::DeserializeOwned;

use crate::config::EnvKey;
use crate::metrics::Metric;
use crate::{Failure, Finding, Health, Lifecycle};

/// A service. `main.rs` is `fn main() -> ExitCode { service::main::<TheService>() }`.
pub trait App: 'static {
    /// The name of the binary, for example `clickhouse-sink`.
    const NAME: &str;
    /// One line for `--help`.
    const ABOUT: &str;
    /// The port of `/livez`, `/readyz` and `/metrics` unless configured.
    const ADMIN_PORT: u16;
    /// The environment names of this service. Those of `[kafka]`, `[admin]`, `[log]`, `[telemetry]` and `[lifecycle]`
    /// are known already.
    const ENV: &'static [EnvKey];
    /// What it exports on `/metrics` beside [`crate::metrics::PROCESS`]; the lists of the crates it uses, and its own.
    const METRICS: &'static [&'static [Metric]] = &[];
    /// The configuration. Every struct in it carries `#[serde(default, deny_unknown_fields)]`; do not use
    /// `#[serde(flatten)]`, which loses the origin and the type of values.
    type Config: DeserializeOwned + Default + Send;

    /// Works until `ctx.lifecycle.soft()` is cancelled, then finishes what is begun and returns `Ok`.
    fn run(config: Self::Config, ctx: Context) -> impl Future<Output = Result<(), Failure>>;

    /// Looks at the live dependencies without changing anything, and reports all problems at once.
    fn check(config: &Self::Config) -> impl Future<Output = Vec<Finding>>;
}

/// What the skeleton hands to [`App::run`].
#[derive(Clone, Debug)]
pub struct Context {
    /// When to stop, and where to run tasks.
    pub lifecycle: Lifecycle,
    /// What `/livez` and `/readyz` answer. Register at least one readiness condition: until then the service is not ready.
    pub health: Health,
}
