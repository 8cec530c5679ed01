//! Starts the real servers as child processes: Postgres, Kafka, Kafka Connect with Debezium, Redis, ClickHouse, and
//! Jaeger where traces are wanted.
//!
//! For tests (free ports, a private directory that disappears) and for the demo (the documented ports, a directory
//! that stays). It knows nothing of this project's own services.
//!
//! Invariant: a server that an attached [`Stack`] started never outlives its owner, however the owner ends
//! (drop, panic, Ctrl-C, `kill -9`): a watchdog holds a pipe to the owner and acts when it closes.
//!
//! ```no_run
//! # async fn example() -> Result<(), devstack::StackError> {
//! let stack = devstack::Stack::builder().kafka().redis().start().await?;
//! println!("{} {}", stack.kafka().bootstrap, stack.redis().url);
//! stack.kafka().restart().await?;          // same port, same data
//! # Ok(()) }
//! ```
//! In tests: `let stack = devstack::shared_for_tests(devstack::Needs::none().kafka().redis());`

mod builder;
mod error;
mod identity;
mod log;
mod needs;
mod ports;
mod probe;
mod process;
mod reading;
mod run_file;
mod secured;
mod server;
mod servers;
mod shared;
mod site;
mod stack;
mod tools;
mod watchdog;

pub use builder::Builder;
pub use error::StackError;
pub use identity::ProcessId;
pub use needs::{Kind, Needs};
pub use ports::free_port;
pub use process::{Launch, Process, StopSignal, Supervisor};
pub use reading::{NoMessage, next_message};
pub use secured::{ClickHouseUser, KafkaRule, Login, Secured};
pub use server::Server;
pub use servers::{ClickHouse, Connect, Jaeger, Kafka, Postgres, Redis};
pub use shared::{Shared, program_beside_test, shared_for_tests};
pub use stack::{ServerStatus, Stack};
pub use tools::has_jaeger;
