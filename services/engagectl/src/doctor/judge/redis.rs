//! Redis, by its own `INFO`: whether it keeps what it is told.

use platform::Answered;

use super::clock;
use super::version::{self, Product};
use crate::check::Info;
use crate::doctor::report::{Diagnosis, size};

pub(in crate::doctor) fn judge(info: &Info) -> Vec<Diagnosis> {
    let mut all = vec![crate::check::policy_finding(info).into(), persistence(info)];
    all.extend(memory(info));
    all.extend(role(info));
    let valkey = info
        .get("valkey_version")
        .map(|text| (Product::Valkey, text));
    let redis = info.get("redis_version").map(|text| (Product::Redis, text));
    if let Some((product, text)) = valkey.or(redis) {
        all.push(version::judge(product, text));
    }
    let time = info
        .get("server_time_usec")
        .and_then(|time| time.parse().ok());
    all.extend(time.map(|server| {
        let at = Answered {
            before: info.before,
            server,
            after: info.after,
        };
        clock::judge("redis", &at, 1)
    }));
    all
}

fn persistence(info: &Info) -> Diagnosis {
    let place = "redis persistence";
    let next = "redis-cli CONFIG SET appendonly yes, and the same in its configuration file";
    let failed = |field| info.get(field).is_some_and(|status| status != "ok");
    let is_appending = info.get("aof_enabled") == Some("1");
    if is_appending && failed("aof_last_write_status") {
        return Diagnosis::error(place, "the append-only file cannot be written")
            .right("aof_last_write_status:ok")
            .next("make room on its disk; redis-cli INFO persistence");
    }
    if failed("rdb_last_bgsave_status") {
        return Diagnosis::error(
            place,
            "the last snapshot failed, so that writes may be refused",
        )
        .right("rdb_last_bgsave_status:ok")
        .next("make room on its disk, then redis-cli BGSAVE");
    }
    if !is_appending {
        return Diagnosis::warning(
            place,
            "appendonly is no: a restart takes what was counted since the last snapshot",
        )
        .right("appendonly yes")
        .next(next);
    }
    Diagnosis::ok(place, "appends to its file")
}

/// Without eviction, a full Redis refuses writes.
fn memory(info: &Info) -> Option<Diagnosis> {
    let number = |field| info.get(field)?.parse::<i64>().ok();
    let most = number("maxmemory").filter(|most| *most > 0)?;
    let used = number("used_memory")?;
    let found = format!("{} of {} are used", size(used), size(most));
    if used >= most / 10 * 9 {
        return Some(
            Diagnosis::warning("redis memory", found)
                .right("less than 90%: a full Redis refuses writes, and the aggregator waits")
                .next("raise maxmemory"),
        );
    }
    Some(Diagnosis::ok("redis memory", found))
}

fn role(info: &Info) -> Option<Diagnosis> {
    let is_replica = info.get("role").is_some_and(|role| role != "master");
    is_replica.then(|| {
        Diagnosis::error("redis", "is a replica: it takes no writes")
            .right("REDIS_URL names the primary")
            .next("redis-cli INFO replication names it")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::report::Severity;

    const WELL: &str = "# Server\r\nredis_version:7.2.4\r\nserver_time_usec:1000\r\nmaxmemory:0\r\nused_memory:100\r\n\
        maxmemory_policy:noeviction\r\naof_enabled:1\r\naof_last_write_status:ok\r\nrdb_last_bgsave_status:ok\r\nrole:master\r\n";

    fn gravest(changes: &[(&str, &str)]) -> (Severity, String) {
        let text = changes
            .iter()
            .fold(WELL.to_owned(), |text, (from, to)| text.replace(from, to));
        let info = Info {
            text,
            before: 900,
            after: 1100,
        };
        let all = judge(&info);
        let gravest = all.into_iter().min_by_key(|one| one.severity).unwrap();
        (gravest.severity, gravest.found)
    }

    #[test]
    fn a_store_that_keeps_everything_is_well() {
        assert_eq!(gravest(&[]).0, Severity::Ok);
    }

    #[test]
    fn each_way_to_forget_is_named() {
        for (from, to, severity, part) in [
            ("noeviction", "allkeys-lru", Severity::Error, "evicted"),
            (
                "aof_enabled:1",
                "aof_enabled:0",
                Severity::Warning,
                "appendonly",
            ),
            (
                "write_status:ok",
                "write_status:err",
                Severity::Error,
                "written",
            ),
            (
                "bgsave_status:ok",
                "bgsave_status:err",
                Severity::Error,
                "snapshot",
            ),
            ("role:master", "role:slave", Severity::Error, "replica"),
            ("maxmemory:0", "maxmemory:110", Severity::Warning, "used"),
            ("7.2.4", "7.0.15", Severity::Warning, "double"),
            ("usec:1000", "usec:90000000", Severity::Error, "ahead"),
        ] {
            let (found, text) = gravest(&[(from, to)]);
            assert_eq!(found, severity, "{to}: {text}");
            assert!(text.contains(part), "{text}");
        }
    }
}
