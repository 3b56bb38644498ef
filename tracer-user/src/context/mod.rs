//! Facts about processes, looked up in /proc and kept. Judges nothing.

pub mod host;
pub mod limits;
pub mod listeners;
pub mod owners;
pub mod ports;
pub mod process;
pub mod unix;
