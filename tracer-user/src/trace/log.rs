//! The kernel programs' own log (`--debug-probes`), on standard error.

use std::io::Write as _;

/// Writes aya-log's records to standard error.
pub(super) struct StandardError;

impl log::Log for StandardError {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        // Where it is closed, nobody wants to know.
        let _ = writeln!(std::io::stderr(), "probe {}: {}", record.target(), record.args());
    }

    fn flush(&self) {}
}
