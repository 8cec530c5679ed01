//! The admin port: `/livez`, `/readyz`, `/metrics`.
//! Invariant: it answers from the start of the service until its last task has ended.

use std::net::SocketAddr;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;

use crate::exposition::Exposition;
use crate::health::Report;
use crate::{Exit, Failure, Health};

#[derive(Clone)]
struct Admin {
    health: Health,
    exposition: Exposition,
}

/// Opens the port, so that a taken one is known before any work begins.
pub(crate) async fn bind(service: &str, addr: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(addr)
        .await
        .map_err(|error| refused(service, addr, error))
}

fn refused(service: &str, addr: SocketAddr, error: std::io::Error) -> Failure {
    let remedy = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!(
                "stop the process that holds port {}, or set ADMIN_ADDR (or --set admin.addr=..) to a free port",
                addr.port()
            )
        }
        std::io::ErrorKind::AddrNotAvailable => {
            "set ADMIN_ADDR to an address of this machine, or to 0.0.0.0 for all of them".into()
        }
        _ => "set ADMIN_ADDR to an address and a port that this user may listen on".into(),
    };
    let next = match error.kind() {
        std::io::ErrorKind::AddrInUse => format!("ss -ltnp 'sport = :{}'", addr.port()),
        _ => format!("{service} config show"),
    };
    Failure::new(
        Exit::Usage,
        format!("cannot listen on the admin address {addr}"),
    )
    .cause(error)
    .remedy(remedy)
    .next(next)
}

/// Serves until it is dropped.
pub(crate) async fn serve(listener: TcpListener, health: Health, exposition: Exposition) {
    let router = Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Admin { health, exposition });
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "the admin port ended");
    }
}

async fn live(State(admin): State<Admin>) -> impl IntoResponse {
    answer(admin.health.live())
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    answer(admin.health.ready())
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        admin.exposition.render(&admin.health),
    )
}

fn answer(report: Report) -> impl IntoResponse {
    let status = if report.ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(report))
}
