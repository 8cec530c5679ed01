//! The disk is full.
//!
//! Invariant: the server's data lies on a small disk of its own only while the fault lasts, and everything it has
//! written is where it was before when the fault returns.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use devstack::{Kind, Server};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::{Class, Company, turn};
use crate::Arena;

/// What is left for a server that starts on the small disk.
const SPARE_MIB: u64 = 48;

/// The classes of this module.
pub const CLASSES: &[Class] = &[
    Class {
        name: "disk.redis",
        about: "Redis cannot write its append-only file",
        company: Company::Any,
        weight: 1,
        inject: |arena, rng| Box::pin(full(arena, rng, Kind::Redis)),
    },
    Class {
        name: "disk.clickhouse",
        about: "ClickHouse cannot write parts",
        company: Company::Any,
        weight: 1,
        inject: |arena, rng| Box::pin(full(arena, rng, Kind::ClickHouse)),
    },
    Class {
        name: "disk.kafka",
        about: "the broker cannot write its log",
        company: Company::Any,
        weight: 1,
        inject: |arena, rng| Box::pin(full(arena, rng, Kind::Kafka)),
    },
];

async fn full(arena: &Arena, rng: &mut ChaCha8Rng, kind: Kind) -> anyhow::Result<String> {
    let held = Duration::from_millis(rng.random_range(1000..6000));
    let _turn = turn::at(kind).await;
    let server: &Server = match kind {
        Kind::Redis => arena.stack.redis(),
        Kind::ClickHouse => arena.stack.clickhouse(),
        _ => arena.stack.kafka(),
    };
    let data = arena.stack.dir().join(kind.name());
    server.stop().await?;
    let disk = match SmallDisk::under(&data) {
        Ok(disk) => disk,
        Err(reason) => {
            server.start().await?;
            return Ok(format!("left out: {reason:#}"));
        }
    };
    server.start().await?;
    disk.fill()?;
    tokio::time::sleep(held).await;
    disk.empty()?;
    // One that has ended, or is about to, does so for good: with room again, it must be able to start.
    let died = server.wait_ready().await.is_err();
    server.stop().await?;
    disk.leave()?;
    server.start().await?;
    let fate = if died {
        "it ended"
    } else {
        "it went on running"
    };
    Ok(format!("no space for {kind} for {held:?}; {fate}"))
}

/// A small file system in memory, in the place of a folder.
struct SmallDisk {
    place: PathBuf,
    mounted: bool,
}

impl SmallDisk {
    /// Moves a folder's content to it. Root may; others are told.
    fn under(place: &Path) -> anyhow::Result<Self> {
        let aside = aside(place);
        std::fs::rename(place, &aside).context("moving the data aside")?;
        std::fs::create_dir(place)?;
        let used = kib(&aside)? / 1024;
        let options = format!("size={}m", used + SPARE_MIB);
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &options, "engage-chaos"])
            .arg(place);
        if let Err(reason) = run(&mut mount) {
            std::fs::remove_dir(place)?;
            std::fs::rename(&aside, place)?;
            return Err(reason.context("this user may not mount a small file system"));
        }
        let disk = Self {
            place: place.to_owned(),
            mounted: true,
        };
        copy(&aside, place)?;
        std::fs::remove_dir_all(&aside)?;
        Ok(disk)
    }

    fn ballast(&self) -> PathBuf {
        self.place.join("ballast")
    }

    /// Until not a byte is left.
    fn fill(&self) -> anyhow::Result<()> {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.ballast())?;
        for size in [1 << 20, 4096, 1] {
            let block = vec![0; size];
            while file.write(&block).is_ok_and(|written| written > 0) {}
        }
        Ok(())
    }

    fn empty(&self) -> anyhow::Result<()> {
        std::fs::remove_file(self.ballast()).context("removing the ballast")
    }

    /// Moves the content back to where it was. The server does not run.
    fn leave(mut self) -> anyhow::Result<()> {
        let aside = aside(&self.place);
        std::fs::create_dir(&aside)?;
        copy(&self.place, &aside)?;
        self.unmount()?;
        std::fs::remove_dir(&self.place)?;
        std::fs::rename(&aside, &self.place)?;
        Ok(())
    }

    fn unmount(&mut self) -> anyhow::Result<()> {
        self.mounted = false;
        // Lazily: a process that is just ending may still hold a file.
        run(Command::new("umount").arg("--lazy").arg(&self.place))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if self.mounted
            && let Err(error) = self.unmount()
        {
            tracing::warn!(place = %self.place.display(), %error, "a small file system stays mounted");
        }
    }
}

fn aside(place: &Path) -> PathBuf {
    place.with_extension("aside")
}

/// Makes the folder `to` hold what `from` holds.
pub(super) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    // The folder's own owner and mode count, too.
    run(Command::new("cp").arg("-a").arg("-T").arg(from).arg(to))
}

fn kib(folder: &Path) -> anyhow::Result<u64> {
    let output = Command::new("du").arg("-sk").arg(folder).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let figure = text.split_whitespace().next().unwrap_or_default();
    figure.parse().with_context(|| format!("du said {text:?}"))
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    anyhow::ensure!(output.status.success(), "{command:?}: {}", text.trim());
    Ok(())
}
