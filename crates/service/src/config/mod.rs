//! Layered configuration: defaults < TOML file < environment < `--set`.
//! Invariant: all errors are found at once, each with its origin; a secret's value never appears in any output.

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
