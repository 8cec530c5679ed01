//! Which webhook targets are looked at: those named by option, and the endpoints of a configuration file of the forwarder.
//!
//! Invariant: of that file only names, addresses and switches are read, no secret.

use serde::Deserialize;
use service::Failure;
use url::Url;

use super::args::DoctorArgs;
use super::judge::webhook::Target;

/// What of the forwarder's configuration is needed; `webhook-forwarder check` judges all of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    endpoint: Vec<Endpoint>,
    webhook: Option<Endpoint>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Endpoint {
    name: String,
    url: Option<String>,
    allow_insecure: bool,
}

/// The targets of this command line.
///
/// # Errors
/// A file that cannot be read or understood (64).
pub(super) fn read(args: &DoctorArgs) -> Result<Vec<Target>, Failure> {
    let mut targets: Vec<Target> = args.webhook.iter().map(named_by_host).collect();
    if let Some(path) = &args.endpoints {
        let refused = |what: &str, cause: String| {
            Failure::usage(format!("{} {what}", path.display()))
                .cause(cause)
                .remedy("name the configuration file of webhook-forwarder after --endpoints")
                .next("webhook-forwarder check")
        };
        let text = std::fs::read_to_string(path)
            .map_err(|error| refused("cannot be read", error.to_string()))?;
        // the message alone: the text around it may hold a secret
        let file: File = toml::from_str(&text)
            .map_err(|error| refused("cannot be used", error.message().to_owned()))?;
        for endpoint in file.endpoint.into_iter().chain(file.webhook) {
            let name = endpoint.name.clone();
            let found = target(endpoint).map_err(|error| {
                refused(
                    "cannot be used",
                    format!("url of endpoint {name:?}: {error}"),
                )
            });
            targets.extend(found?);
        }
    }
    Ok(targets)
}

fn named_by_host(url: &Url) -> Target {
    Target {
        name: url.host_str().unwrap_or("without a host").to_owned(),
        url: url.clone(),
        allow_insecure: false,
    }
}

/// The error says what is wrong with the URL, and not what it is.
fn target(endpoint: Endpoint) -> Result<Option<Target>, url::ParseError> {
    let Some(url) = endpoint.url else {
        return Ok(None);
    };
    let name = if endpoint.name.is_empty() {
        "default".to_owned()
    } else {
        endpoint.name
    };
    Ok(Some(Target {
        name,
        url: url.parse()?,
        allow_insecure: endpoint.allow_insecure,
    }))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: DoctorArgs,
    }

    fn targets(words: &[&str]) -> Result<Vec<Target>, String> {
        let line = Line::try_parse_from([&["doctor"], words].concat());
        let line = line.map_err(|error| error.to_string())?;
        read(&line.args).map_err(|failure| failure.render("engagectl"))
    }

    #[test]
    fn the_endpoints_of_the_forwarders_own_file_are_looked_at() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "[kafka]\nbootstrap_servers = 'x:1'\n\
            [[endpoint]]\nname = 'crm'\nurl = 'https://crm.example/hooks'\nsecrets = ['whsec_x']\n\
            [[endpoint]]\nname = 'lab'\nurl = 'http://lab:1/'\nallow_insecure = true\n";
        std::fs::write(file.path(), text).unwrap();
        let found = targets(&["--endpoints", file.path().to_str().unwrap()]).unwrap();
        let names: Vec<_> = found.iter().map(|target| target.name.as_str()).collect();
        assert_eq!(names, ["crm", "lab"]);
        assert!(found[1].allow_insecure && !found[0].allow_insecure);
    }

    #[test]
    fn a_file_that_is_not_there_or_is_none_is_refused_without_its_text() {
        assert!(
            targets(&["--endpoints", "/nowhere"])
                .unwrap_err()
                .contains("/nowhere")
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[[endpoint]]\nurl = 'hush hush'\n").unwrap();
        let refused = targets(&["--endpoints", file.path().to_str().unwrap()]).unwrap_err();
        assert!(refused.contains("cannot be used"), "{refused}");
        assert!(!refused.contains("hush"), "{refused}");
    }

    #[test]
    fn a_target_of_the_command_line_is_named_by_its_host() {
        let found = targets(&[
            "--webhook",
            "https://a.example/x",
            "--webhook",
            "http://b:1",
        ]);
        let names: Vec<_> = found
            .unwrap()
            .into_iter()
            .map(|target| target.name)
            .collect();
        assert_eq!(names, ["a.example", "b"]);
    }
}
