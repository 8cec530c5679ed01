//! Flags and arguments that Kafka's Java programs share.
//!
//! Invariant: a private stack's JVMs are tuned for a quick start and little memory (and compile for speed only where that is
//! asked for), the demo's for steady work.

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
    let tuning = tuning(site.is_private(), site.full_compiler);
    flags.extend(tuning.iter().map(|flag| (*flag).to_owned()));
    Ok(flags)
}

/// How a JVM collects and compiles. The full compiler makes the faster code, but a test of a minute is over before it pays.
fn tuning(private: bool, full_compiler: bool) -> &'static [&'static str] {
    match (private, full_compiler) {
        (true, false) => &["-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"],
        (true, true) => &["-Xms64m", "-XX:+UseSerialGC"],
        (false, _) => &[
            "-Xms128m",
            "-XX:+UseG1GC",
            "-XX:MaxGCPauseMillis=20",
            "-XX:InitiatingHeapOccupancyPercent=35",
        ],
    }
}

fn temporary(dir: &Path) -> String {
    dir.join("tmp").display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_private_stack_that_did_not_ask_for_it_does_without_the_full_compiler() {
        let stops_early = |private, full| {
            let mut flags = tuning(private, full).iter();
            flags.any(|flag| flag.starts_with("-XX:TieredStopAtLevel"))
        };
        assert!(stops_early(true, false));
        assert!(
            !stops_early(true, true) && !stops_early(false, false) && !stops_early(false, true)
        );
    }
}
