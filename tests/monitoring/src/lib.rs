//! What is watched, and what it is watched with: the metrics that the services list, and the dashboards, alert rules and
//! autoscalers that use them.
//!
//! Invariant: pure but for reading files of the checkout; the tests compare the two, and both with a running pipeline.

pub mod document;
pub mod exposition;
pub mod expression;
pub mod files;
pub mod inventory;
pub mod kubernetes;
