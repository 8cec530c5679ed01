//! Layered configuration: defaults < TOML file < environment < `--set`.
//! Invariant: all errors are found at once, each with its origin; a secret's value never appears in any output.
//!
//! A service gets its configuration from [`crate::main`]; a tool uses the [`Loader`]:
//!
//! ```
//! use serde::Deserialize;
//! use service::config::{EnvKey, Loader};
//!
//! #[derive(Deserialize, Default)]
//! #[serde(default, deny_unknown_fields)]
//! struct Config { rows: u32 }
//!
//! let loader = Loader::new(&[EnvKey::plain("BATCH_ROWS", "rows")]).environment([("BATCH_ROWS", "7")]);
//! let loaded = loader.load::<Config>().unwrap();
//! assert_eq!(loaded.config.rows, 7);
//! ```

mod access;
mod common;
mod de;
mod decode;
pub mod demo;
mod environment;
mod file;
mod flatten;
mod load;
mod postgres_url;
mod problem;
mod refused;
mod schema;
mod show;
mod sources;
mod suggest;
mod value;

pub use common::{
    AdminConfig, COMMON_ENV, CommonConfig, LifecycleConfig, LogConfig, LogFilter, LogFormat, Ratio,
    Sampler, TelemetryConfig,
};
pub use load::{Loaded, Loader, ServiceConfig, known_keys};
pub use postgres_url::{postgres_url, postgres_url_option};
pub use problem::{ConfigError, Problem};
pub use show::{Entry, fill_defaults, hidden_option, hidden_secret, hidden_url, render};
pub use value::Origin;

/// An environment variable that sets one configuration key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnvKey {
    /// The variable, for example `DATABASE_URL`.
    pub name: &'static str,
    /// The key it sets, for example `database.url`.
    pub key: &'static str,
    /// Whether the value is a secret: never shown, and also read from the file that `<name>_FILE` names.
    pub secret: bool,
}

impl EnvKey {
    /// A variable whose value may be shown.
    #[must_use]
    pub const fn plain(name: &'static str, key: &'static str) -> Self {
        Self {
            name,
            key,
            secret: false,
        }
    }

    /// A variable that holds a secret.
    #[must_use]
    pub const fn secret(name: &'static str, key: &'static str) -> Self {
        Self {
            name,
            key,
            secret: true,
        }
    }
}
