//! `engagectl up`, `down`, `status`: the pipeline in the background.

use std::path::Path;
use std::time::Duration;

use devstack::{Needs, Stack, Supervisor};
use platform::Schema;
use service::{Exit, Failure};

use crate::Outcome;
use crate::cli::{Output, UP_DIR, UpArgs};
use crate::demo::{Measure, stack_failure};
use crate::pipeline::{Addresses, Pipeline, RECEIVER, SERVICES, Site};

const GENERATOR: &str = "generator";

/// Starts whatever is not running and returns once all of it is ready.
///
/// # Errors
/// A server or service that does not start (69).
pub(crate) async fn up(args: &UpArgs) -> Result<(), Failure> {
    let dir = Path::new(UP_DIR);
    let starting = Stack::builder()
        .needs(needs(args.tracing))
        .demo(dir)
        .detached()
        .start();
    let stack = Box::pin(starting).await.map_err(stack_failure)?;
    let addresses = Addresses::documented(&stack, Schema::Uuid);
    let site = Site::beside_this_program(dir)?;
    let supervisor = supervisor(&site)?;
    Pipeline::start(addresses.clone(), site.clone(), supervisor.clone()).await?;
    if let Some(rate) = args.rate {
        start_generator(&supervisor, &site, &addresses, rate.per_second())?;
    }
    eprintln!("everything runs; logs are in {}/logs", site.dir.display());
    for link in addresses.links() {
        eprintln!("  {link}");
    }
    Ok(())
}

/// The servers of a local pipeline.
pub(crate) const fn needs(tracing: bool) -> Needs {
    if tracing {
        Needs::all().jaeger()
    } else {
        Needs::all()
    }
}

/// Stops services, then servers; the data stays.
///
/// # Errors
/// A process that cannot be ended (70).
pub(crate) fn down() -> Result<(), Failure> {
    let dir = Path::new(UP_DIR);
    let site = Site::beside_this_program(dir)?;
    let supervisor = supervisor(&site)?;
    for name in [GENERATOR]
        .iter()
        .chain(SERVICES[1..].iter())
        .chain(&["enricher", RECEIVER])
    {
        if let Some(mut process) = supervisor.find(name) {
            process
                .stop(Duration::from_secs(20))
                .map_err(|e| Failure::internal(format!("{name} cannot be stopped")).cause(e))?;
            eprintln!("stopped {name}");
        }
    }
    for server in Stack::stop_all(dir)
        .map_err(|e| Failure::internal("a server cannot be stopped").cause(e))?
    {
        eprintln!("stopped {server}");
    }
    Ok(())
}

/// Prints what runs and whether it is ready; answers whether all of it is.
///
/// # Errors
/// Where the directory of `up` cannot be read.
pub(crate) async fn status(output: Output) -> Result<Outcome, Failure> {
    let dir = Path::new(UP_DIR);
    let supervisor = supervisor(&Site::beside_this_program(dir)?)?;
    let (mut lines, mut is_well): (Vec<(String, String)>, _) = (Vec::new(), true);
    for server in Stack::status(dir)
        .into_iter()
        .filter(|server| !of_the_pipeline(&server.name))
    {
        let port = server
            .ports
            .first()
            .map_or_else(String::new, |port| format!(", port {port}"));
        let state = server.pid.map_or_else(
            || "not running".to_owned(),
            |pid| format!("running (pid {pid}{port})"),
        );
        is_well &= server.pid.is_some();
        lines.push((server.name, state));
    }
    for name in SERVICES.into_iter().chain([RECEIVER]) {
        let state = state(&supervisor, name).await;
        is_well &= state.is_ok();
        let (Ok(state) | Err(state)) = state;
        lines.push((name.to_owned(), state));
    }
    crate::cli::print(&render(&lines, output));
    Ok(Outcome((!is_well).then_some(Exit::Unavailable)))
}

/// Whether it is looked for by name, so that it is shown where it does not run, too.
fn of_the_pipeline(name: &str) -> bool {
    name == RECEIVER || SERVICES.contains(&name)
}

/// How a process of the pipeline does; the error is what is not well with it.
async fn state(supervisor: &Supervisor, name: &str) -> Result<String, String> {
    let Some(process) = supervisor.find(name) else {
        return Err("not running".to_owned());
    };
    let pid = process.pid();
    if name == RECEIVER {
        // it depends on nobody, and so is ready as long as it runs
        return Ok(format!("running (pid {pid})"));
    }
    match Measure::ready_at(documented_admin(name)).await {
        Ok(()) => Ok(format!("ready (pid {pid})")),
        Err(reason) => Err(format!("not ready (pid {pid}): {reason}")),
    }
}

fn documented_admin(name: &str) -> std::net::SocketAddr {
    let index = SERVICES
        .iter()
        .position(|service| *service == name)
        .unwrap_or(0);
    ([127, 0, 0, 1], [9101, 9102, 9103, 9104][index]).into()
}

fn render(lines: &[(String, String)], output: Output) -> String {
    match output {
        Output::Json => {
            let map: serde_json::Map<_, _> = lines
                .iter()
                .map(|(name, state)| (name.clone(), state.clone().into()))
                .collect();
            format!("{:#}\n", serde_json::Value::Object(map))
        }
        Output::Table => lines
            .iter()
            .map(|(name, state)| format!("  {name:<18} {state}\n"))
            .collect(),
    }
}

fn supervisor(site: &Site) -> Result<Supervisor, Failure> {
    let run = site.dir.join("run");
    std::fs::create_dir_all(&run)
        .map_err(|e| Failure::usage(format!("cannot create {}", run.display())).cause(e))?;
    Ok(Supervisor::detached().with_run_files(&run))
}

fn start_generator(
    supervisor: &Supervisor,
    site: &Site,
    addresses: &Addresses,
    rate: f64,
) -> Result<(), Failure> {
    if supervisor.find(GENERATOR).is_some() {
        return Ok(());
    }
    let launch = devstack::Launch::new(GENERATOR, site.bin.join("engagectl"), site.log(GENERATOR))
        .args(["gen", "--rate", &format!("{rate}/s")])
        .env("DATABASE_URL", &addresses.postgres_url);
    supervisor
        .spawn(&launch)
        .map(drop)
        .map_err(|e| Failure::unavailable("the generator cannot be started").cause(e))
}
