//! Which addresses an endpoint may have: the guard against requests into one's own network (SSRF).
//!
//! Invariant: an address is judged after canonicalisation (IPv4-mapped IPv6 is IPv4), and whatever
//! is not known to be public is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A block of addresses, as `10.0.0.0/8`, `fd00::/8` or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

/// A text that is no block of addresses.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no block of addresses; expected for example `10.1.0.0/16` or `fd12::/48`")]
pub struct CidrError(String);

impl Cidr {
    /// Whether `address` lies in the block; IPv4-mapped addresses count as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                same_prefix(net.to_bits().into(), ip.to_bits().into(), 32, self.prefix)
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                same_prefix(net.to_bits(), ip.to_bits(), 128, self.prefix)
            }
            _ => false,
        }
    }
}

fn same_prefix(a: u128, b: u128, width: u8, prefix: u8) -> bool {
    prefix == 0 || (a ^ b) >> (width - prefix) == 0
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let error = || CidrError(text.to_owned());
        let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
        let network: IpAddr = address.trim().parse().map_err(|_| error())?;
        let width = if network.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix.trim() {
            "" => width,
            digits => digits.parse().map_err(|_| error())?,
        };
        if prefix > width {
            return Err(error());
        }
        Ok(Self { network, prefix })
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;

    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        format!("{}/{}", cidr.network, cidr.prefix)
    }
}

/// What kind of address it is, as far as the guard cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Globally reachable unicast.
    Public,
    /// This machine.
    Loopback,
    /// RFC 1918, shared (CGNAT, RFC 6598) and unique local (RFC 4193) addresses.
    Private,
    /// Link-local, where clouds keep their metadata services.
    LinkLocal,
    /// Multicast, documentation, benchmark, translation (6to4, NAT64, Teredo) and all that is reserved.
    Special,
}

impl Reach {
    /// Classifies an address by the IANA special-purpose registries; IPv4-mapped counts as IPv4.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(ip) => reach_v4(ip),
            IpAddr::V6(ip) => reach_v6(ip),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::Special => "special-purpose",
        }
    }
}

fn reach_v4(ip: Ipv4Addr) -> Reach {
    match ip.octets() {
        [127, ..] => Reach::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Reach::Private,
        [169, 254, ..] => Reach::LinkLocal,
        // this network; IETF protocols; documentation (3); 6to4 relays; benchmark; multicast and above
        [0, ..]
        | [192, 0, 0 | 2, _]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [192, 88, 99, _]
        | [198, 18..=19, ..]
        | [224..=255, ..] => Reach::Special,
        _ => Reach::Public,
    }
}

fn reach_v6(ip: Ipv6Addr) -> Reach {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Loopback,
        [0xfc00..=0xfdff, ..] => Reach::Private,
        [0xfe80..=0xfebf, ..] => Reach::LinkLocal,
        // IETF protocols with Teredo, benchmark and ORCHID; documentation (2); 6to4
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] | [0x2002, ..] => {
            Reach::Special
        }
        [0x2000..=0x3fff, ..] => Reach::Public,
        // outside of 2000::/3: unspecified, IPv4-compatible, NAT64, discard, multicast, unassigned
        _ => Reach::Special,
    }
}

/// An address that an endpoint must not have.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
#[error(
    "{host} is {address}, a {reach} address, which is not allowed; set `{remedy}` for this endpoint if it is meant",
    reach = reach.name(), remedy = remedy(*reach, *address)
)]
pub struct RefusedAddress {
    /// The host as configured.
    pub host: String,
    /// The address it has or resolved to.
    pub address: IpAddr,
    /// Why it is refused.
    pub reach: Reach,
}

fn remedy(reach: Reach, address: IpAddr) -> String {
    match reach {
        Reach::Loopback | Reach::Private => "allow_private = true".to_owned(),
        _ => format!("allow_addresses = [\"{}\"]", address.to_canonical()),
    }
}

/// What one endpoint may connect to.
#[derive(Clone, Debug, Default)]
pub struct AddressPolicy {
    /// Loopback and private addresses are fine. Link-local ones are not: metadata services live there.
    pub allow_private: bool,
    /// Blocks that are fine whatever they are.
    pub allow: Vec<Cidr>,
}

