//! Everything that takes bytes from outside, as functions of bytes: whatever they are, nothing panics, and what was
//! understood can be said again.
//!
//! An ordinary test runs the corpus (`corpus/<target>/`) and a bounded number of mutations of it; `make fuzz` runs the same
//! functions under libFuzzer. Invariant: a target reads no clock, no file and no network of its own accord, so that an
//! input that fails once fails always.

mod config;
mod envelope;
mod letter;
mod lineage;
mod webhook;
mod wire;

use std::fmt;

/// A function of bytes that panics when it finds a defect.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Tries the bytes.
    pub run: fn(&[u8]),
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// All of them.
pub const TARGETS: [Target; 6] = [
    Target {
        name: "envelope",
        run: envelope::run,
    },
    Target {
        name: "letter",
        run: letter::run,
    },
    Target {
        name: "lineage",
        run: lineage::run,
    },
    Target {
        name: "wire",
        run: wire::run,
    },
    Target {
        name: "config",
        run: config::run,
    },
    Target {
        name: "webhook",
        run: webhook::run,
    },
];

/// The target of that name.
#[must_use]
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}

/// The first line of an input, and the rest.
fn split(data: &[u8]) -> (&[u8], &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n');
    end.map_or((data, &[]), |end| (&data[..end], &data[end + 1..]))
}
