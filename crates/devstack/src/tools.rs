//! Finds the programs and libraries the servers are made of.
//!
//! Invariant: what `deploy/provision/provision.sh` puts into the cache is looked for exactly there, under the same rule.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::{Kind, StackError};

/// The cache of downloaded parts: `$ENGAGE_CACHE`, else `$XDG_CACHE_HOME/engage`, else `~/.cache/engage`.
pub(crate) fn cache() -> PathBuf {
    let set = |name| {
        env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    set("ENGAGE_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("engage")))
        .or_else(|| {
            env::home_dir()
                .filter(|dir| dir.is_absolute())
                .map(|dir| dir.join(".cache/engage"))
        })
        .unwrap_or_else(|| PathBuf::from("/var/cache/engage"))
}

/// A program on PATH.
pub(crate) fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// A program on PATH, or the error that names it.
pub(crate) fn required(server: Kind, program: &str) -> Result<PathBuf, StackError> {
    on_path(program).ok_or_else(|| missing(server, program, "PATH"))
}

/// `java`, from JAVA_HOME or PATH.
pub(crate) fn java(server: Kind) -> Result<PathBuf, StackError> {
    env::var_os("JAVA_HOME")
        .map(|home| PathBuf::from(home).join("bin/java"))
        .filter(|java| java.is_file())
        .or_else(|| on_path("java"))
        .ok_or_else(|| missing(server, "java", "JAVA_HOME and PATH"))
}

/// The directory of `postgres` and `initdb`: on PATH, or the newest that Debian installed (it puts none on PATH).
pub(crate) fn postgres_bin() -> Result<PathBuf, StackError> {
    if let Some(dir) = on_path("postgres").and_then(|file| file.parent().map(Path::to_owned)) {
        return Ok(dir);
    }
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    versions
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse::<u32>().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, bin)| bin.join("postgres").is_file() && bin.join("initdb").is_file())
        .max()
        .map(|(_, bin)| bin)
        .ok_or_else(|| {
            missing(
                Kind::Postgres,
                "postgres",
                "PATH and /usr/lib/postgresql/*/bin",
            )
        })
}

/// The class path with broker, storage tool and Connect worker.
pub(crate) fn kafka_jars(server: Kind) -> Result<PathBuf, StackError> {
    cached(server, "kafka", "Kafka's jars")
}

/// The plugin path with Debezium and the connector built on it (`deploy/debezium/src`).
pub(crate) fn debezium() -> Result<PathBuf, StackError> {
    let connector = "debezium/debezium-postgres/engage-connector.jar";
    cached(Kind::Connect, connector, "the connector")?;
    cached(Kind::Connect, "debezium", "the Debezium plugin")
}

/// A file that only makes a start faster (`deploy/provision/warm.sh`), if it is there.
pub(crate) fn warm(name: &str) -> Option<PathBuf> {
    Some(cache().join("warm").join(name)).filter(|file| file.is_file())
}

fn cached(server: Kind, name: &str, what: &str) -> Result<PathBuf, StackError> {
    let path = cache().join(name);
    if path.exists() {
        return Ok(path);
    }
    Err(missing(server, what, &path.display().to_string()))
}

/// The ClickHouse engine: the real program, or its library with a launcher.
pub(crate) enum ClickHouseEngine {
    /// `clickhouse`.
    Program(PathBuf),
    /// `libchdb.so` and the Python that loads it.
    Library { lib: PathBuf, python: PathBuf },
}

/// `clickhouse` on PATH if there is one, else the library in the cache.
pub(crate) fn clickhouse() -> Result<ClickHouseEngine, StackError> {
    if let Some(program) = on_path("clickhouse") {
        return Ok(ClickHouseEngine::Program(program));
    }
    let lib = cache().join("clickhouse/libchdb.so");
    if !lib.is_file() {
        let looked = format!("PATH and {}", lib.display());
        return Err(missing(
            Kind::ClickHouse,
            "clickhouse or libchdb.so",
            &looked,
        ));
    }
    let python = required(Kind::ClickHouse, "python3")?;
    Ok(ClickHouseEngine::Library { lib, python })
}

/// `jaeger` (version 2) on PATH, else the one that `provision.sh --tracing` has built.
pub(crate) fn jaeger() -> Result<PathBuf, StackError> {
    if let Some(program) = on_path("jaeger") {
        return Ok(program);
    }
    let program = cache().join("jaeger/jaeger");
    if program.is_file() {
        return Ok(program);
    }
    let looked = format!(
        "PATH and {}; deploy/provision/provision.sh --tracing builds it",
        program.display()
    );
    Err(missing(Kind::Jaeger, "jaeger", &looked))
}

/// Whether Jaeger can be started here.
#[must_use]
pub fn has_jaeger() -> bool {
    jaeger().is_ok()
}

fn missing(server: Kind, what: &str, looked: &str) -> StackError {
    StackError::Missing {
        server,
        what: what.to_owned(),
        looked: looked.to_owned(),
    }
}
