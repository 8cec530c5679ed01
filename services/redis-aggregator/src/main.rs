//! `redis-aggregator`: keeps counts, last events and rolling leaderboards of content in Redis.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    service::main::<redis_aggregator::RedisAggregator>()
}
