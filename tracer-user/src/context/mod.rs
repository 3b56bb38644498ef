//! Facts about processes, looked up in /proc and kept. Judges nothing.

pub mod backlog;
pub mod conntrack;
pub mod host;
pub mod limits;
pub mod listeners;
pub mod namespaces;
pub mod owners;
pub mod ports;
pub mod process;
pub mod route;
pub mod sock_diag;
pub mod stat;
pub mod unix;
