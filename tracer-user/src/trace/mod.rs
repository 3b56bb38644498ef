//! The live session: loads the programs, reads their events, lets the engine judge, hands records to the sinks.

mod convert;
mod log;
mod output;
mod session;
mod statistics;
mod workers;

pub use output::Output;
pub use session::{Request, Stopped, run};
