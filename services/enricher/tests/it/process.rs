//! The enricher as a process of its own: the binary of this build, or the one that `ENRICHER_BIN` names.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};

use crate::world::World;

pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(world: &World) -> Self {
        Self::with(world, &[])
    }

    /// With these variables besides.
    pub(crate) fn with(world: &World, more: &[(&str, &str)]) -> Self {
        let config = &world.config;
        let environment = HashMap::from([
            (
                "KAFKA_BOOTSTRAP_SERVERS",
                config.kafka.bootstrap_servers.as_str(),
            ),
            ("KAFKA_CDC_TOPIC", &config.input.cdc_topic),
            ("KAFKA_CONTENT_TOPIC", &config.input.content_topic),
            ("KAFKA_GROUP_ID", &config.input.group_id),
            ("KAFKA_ENRICHED_TOPIC", &config.output.topic),
            ("KAFKA_DEAD_LETTER_TOPIC", &config.output.dead_letter_topic),
            ("DATABASE_URL", &world.url),
            ("CONTENT_TABLE", &config.database.content_table),
            ("ADMIN_ADDR", "127.0.0.1:0"),
        ]);
        let built = env!("CARGO_BIN_EXE_enricher").to_owned();
        let mut command = Command::new(std::env::var("ENRICHER_BIN").unwrap_or(built));
        command
            .envs(environment)
            .envs(more.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    /// Processor time used so far, in seconds (Linux counts in hundredths).
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .unwrap()
            .1
            .split_whitespace()
            .collect();
        let ticks: u32 = [fields[11], fields[12]]
            .iter()
            .map(|field| field.parse::<u32>().unwrap())
            .sum();
        f64::from(ticks) / 100.0
    }

    /// Resident memory, in KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn kill9(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // already dead after kill9
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
