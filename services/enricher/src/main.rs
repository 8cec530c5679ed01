//! The enricher as a process.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    one_arena();
    service::main::<enricher::Enricher>()
}

/// librdkafka allocates with the system's allocator, from two dozen threads; an arena for each of them holds on to what
/// a backlog needed once: 17 MiB of 100.
fn one_arena() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "the system's allocator has no other interface")]
    // SAFETY: called before any other thread exists; an unknown parameter is refused without effect
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
