//! Faults from a seed, while a mixed load runs; then the proof that nothing was lost or doubled.
