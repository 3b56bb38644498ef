//! The probe families, one file each.

mod connect;
mod drop;
mod fate;
mod freeze;
mod icmp;
mod idle;
mod lifecycle;
mod listen;
mod nginx;
mod overflow;
mod peer;
mod process;
mod reset;
mod retransmit;
mod ttl;
mod unix;
