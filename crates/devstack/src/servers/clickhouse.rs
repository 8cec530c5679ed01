//! ClickHouse: the `clickhouse` program where there is one, else the same engine out of its shared library.
//!
//! Invariant: the database `engagement` exists (engine Atomic) when the server counts as ready, and user `engage` has all
//! rights in it and none outside but reading `system` and killing queries.

use std::path::PathBuf;

use crate::{
    Kind, Launch, Server, StackError,
    ports::Ports,
    probe,
    site::Site,
    tools::{self, ClickHouseEngine},
};

/// A running ClickHouse.
#[derive(Debug)]
pub struct ClickHouse {
    /// HTTP interface: `http://127.0.0.1:PORT`
    pub url: String,
    /// `engage`, with all rights on [`ClickHouse::database`]; not in a secured stack, which has the users it was given.
    pub user: String,
    /// `engage`
    pub password: String,
    /// `engagement`, engine Atomic, created at the start.
    pub database: String,
    /// A user with all rights, for tests: `admin`.
    pub admin_user: String,
    /// `admin`
    pub admin_password: String,
    /// Port of the native protocol. `SYSTEM STOP LISTEN HTTP` over it takes the HTTP interface away.
    pub native_port: u16,
    pub(crate) server: Server,
}

impl ClickHouse {
    pub(crate) fn new(server: Server, site: &Site) -> Self {
        Self {
            url: format!("http://127.0.0.1:{}", server.port()),
            user: "engage".to_owned(),
            password: "engage".to_owned(),
            database: "engagement".to_owned(),
            admin_user: "admin".to_owned(),
            admin_password: admin_password(site).to_owned(),
            native_port: server.inner_port(),
            server,
        }
    }
}

pub(super) fn prepare(site: &Site, ports: &Ports) -> Result<Launch, StackError> {
    let data = site.data("clickhouse")?;
    let (http, native) = (ports.public.to_string(), ports.inner.to_string());
    let users = users(site)?;
    let config = site.configure(
        "clickhouse.xml",
        include_str!("../../templates/clickhouse.xml"),
        &[
            ("HTTP", &http),
            ("NATIVE", &native),
            ("DATA", &data.to_string_lossy()),
            ("USERS", &users.to_string_lossy()),
        ],
    )?;
    let log = site.log(Kind::ClickHouse);
    let name = Kind::ClickHouse.name();
    let launch = match tools::clickhouse()? {
        ClickHouseEngine::Program(program) => Launch::new(name, program, log)
            .args(["server", "--config-file"])
            .arg(config)
            // Otherwise it forks, and the process to watch would be another one.
            .env("CLICKHOUSE_WATCHDOG_ENABLE", "0"),
        ClickHouseEngine::Library { lib, python } => {
            let launcher = site.configure(
                "clickhouse.py",
                include_str!("../../templates/clickhouse.py"),
                &[],
            )?;
            Launch::new(name, python, &log)
                .arg(launcher)
                .arg("--lib")
                .arg(lib)
                .arg("--path")
                .arg(&data)
                .arg("--config")
                .arg(config)
                .args(["--http-port", &http, "--tcp-port", &native, "--log"])
                .arg(&log)
        }
    };
    Ok(launch.current_dir(&data))
}

fn users(site: &Site) -> Result<PathBuf, StackError> {
    let Some(secured) = &site.secured else {
        let template = include_str!("../../templates/clickhouse-users.xml");
        return site.configure("users.xml", template, &[]);
    };
    let template = include_str!("../../templates/clickhouse-users-secured.xml");
    let values: [(&str, &str); 2] = [
        ("ADMIN", &secured.clickhouse_password),
        ("USERS", &secured.clickhouse_elements()),
    ];
    site.configure("users.xml", template, &values)
}

fn admin_password(site: &Site) -> &str {
    let secured = site.secured.as_ref();
    secured.map_or("admin", |secured| secured.clickhouse_password.as_str())
}

/// The database, once.
pub(super) async fn finish(site: &Site, port: u16) -> Result<(), StackError> {
    let login = [
        ("X-ClickHouse-User", "admin"),
        ("X-ClickHouse-Key", admin_password(site)),
    ];
    let sql = "CREATE DATABASE IF NOT EXISTS engagement ENGINE = Atomic";
    probe::post(port, &login, sql)
        .await
        .map_err(|output| StackError::Step {
            server: Kind::ClickHouse,
            step: "creating database engagement".to_owned(),
            output,
        })
}
