//! The lab: real nginx, upstreams that fail on purpose, and scenarios as data. nginx's own access and error log are
//! the oracle; the records of `why502` are held against it.
//!
//! A scenario is a [`scenario::Scenario`] in a table under [`scenarios`]. [`run`] starts what it names, drives the
//! traffic, and compares. Nothing here touches the host's nginx: every process, port, directory and network namespace
//! is private to one scenario and ends with it.

pub mod accuracy;
mod attempt;
pub mod bench;
pub mod check;
pub mod child;
pub mod client;
#[cfg(test)]
mod coverage;
pub mod demo;
pub mod dns;
pub mod drive;
mod elsewhere;
pub mod filter;
pub mod h2;
pub mod icmp;
pub mod kernels;
mod listener;
pub mod logs;
pub mod measure;
pub mod namespace;
pub mod nginx;
pub mod oracle;
pub mod program;
pub mod rate;
pub mod results;
pub mod run;
pub mod scenario;
pub mod scenarios;
pub mod schema;
pub mod script;
pub mod selection;
pub mod shown;
pub mod sockets;
pub mod stage;
mod stream;
pub mod tally;
mod tls;
pub mod tracer;
pub mod upstream;
pub mod wait;
mod watchdog;
