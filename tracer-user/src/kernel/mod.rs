//! Facts of the running kernel: where struct members are, which tracepoints exist, what enum numbers mean.
//! Loads nothing.

pub mod btf;
pub mod clock;
pub mod facts;
pub mod offsets;
pub mod permission;
pub mod prototype;
pub mod symbols;
