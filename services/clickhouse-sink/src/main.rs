//! The `clickhouse-sink` binary.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    service::main::<clickhouse_sink::app::ClickHouseSink>()
}
