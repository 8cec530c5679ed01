//! Monitoring as a whole: what dashboards, alerts and autoscalers ask for is there, alerts fire when they should and lead to a
//! page of the runbook, and a running pipeline says the truth about itself.
//!
//! One pipeline serves all tests that need one, one after the other: some of them stop its servers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod canary;
mod document;
mod exported;
mod fresh;
mod health;
mod logs;
mod names;
mod pipeline;
mod rules;
mod runbook;
