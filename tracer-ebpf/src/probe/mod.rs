//! The probe families, one file each.

mod drop;
mod fate;
mod idle;
mod lifecycle;
mod listen;
mod nginx;
mod overflow;
mod peer;
mod process;
mod reset;
mod retransmit;
