//! The live session: loads the programs, reads their events, lets the engine judge, hands records to the sinks.

mod backlogs;
mod comeback;
mod convert;
mod fallback;
mod host;
mod join;
mod later;
mod log;
mod notify;
mod outbox;
mod overload;
mod prepare;
mod roots;
mod session;
mod sockets;
mod statistics;
mod storms;
mod texts;
mod waits;
mod workers;

pub(crate) use convert::observation;
pub use prepare::possible;
pub(crate) use prepare::{Prepared, Wanted, prepare};
pub use session::{Stopped, run};
pub(crate) use workers::{Target, listen, observe, observe_configuration, observe_texts};
