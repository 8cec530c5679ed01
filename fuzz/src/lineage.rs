//! The texts that say where something stands: header, commit metadata, position in Redis.
//!
//! Invariant: what parses is printed so that it parses to the same.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use engagement::event::Position;
use redis_aggregator::history::History;
use redis_aggregator::position::Applied;
use stream::lineage::Checkpoint;

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    reads_back::<Position>(text);
    reads_back::<Checkpoint>(text);
    reads_back::<Applied>(text);
    reads_back::<History>(text);
}

fn reads_back<T: FromStr + Display + PartialEq + Debug>(text: &str)
where
    T::Err: Display,
{
    match text.parse::<T>() {
        Ok(value) => {
            let printed = value.to_string();
            let again = printed.parse::<T>().ok();
            assert_eq!(again, Some(value), "{text:?} is printed as {printed:?}");
        }
        Err(error) => assert!(error.to_string().len() < 2000, "an error quotes too much"),
    }
}