impl AddressPolicy {
    /// Judges one address of `host`.
    ///
    /// # Errors
    /// [`RefusedAddress`] unless it is public or allowed.
    pub fn check(&self, host: &str, address: IpAddr) -> Result<(), RefusedAddress> {
        let reach = Reach::of(address);
        let allowed = match reach {
            Reach::Public => true,
            Reach::Loopback | Reach::Private => self.allow_private,
            Reach::LinkLocal | Reach::Special => false,
        };
        if allowed || self.allow.iter().any(|block| block.contains(address)) {
            return Ok(());
        }
        Err(RefusedAddress {
            host: host.to_owned(),
            address,
            reach,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("8.8.8.8", Reach::Public)]
    #[case("172.15.255.255", Reach::Public)]
    #[case("172.32.0.1", Reach::Public)]
    #[case("100.63.255.255", Reach::Public)]
    #[case("100.128.0.1", Reach::Public)]
    #[case("192.0.1.1", Reach::Public)]
    #[case("198.20.0.1", Reach::Public)]
    #[case("223.255.255.255", Reach::Public)]
    #[case("2606:4700:4700::1111", Reach::Public)]
    #[case("2001:4860:4860::8888", Reach::Public)]
    #[case("::ffff:8.8.8.8", Reach::Public)]
    #[case("127.0.0.1", Reach::Loopback)]
    #[case("127.255.255.254", Reach::Loopback)]
    #[case("::1", Reach::Loopback)]
    #[case("::ffff:127.0.0.1", Reach::Loopback)]
    #[case("::ffff:7f00:1", Reach::Loopback)]
    #[case("10.0.0.1", Reach::Private)]
    #[case("172.16.0.1", Reach::Private)]
    #[case("172.31.255.255", Reach::Private)]
    #[case("192.168.1.1", Reach::Private)]
    #[case("100.64.0.1", Reach::Private)]
    #[case("100.127.255.255", Reach::Private)]
    #[case("::ffff:10.0.0.1", Reach::Private)]
    #[case("fc00::1", Reach::Private)]
    #[case("fd12:3456::1", Reach::Private)]
    #[case("169.254.169.254", Reach::LinkLocal)]
    #[case("::ffff:169.254.169.254", Reach::LinkLocal)]
    #[case("fe80::1", Reach::LinkLocal)]
    #[case("febf::1", Reach::LinkLocal)]
    #[case("0.0.0.0", Reach::Special)]
    #[case("0.1.2.3", Reach::Special)]
    #[case("192.0.0.1", Reach::Special)]
    #[case("192.0.2.1", Reach::Special)]
    #[case("198.51.100.7", Reach::Special)]
    #[case("203.0.113.9", Reach::Special)]
    #[case("192.88.99.1", Reach::Special)]
    #[case("198.18.0.1", Reach::Special)]
    #[case("198.19.255.255", Reach::Special)]
    #[case("224.0.0.1", Reach::Special)]
    #[case("240.0.0.1", Reach::Special)]
    #[case("255.255.255.255", Reach::Special)]
    #[case("::", Reach::Special)]
    #[case("::127.0.0.1", Reach::Special)]
    #[case("64:ff9b::7f00:1", Reach::Special)]
    #[case("64:ff9b:1::1", Reach::Special)]
    #[case("100::1", Reach::Special)]
    #[case("2001::1", Reach::Special)]
    #[case("2001:2::1", Reach::Special)]
    #[case("2001:db8::1", Reach::Special)]
    #[case("3fff::1", Reach::Special)]
    #[case("2002:7f00:1::", Reach::Special)]
    #[case("fec0::1", Reach::Special)]
    #[case("ff02::1", Reach::Special)]
    #[case("5f00::1", Reach::Special)]
    fn every_special_block_is_recognised(#[case] address: &str, #[case] reach: Reach) {
        assert_eq!(Reach::of(address.parse().unwrap()), reach);
    }

    fn check(policy: &AddressPolicy, address: &str) -> bool {
        policy.check("h", address.parse().unwrap()).is_ok()
    }

    #[test]
    fn allow_private_opens_private_and_loopback_but_not_metadata_services() {
        let policy = AddressPolicy {
            allow_private: true,
            allow: Vec::new(),
        };
        for fine in ["127.0.0.1", "10.0.0.1", "::1", "fd00::1", "8.8.8.8"] {
            assert!(check(&policy, fine), "{fine}");
        }
        for refused in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "0.0.0.0",
            "224.0.0.1",
        ] {
            assert!(!check(&policy, refused), "{refused}");
        }
    }

    #[test]
    fn an_allowed_block_opens_only_itself_in_mapped_form_too() {
        let policy = AddressPolicy {
            allow_private: false,
            allow: vec!["10.1.0.0/16".parse().unwrap(), "fd00::1".parse().unwrap()],
        };
        assert!(check(&policy, "10.1.255.1"));
        assert!(check(&policy, "::ffff:10.1.2.3"));
        assert!(check(&policy, "fd00::1"));
        assert!(!check(&policy, "10.2.0.1"));
        assert!(!check(&policy, "fd00::2"));
    }

    #[rstest]
    #[case("10.0.0.0/33")]
    #[case("10.0.0/8")]
    #[case("fd00::/129")]
    #[case("example.com/8")]
    #[case("10.0.0.0/-1")]
    #[case("")]
    fn a_malformed_block_is_an_error(#[case] text: &str) {
        assert_eq!(text.parse::<Cidr>(), Err(CidrError(text.to_owned())));
    }

    #[test]
    fn the_error_says_what_would_open_it() {
        let policy = AddressPolicy::default();
        let private = policy.check("crm.internal", "10.0.0.1".parse().unwrap());
        let text = private.unwrap_err().to_string();
        assert!(
            text.contains("crm.internal") && text.contains("allow_private = true"),
            "{text}"
        );
        let metadata = policy.check("x", "::ffff:169.254.169.254".parse().unwrap());
        let text = metadata.unwrap_err().to_string();
        assert!(
            text.contains("allow_addresses = [\"169.254.169.254\"]"),
            "{text}"
        );
    }
}
