//! How the system's allocator behaves in a service. Our own code allocates elsewhere; librdkafka does not.
//!
//! Invariant: set before any other thread exists.

/// librdkafka allocates with the system's allocator, from two dozen threads; an arena for each of them holds on to what
/// a backlog needed once: 17 MiB of 100 in the enricher.
pub(crate) fn keep_one_arena() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    #[expect(unsafe_code, reason = "the system's allocator has no other interface")]
    // SAFETY: called before any other thread exists; an unknown parameter is refused without effect
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}
