//! The whole pipeline with SASL_SSL and ACLs in Kafka, TLS and roles in Postgres, TLS and ACL users in Redis, grants in
//! ClickHouse (over HTTPS), Connect and Debezium included, every secret from a file.
//!
//! One pipeline serves all tests.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod equal;
mod refused;
mod rights;
