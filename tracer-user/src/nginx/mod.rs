//! nginx from outside: its configuration on disk, its log files, and what its workers' memory says about both.
//!
//! Reads and never executes; takes nothing it reads on trust.

pub mod config;
pub mod log;
pub mod memory;
