//! Facts about processes, looked up in /proc and kept. Judges nothing.

pub mod addresses;
pub mod aside;
pub mod backlog;
pub mod conntrack;
pub mod containers;
pub mod ends;
pub mod host;
pub mod limits;
pub mod listeners;
pub mod namespaces;
pub mod owners;
pub mod ports;
pub mod process;
pub mod route;
pub mod sock_diag;
pub mod standing;
pub mod stat;
pub mod tcp;
pub mod unit;
pub mod unix;
