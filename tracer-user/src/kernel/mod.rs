//! Facts of the running kernel: where struct members are, which tracepoints exist, what enum numbers mean.
//! Loads nothing. And what the kernel gives this process: `heap`.

pub mod btf;
pub mod clock;
pub mod facts;
pub mod heap;
pub mod offsets;
pub mod permission;
pub mod prototype;
pub mod symbols;
