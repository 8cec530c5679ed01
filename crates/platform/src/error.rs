//! Why planning or applying could not go on.

use crate::plan::Component;

/// A server did not do what was asked. `Display` names the component and the step; the cause is the source.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// The server did not answer, or refused the credentials.
    #[error("cannot reach {component} at {address}: {cause}; check {setting}")]
    Unreachable {
        /// Which server.
        component: Component,
        /// Where it was looked for, without credentials.
        address: String,
        /// What the client library said.
        cause: String,
        /// The setting that names the address or the credentials.
        setting: &'static str,
    },
    /// The server answered a step with an error.
    #[error("{component}: {step} failed: {cause}")]
    Refused {
        /// Which server.
        component: Component,
        /// The step, in words.
        step: String,
        /// The server's own answer.
        cause: String,
    },
    /// A file of a TLS connection cannot be used.
    #[error(transparent)]
    Tls(service::TlsError),
    /// A setting cannot be used.
    #[error("{setting} = {found:?} cannot be used: {expected}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// What was found.
        found: String,
        /// What would be right.
        expected: String,
    },
}

impl PlatformError {
    /// True where the dependency was not there at all, as opposed to refusing a step.
    #[must_use]
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    pub(crate) fn refused(
        component: Component,
        step: impl Into<String>,
        cause: impl std::fmt::Display,
    ) -> Self {
        Self::Refused {
            component,
            step: step.into(),
            cause: cause.to_string(),
        }
    }
}
