//! From the ring buffer to typed events, and from maps to counts. Judges nothing.

pub mod address;
pub mod counters;
pub mod decode;
pub mod drop;
pub mod host;
pub mod icmp;
pub mod idle;
pub mod line;
pub mod memory;
pub mod overflow;
pub mod passing;
pub mod reset;
pub mod ring;
pub mod ttl;
pub mod unix;
