//! All endpoints of a configuration, judged together. Pure but for reading secret files.
//!
//! Invariant: two endpoints never share a name, and so never a consumer group.

use std::collections::BTreeSet;

use crate::config::{Config, EndpointConfig};
use crate::endpoint::{Endpoint, EndpointProblem};

/// Name of the endpoint configured by environment.
const SINGLE: &str = "default";

/// All endpoints, or everything that is wrong with any of them.
///
/// # Errors
/// At least one problem.
pub fn judge(config: &Config) -> Result<Vec<Endpoint>, Vec<EndpointProblem>> {
    let (mut endpoints, mut problems) = (Vec::new(), Vec::new());
    let mut names = BTreeSet::new();
    for (number, endpoint) in (1..).zip(all(config)) {
        match Endpoint::judge(
            &endpoint,
            &format!("number {number}"),
            &config.input.database_table,
        ) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(found) => problems.extend(found),
        }
        if !endpoint.name.is_empty() && !names.insert(endpoint.name.clone()) {
            problems.push(problem(
                &endpoint.name,
                "is used twice; each endpoint needs its own",
            ));
        }
    }
    if endpoints.is_empty() && problems.is_empty() {
        problems.push(problem(
            "none",
            "no endpoint is configured; add [[endpoint]] with `name` and `url` to the file, or set WEBHOOK_URL",
        ));
    }
    if problems.is_empty() {
        Ok(endpoints)
    } else {
        Err(problems)
    }
}

fn all(config: &Config) -> Vec<EndpointConfig> {
    let mut all = config.endpoints.clone();
    if let Some(mut single) = config.webhook.clone() {
        if single.name.is_empty() {
            SINGLE.clone_into(&mut single.name);
        }
        all.push(single);
    }
    all
}

fn problem(endpoint: &str, problem: &str) -> EndpointProblem {
    EndpointProblem {
        endpoint: endpoint.to_owned(),
        key: "name",
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(name: &str, url: &str) -> EndpointConfig {
        EndpointConfig {
            name: name.into(),
            url: url.parse().ok(),
            ..EndpointConfig::default()
        }
    }

    fn config(endpoints: Vec<EndpointConfig>, webhook: Option<EndpointConfig>) -> Config {
        Config {
            endpoints,
            webhook,
            ..Config::default()
        }
    }

    #[test]
    fn the_single_endpoint_is_called_default_and_stands_beside_the_others() {
        let config = config(
            vec![endpoint("crm", "https://a.example.com/")],
            Some(endpoint("", "https://b.example.com/")),
        );
        let names: Vec<_> = judge(&config)
            .unwrap()
            .into_iter()
            .map(|e| e.name)
            .collect();
        assert_eq!(names, ["crm", "default"]);
    }

    #[test]
    fn no_endpoint_a_name_used_twice_and_every_other_problem_are_named() {
        let none = judge(&Config::default()).unwrap_err();
        assert!(none[0].to_string().contains("WEBHOOK_URL"), "{none:?}");
        let twice = config(
            vec![
                endpoint("crm", "https://a.example.com/"),
                endpoint("crm", "http://b.example.com/"),
                endpoint("", "https://c.example.com/"),
            ],
            None,
        );
        let problems: Vec<_> = judge(&twice)
            .unwrap_err()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].contains("allow_insecure"), "{problems:?}");
        assert!(problems[1].contains("used twice"), "{problems:?}");
        assert!(problems[2].contains("number 3"), "{problems:?}");
    }
}
