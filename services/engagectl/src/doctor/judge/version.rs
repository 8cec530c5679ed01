//! Versions of servers against those that are known to work.
//!
//! Invariant: a version that cannot be read is said to be unknown, and nothing more.

use crate::doctor::report::Diagnosis;

/// A server that tells its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::doctor) enum Product {
    Postgres,
    Connect,
    ClickHouse,
    Redis,
    Valkey,
}

/// Major and minor.
type Version = (u32, u32);

impl Product {
    const fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Connect => "connect",
            Self::ClickHouse => "clickhouse",
            Self::Redis | Self::Valkey => "redis",
        }
    }

    /// The first that has what is relied on, and what that is.
    const fn needed(self) -> (Version, &'static str) {
        match self {
            Self::Postgres => ((13, 0), "max_slot_wal_keep_size and wal_status"),
            Self::Connect => ((3, 6), "offsets over its REST interface"),
            Self::ClickHouse => ((23, 2), "ReplacingMergeTree(revision, deleted)"),
            Self::Redis | Self::Valkey => ((6, 0), "users with rights (ACL)"),
        }
    }

    /// The first that tests run with.
    const fn tested(self) -> Version {
        match self {
            Self::Postgres => (15, 0),
            Self::Connect => (4, 3),
            Self::ClickHouse => (26, 7),
            Self::Redis => (7, 0),
            Self::Valkey => (9, 1),
        }
    }
}

pub(in crate::doctor) fn judge(product: Product, text: &str) -> Diagnosis {
    let place = format!("version of {}", product.name());
    let Some(version) = read(text) else {
        return Diagnosis::warning(place, format!("{text:?} is no version"))
            .right("a version such as 15.4")
            .next("look whether something else answers at that address");
    };
    let (needed, what) = product.needed();
    let tested = product.tested();
    let shown = |(major, minor): Version| format!("{major}.{minor}");
    if version < needed {
        return Diagnosis::error(place, format!("{text} lacks {what}"))
            .right(format!("{} or later", shown(needed)))
            .next("update the server");
    }
    if product == Product::Redis && version == (7, 0) {
        return Diagnosis::warning(
            place,
            format!("{text} counts double after a torn append-only file"),
        )
        .right("Valkey, or Redis 7.2 or later")
        .next("until then: redis-check-aof --fix before each start");
    }
    if version < tested {
        return Diagnosis::warning(place, format!("{text} is older than what tests run with"))
            .right(format!("{} or later", shown(tested)))
            .next("update the server when it suits");
    }
    Diagnosis::ok(place, text)
}

/// The first two numbers of a text that begins with one.
fn read(text: &str) -> Option<Version> {
    let digits = text
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .next()?;
    let mut numbers = digits.split('.');
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next().and_then(|minor| minor.parse().ok());
    Some((major, minor.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Severity;

    #[test]
    fn too_old_is_an_error_untested_a_warning_and_newer_is_well() {
        for (product, text, severity) in [
            (Product::Postgres, "12.9", Severity::Error),
            (Product::Postgres, "14.2", Severity::Warning),
            (
                Product::Postgres,
                "15.14 (Debian 15.14-0+deb12u1)",
                Severity::Ok,
            ),
            (Product::Postgres, "18beta1", Severity::Ok),
            (Product::Connect, "3.5.1", Severity::Error),
            (Product::Connect, "4.3.1", Severity::Ok),
            (Product::ClickHouse, "22.8.5.29", Severity::Error),
            (Product::ClickHouse, "25.3.1", Severity::Warning),
            (Product::ClickHouse, "26.7.3.1", Severity::Ok),
            (Product::Redis, "7.0.15", Severity::Warning),
            (Product::Redis, "7.2.4", Severity::Ok),
            (Product::Valkey, "9.1.0", Severity::Ok),
            (Product::Redis, "", Severity::Warning),
        ] {
            let found = judge(product, text);
            assert_eq!(found.severity, severity, "{found:?}");
        }
    }

    #[test]
    fn an_old_server_is_told_what_it_lacks() {
        let found = judge(Product::Postgres, "12.9");
        assert!(found.found.contains("wal_status") && found.right.contains("13.0"));
    }
}
