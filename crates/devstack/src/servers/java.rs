//! Flags and arguments that Kafka's Java programs share.
//!
//! Invariant: a private stack's JVMs are tuned for a quick start and little memory, the demo's for steady work.

use std::path::Path;

use crate::{Kind, Launch, StackError, site::Site, tools};

/// A Java program of the Kafka distribution, logging to its server's log.
pub(super) fn launch(
    site: &Site,
    kind: Kind,
    heap: &str,
    main: &str,
) -> Result<Launch, StackError> {
    let java = tools::java(kind)?;
    Ok(Launch::new(kind.name(), java, site.log(kind))
        .args(flags(site, heap)?)
        .args(archive(kind))
        .args(class_path(kind)?)
        .arg(main)
        .current_dir(&site.dir))
}

/// `-cp JARS/*`
pub(super) fn class_path(kind: Kind) -> Result<[String; 2], StackError> {
    let jars = tools::kafka_jars(kind)?;
    Ok(["-cp".to_owned(), format!("{}/*", jars.display())])
}

/// Classes as a start needs them, parsed and verified; a JVM that finds it unfit does without.
fn archive(kind: Kind) -> Option<String> {
    let file = tools::warm(&format!("{}.jsa", kind.name()))?;
    Some(format!("-XX:SharedArchiveFile={}", file.display()))
}

/// JVM flags. `heap` is the maximum, as in `-Xmx`.
pub(super) fn flags(site: &Site, heap: &str) -> Result<Vec<String>, StackError> {
    let logging = site.configure(
        "log4j2.properties",
        include_str!("../../templates/log4j2.properties"),
        &[],
    )?;
    let mut flags = vec![
        format!("-Xmx{heap}"),
        "-XX:+ExitOnOutOfMemoryError".to_owned(),
        "-XX:-UsePerfData".to_owned(),
        "-Xshare:auto".to_owned(),
        "-Djava.awt.headless=true".to_owned(),
        "-Djava.net.preferIPv4Stack=true".to_owned(),
        format!("-Djava.io.tmpdir={}", temporary(&site.dir)),
        format!("-Dlog4j2.configurationFile=file:{}", logging.display()),
    ];
    let tuning: &[&str] = if site.is_private() {
        &["-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    } else {
        &[
            "-Xms128m",
            "-XX:+UseG1GC",
            "-XX:MaxGCPauseMillis=20",
            "-XX:InitiatingHeapOccupancyPercent=35",
        ]
    };
    flags.extend(tuning.iter().map(|flag| (*flag).to_owned()));
    Ok(flags)
}

fn temporary(dir: &Path) -> String {
    dir.join("tmp").display().to_string()
}
