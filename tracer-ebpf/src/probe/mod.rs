//! The probe families, one file each.

mod lifecycle;
mod nginx;
mod process;
mod reset;
mod retransmit;
