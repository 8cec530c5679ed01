//! engagement-proto
