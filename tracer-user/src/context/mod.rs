//! Facts about processes, looked up in /proc and kept. Judges nothing.

pub mod backlog;
pub mod host;
pub mod limits;
pub mod listeners;
pub mod owners;
pub mod ports;
pub mod process;
pub mod sock_diag;
pub mod stat;
pub mod unix;
