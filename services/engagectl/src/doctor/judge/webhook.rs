//! A webhook target: its URL, and how it answered a question that no receiver can take for an event.

use std::fmt;

use service::Exit;
use url::Url;

use crate::doctor::report::Diagnosis;

/// Who is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::doctor) struct Target {
    pub(in crate::doctor) name: String,
    pub(in crate::doctor) url: Url,
    /// The configuration accepts `http://`.
    pub(in crate::doctor) allow_insecure: bool,
}

impl Target {
    /// Scheme, host and port: a path may hold a token.
    pub(in crate::doctor) fn origin(&self) -> String {
        self.url.origin().ascii_serialization()
    }
}

/// How it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::doctor) enum Answer {
    /// With this status.
    Status(u16),
    /// Not at all.
    Away(Reason),
}

/// Why there was no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::doctor) enum Reason {
    /// The name, the connection, or the time.
    Unreachable(String),
    /// The certificate.
    Tls(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Unreachable(text) | Self::Tls(text)) = self;
        f.write_str(text)
    }
}

pub(in crate::doctor) fn judge(target: &Target, answer: &Answer) -> Vec<Diagnosis> {
    let place = format!("webhook {}", target.name);
    let mut all = url(target, &place);
    all.push(match answer {
        Answer::Status(status) => status_of(target, &place, *status),
        Answer::Away(reason) => away(target, &place, reason),
    });
    all
}

fn url(target: &Target, place: &str) -> Vec<Diagnosis> {
    let mut all = Vec::new();
    if !target.url.username().is_empty() || target.url.password().is_some() {
        all.push(
            Diagnosis::error(
                place,
                format!("{} has credentials in its URL", target.origin()),
            )
            .right("a URL without them: URLs stand in logs")
            .next("move them to bearer_token_file or headers of the endpoint"),
        );
    }
    if target.url.scheme() == "http" {
        let found = format!("{} is not encrypted", target.origin());
        let found = Diagnosis::warning(place, found);
        all.push(if target.allow_insecure {
            found
                .right("https, unless the way there is encrypted otherwise")
                .next("nothing, if that is meant: allow_insecure = true says so")
        } else {
            found
                .right("https; the forwarder refuses http unless allow_insecure = true")
                .next("webhook-forwarder check")
        });
    }
    all
}

/// To another method than POST a receiver may say no; that it says so is enough.
fn status_of(target: &Target, place: &str, status: u16) -> Diagnosis {
    let found = format!("{} answers ({status})", target.origin());
    match status {
        300..=399 => Diagnosis::warning(place, format!("{found} with a redirect"))
            .right("the address itself: redirects are not followed")
            .next("set the endpoint's url to where it leads"),
        500..=599 => Diagnosis::warning(place, found)
            .right("any answer below 500")
            .next("ask its owner; its records wait in Kafka meanwhile"),
        _ => Diagnosis::ok(place, found),
    }
}

fn away(target: &Target, place: &str, reason: &Reason) -> Diagnosis {
    let found =
        Diagnosis::error(place, format!("{}: {reason}", target.origin())).exits(Exit::Unavailable);
    match reason {
        Reason::Unreachable(_) => found.right("it takes connections").next(
            "webhook-forwarder check, from where it runs; its records wait in Kafka meanwhile",
        ),
        Reason::Tls(_) => found
            .right("a certificate for this name that the machine's authorities have signed")
            .next("ask its owner to renew or to complete the certificate"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Severity;

    fn target(url: &str) -> Target {
        Target {
            name: "crm".into(),
            url: url.parse().unwrap(),
            allow_insecure: false,
        }
    }

    fn severities(url: &str, answer: &Answer) -> Vec<Severity> {
        let all = judge(&target(url), answer);
        all.iter().map(|one| one.severity).collect()
    }

    #[test]
    fn any_answer_to_the_question_is_an_answer() {
        for status in [200, 204, 401, 404, 405] {
            let found = severities("https://a.example/x", &Answer::Status(status));
            assert_eq!(found, [Severity::Ok], "{status}");
        }
        for status in [301, 503] {
            let found = severities("https://a.example/x", &Answer::Status(status));
            assert_eq!(found, [Severity::Warning], "{status}");
        }
    }

    #[test]
    fn a_target_that_refuses_or_whose_certificate_is_wrong_is_an_error() {
        let refused = Answer::Away(Reason::Unreachable("connection refused".into()));
        assert_eq!(
            severities("https://a.example/", &refused),
            [Severity::Error]
        );
        let tls = Answer::Away(Reason::Tls("certificate expired".into()));
        let all = judge(&target("https://a.example/"), &tls);
        assert!(all[0].next.contains("certificate"), "{all:?}");
    }

    #[test]
    fn credentials_in_the_url_are_an_error_and_are_not_shown() {
        let all = judge(
            &target("http://u:hush@a.example/token"),
            &Answer::Status(405),
        );
        let severities: Vec<_> = all.iter().map(|one| one.severity).collect();
        assert_eq!(
            severities,
            [Severity::Error, Severity::Warning, Severity::Ok]
        );
        assert!(!format!("{all:?}").contains("hush"));
        assert!(!format!("{all:?}").contains("token\""));
    }
}
