//! The words of `engagectl top`.

use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use url::Url;

const NOTES: &str = "\
Everything is read from /metrics and /readyz of the services' admin ports; nothing else is asked. Rates, errors and
freshness are those since the look before. q or Ctrl-C ends it. In a pipe there is a line for each service at every look,
with -o json an object.

Examples:
  engagectl top
  engagectl top --admin enricher=http://10.0.0.7:9101 --admin sink-1=http://10.0.0.8:9102
  engagectl top --count 1 | grep -v ' ready$'
  engagectl top --every 5s -o json | jq '.services[] | {name, rate, behind_seconds}'";

/// Options of `top`.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub struct TopArgs {
    /// A service and its admin port, in place of those of a pipeline on this machine; may be repeated.
    #[arg(long, value_name = "NAME=URL")]
    pub admin: Vec<Admin>,
    /// Pause between two looks.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "1s", value_name = "DURATION")]
    pub every: Duration,
    /// End after so many looks.
    #[arg(long, value_name = "LOOKS")]
    pub count: Option<NonZeroU64>,
}

/// A service and where its admin port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// What it is called on the screen.
    pub name: String,
    /// The beginning of its addresses.
    pub url: Url,
}

impl FromStr for Admin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let right = "expected a name and an address, such as enricher=http://127.0.0.1:9101";
        let (name, url) = text
            .split_once('=')
            .ok_or_else(|| format!("{text:?} has no `=`; {right}"))?;
        let url: Url = url
            .parse()
            .map_err(|error| format!("{url:?} is no address ({error}); {right}"))?;
        if name.is_empty() || !["http", "https"].contains(&url.scheme()) {
            return Err(format!("{text:?} has no name or is not http; {right}"));
        }
        Ok(Self {
            name: name.to_owned(),
            url,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_name() {
        let admin: Admin = "enricher=http://10.0.0.7:9101".parse().unwrap();
        assert_eq!(
            (admin.name.as_str(), admin.url.as_str()),
            ("enricher", "http://10.0.0.7:9101/")
        );
        for wrong in [
            "http://10.0.0.7:9101",
            "x",
            "=http://a/",
            "x=ftp://a/",
            "x=10.0.0.7",
        ] {
            let said = wrong.parse::<Admin>().unwrap_err();
            assert!(said.contains("enricher=http://127.0.0.1:9101"), "{said}");
        }
    }
}
