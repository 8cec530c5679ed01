//! The ways in which a backfill ends before it is done, and what it says then.

use std::io::Read;
use std::process::{Child, Stdio};
use std::time::Duration;

use e2e::World;

use crate::backfill::{PAST, engagectl, runs};

/// How a run ends before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Killed,
    Interrupted,
    InterruptedTwice,
    PostgresGone,
}

/// By its rate, the next page has been sent after this.
const PAGE: Duration = Duration::from_millis(1500);
/// From one Ctrl-C to the next.
const BETWEEN: Duration = Duration::from_millis(500);

const ENDINGS: [Ending; 6] = [
    Ending::Killed,
    Ending::Interrupted,
    Ending::Killed,
    Ending::InterruptedTwice,
    Ending::Killed,
    // last: what was read before may be all that is left to write, so that it is missed by the comparison only
    Ending::PostgresGone,
];

/// Begins a run over everything, ends it in the middle in each of these ways, and says which it is.
pub(crate) async fn ended_early(world: &World) -> i64 {
    let (mut run, mut seen) = (None, 0);
    for ending in ENDINGS {
        let mut command = engagectl(world);
        command.args(["backfill", "--yes", "--rate", "2000/s", "--behind", "5m"]);
        match run {
            None => command.args(["--start", "-3d"]),
            Some(run) => command.arg("--resume").arg(i64::to_string(&run)),
        };
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap();
        let (id, rows) = world
            .eventually("more rows of the run", || {
                is_at_work(&mut child);
                async {
                    let runs = runs(world).await;
                    let newest = runs.last()?;
                    let rows = newest["rows"].as_i64()?;
                    (rows > seen).then_some((newest["run"].as_i64()?, rows))
                }
            })
            .await;
        end(world, child, ending, id).await;
        assert!(rows < PAST, "{rows} rows before it was {ending:?}");
        (run, seen) = (Some(id), rows);
    }
    run.unwrap()
}

/// Fails with what it said where it ended by itself.
fn is_at_work(child: &mut Child) {
    if let Some(status) = child.try_wait().unwrap() {
        let mut said = String::new();
        let mut stderr = child.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        panic!("the backfill ended by itself, {status}: {said}");
    }
}

async fn end(world: &World, mut child: Child, ending: Ending, run: i64) {
    let interrupt = |child: &Child| {
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    };
    match ending {
        Ending::Killed => child.kill().unwrap(),
        Ending::Interrupted => interrupt(&child),
        Ending::InterruptedTwice => {
            // the next page is not acknowledged, so that it cannot end behind it
            world.stack().kafka().pause().unwrap();
            tokio::time::sleep(PAGE).await;
            interrupt(&child);
            tokio::time::sleep(BETWEEN).await;
            assert_eq!(child.try_wait().unwrap(), None, "it waits for the broker");
            interrupt(&child);
        }
        Ending::PostgresGone => world.stack().postgres().kill9().await.unwrap(),
    }
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = output.await.unwrap();
    if ending == Ending::PostgresGone {
        world.stack().postgres().start().await.unwrap();
    }
    world.stack().kafka().resume().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let (code, next) = (
        output.status.code(),
        format!("engagectl backfill --resume {run}"),
    );
    match ending {
        Ending::Killed => assert_eq!(code, None, "{said}"),
        Ending::Interrupted => assert_eq!(code, Some(75), "{said}"),
        Ending::InterruptedTwice => {
            assert_eq!(code, Some(75), "{said}");
            assert!(said.contains("interrupted twice: ended at once"), "{said}");
        }
        Ending::PostgresGone => {
            assert_eq!(code, Some(69), "{said}");
            assert!(said.contains("Postgres"), "{said}");
        }
    }
    if ending != Ending::Killed {
        assert!(said.contains(&next), "{ending:?}: {said}");
    }
}
