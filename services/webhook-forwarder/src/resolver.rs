//! The name resolver of an endpoint's HTTP client: the place where SSRF is stopped.
//!
//! Invariant: every address a connection is made to was judged by [`AddressPolicy`] in the very
//! lookup that produced it, so a name that changes its address between two lookups gains nothing.
//! One refused address refuses the whole answer, and a failed lookup is a failure, never a pass.

use std::net::SocketAddr;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::address::{AddressPolicy, RefusedAddress};

/// Resolves through the system and lets only allowed answers through.
#[derive(Clone, Debug)]
pub struct GuardedResolver(Arc<AddressPolicy>);

impl GuardedResolver {
    /// A resolver with this policy.
    #[must_use]
    pub fn new(policy: AddressPolicy) -> Self {
        Self(Arc::new(policy))
    }
}

/// Judges the answer to one lookup.
///
/// # Errors
/// The first address that is not allowed.
pub fn judge(
    policy: &AddressPolicy,
    host: &str,
    answer: &[SocketAddr],
) -> Result<(), RefusedAddress> {
    answer
        .iter()
        .try_for_each(|address| policy.check(host, address.ip()))
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = Arc::clone(&self.0);
        Box::pin(async move {
            let host = name.as_str();
            let answer: Vec<SocketAddr> = tokio::net::lookup_host((host, 0)).await?.collect();
            judge(&policy, host, &answer)?;
            Ok(Box::new(answer.into_iter()) as Addrs)
        })
    }
}

/// The refusal behind a client's error, if there is one.
#[must_use]
pub fn refusal<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a RefusedAddress> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(refused) = error.downcast_ref() {
            return Some(refused);
        }
        at = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(addresses: &[&str]) -> Vec<SocketAddr> {
        let parse = |a: &&str| SocketAddr::new(a.parse().unwrap(), 0);
        addresses.iter().map(parse).collect()
    }

    #[test]
    fn one_refused_address_among_public_ones_refuses_the_answer() {
        let policy = AddressPolicy::default();
        assert!(judge(&policy, "h", &answer(&["8.8.8.8", "2606:4700::1111"])).is_ok());
        let mixed = answer(&["8.8.8.8", "::ffff:10.0.0.1"]);
        assert_eq!(judge(&policy, "h", &mixed).unwrap_err().host, "h");
    }

    #[tokio::test]
    async fn a_client_with_this_resolver_refuses_a_name_that_points_here_and_says_why() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .dns_resolver(GuardedResolver::new(AddressPolicy::default()))
            .build()
            .unwrap();
        let error = client.post("http://localhost:9/").send().await.unwrap_err();
        let refused = refusal(&error).expect("the refusal is in the chain");
        assert_eq!(refused.host, "localhost");
        assert!(refused.address.is_loopback());
    }
}
