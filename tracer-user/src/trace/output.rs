//! Where a session's records go, as far as the session needs to know.

use std::{io, time::Duration};

use crate::record::{EndReason, Record, Timestamp};

/// Takes records. `BrokenPipe` means that nobody reads any more: a clean end.
pub trait Output {
    fn record(&mut self, record: &Record) -> io::Result<()>;
    /// After each batch of records.
    fn flush(&mut self) -> io::Result<()>;
    /// Time has passed (every 100 ms or so).
    fn tick(&mut self, now: Timestamp) -> io::Result<()>;
    /// Someone moved the files away (SIGHUP).
    fn reopen(&mut self) -> io::Result<()>;
    /// Failures shown so far, after filters.
    fn shown(&self) -> u64;
    /// The session is over: totals and last words.
    fn end(&mut self, reason: EndReason, duration: Duration) -> io::Result<()>;
}
