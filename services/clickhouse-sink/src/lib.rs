//! clickhouse-sink
