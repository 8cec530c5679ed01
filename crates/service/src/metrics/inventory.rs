//! What is known of a metric before anything is measured: name, kind, unit, labels, buckets, meaning. `/metrics`,
//! docs/metrics.md and the tests that compare dashboards and alerts with the code read the same lists.
//!
//! Invariant: a counter whose label values are all known is shown as 0 from the start of a process, so that an alert on its
//! increase does not miss the first one.

use ::metrics::{counter, describe_counter, describe_gauge, describe_histogram};

/// One metric, as it is described, documented and initialised.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name on `/metrics`.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What its values count.
    pub unit: Unit,
    /// Its labels, in the order in which they are documented.
    pub labels: &'static [Label],
    /// One sentence for the page of a scrape and for the documentation.
    pub help: &'static str,
    /// A second name on `/metrics`, for dashboards older than ours.
    pub alias: Option<&'static str>,
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Rises only.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counted in buckets with these upper bounds; `_bucket`, `_sum` and `_count` on `/metrics`.
    Histogram(&'static [f64]),
}

/// What the values of a metric are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things, named in the metric's own name.
    Count,
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// 1: it is so, 0: it is not; or the levels that the help names.
    State,
}

/// A label and what may stand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub values: Values,
}

/// What may stand in a label; always of low cardinality.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// The name of the service itself.
    Service,
    /// One of these.
    OneOf(&'static [&'static str]),
    /// What the installation says: a topic, a partition, an endpoint.
    Any(&'static str),
}

impl Label {
    /// A label with fixed values.
    #[must_use]
    pub const fn one_of(name: &'static str, values: &'static [&'static str]) -> Self {
        Self {
            name,
            values: Values::OneOf(values),
        }
    }

    /// A label whose values the installation gives; `what` says in words what they are.
    #[must_use]
    pub const fn any(name: &'static str, what: &'static str) -> Self {
        Self {
            name,
            values: Values::Any(what),
        }
    }

    /// A label that holds the name of the service.
    #[must_use]
    pub const fn service(name: &'static str) -> Self {
        Self {
            name,
            values: Values::Service,
        }
    }

    fn known(self, service: &'static str) -> Option<Vec<&'static str>> {
        match self.values {
            Values::Service => Some(vec![service]),
            Values::OneOf(values) => Some(values.to_vec()),
            Values::Any(_) => None,
        }
    }
}

impl Metric {
    /// A counter of things.
    #[must_use]
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(name, Kind::Counter, Unit::Count, help)
    }

    /// A gauge of things.
    #[must_use]
    pub const fn gauge(name: &'static str, unit: Unit, help: &'static str) -> Self {
        Self::new(name, Kind::Gauge, unit, help)
    }

    /// A histogram with these upper bounds.
    #[must_use]
    pub const fn histogram(
        name: &'static str,
        unit: Unit,
        buckets: &'static [f64],
        help: &'static str,
    ) -> Self {
        Self::new(name, Kind::Histogram(buckets), unit, help)
    }

    const fn new(name: &'static str, kind: Kind, unit: Unit, help: &'static str) -> Self {
        Self {
            name,
            kind,
            unit,
            labels: &[],
            help,
            alias: None,
        }
    }

    /// The same with these labels.
    #[must_use]
    pub const fn with(mut self, labels: &'static [Label]) -> Self {
        self.labels = labels;
        self
    }

    /// The same with a second name.
    #[must_use]
    pub const fn also(mut self, alias: &'static str) -> Self {
        self.alias = Some(alias);
        self
    }

    /// Tells the recorder what it means, and shows it as 0 where all its series are known.
    pub(crate) fn begin(&self, service: &'static str) {
        match self.kind {
            Kind::Counter => describe_counter!(self.name, self.help),
            Kind::Gauge => describe_gauge!(self.name, self.help),
            Kind::Histogram(_) => describe_histogram!(self.name, self.help),
        }
        if self.kind != Kind::Counter {
            return;
        }
        for series in self.series(service).unwrap_or_default() {
            counter!(self.name, &series).increment(0);
        }
    }

    /// Every combination of labels, where all values are known.
    fn series(&self, service: &'static str) -> Option<Vec<Vec<(&'static str, &'static str)>>> {
        let mut all = vec![Vec::new()];
        for label in self.labels {
            let values = label.known(service)?;
            all = all
                .iter()
                .flat_map(|series| {
                    values.iter().map(|value| {
                        let mut longer = series.clone();
                        longer.push((label.name, *value));
                        longer
                    })
                })
                .collect();
        }
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ERRORS: Metric = Metric::counter("errors_total", "Errors.").with(&[
        Label::service("service"),
        Label::one_of("kind", &["outage", "bad_row"]),
    ]);

    #[test]
    fn a_metric_with_known_labels_has_a_series_for_each_combination() {
        assert_eq!(
            ERRORS.series("sink").unwrap(),
            [
                vec![("service", "sink"), ("kind", "outage")],
                vec![("service", "sink"), ("kind", "bad_row")]
            ]
        );
        assert_eq!(
            Metric::counter("a_total", "A.").series("sink").unwrap(),
            [vec![]]
        );
    }

    #[test]
    fn a_metric_with_an_open_label_has_no_series_before_it_is_measured() {
        const OPEN: Metric =
            Metric::counter("a_total", "A.").with(&[Label::any("topic", "a topic")]);
        assert_eq!(OPEN.series("sink"), None);
    }
}
