//! Where records go: terminal, JSON Lines, capture file. Sinks show and store; they decide nothing.

pub mod filter;
pub mod json;
pub mod log;
mod recent;
mod redact;
mod sinks;
pub mod stdout;
pub mod summary;
pub mod terminal;
mod totals;

pub use sinks::{Queries, Sinks};
pub use totals::Totals;

use std::io;

use crate::record::{Record, Timestamp};

/// One destination. Errors are of the destination; `BrokenPipe` means that nobody reads any more: a clean end.
pub trait Sink {
    fn write(&mut self, record: &Record) -> io::Result<()>;

    /// Hands on what is buffered: after each batch of records, and before the end.
    fn flush(&mut self) -> io::Result<()>;

    /// Time has passed (called every 100 ms or so).
    fn tick(&mut self, _now: Timestamp) -> io::Result<()> {
        Ok(())
    }

    /// Someone moved the file away (SIGHUP).
    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Says something to the user, on standard error unless a test listens.
pub type Talk = Box<dyn FnMut(&str) + Send>;
