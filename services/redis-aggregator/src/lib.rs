//! redis-aggregator
