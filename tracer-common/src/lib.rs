//! The wire: what the kernel programs and the collector say to each other, and nothing else.
//!
//! Every type here is `repr(C)` with fixed-width integers and arrays of them only, without padding (the zerocopy
//! derives refuse to compile otherwise), and its size is asserted beside it. Units are in the names; times are
//! `CLOCK_MONOTONIC` nanoseconds, ports are in host order, addresses are 16 octets with IPv4 mapped into IPv6.
#![no_std]

pub mod address;
pub mod call;
pub mod drop;
pub mod event;
pub mod icmp;
pub mod listener;
pub mod loss;
pub mod passing;
pub mod peer;
pub mod process;
pub mod reset;
pub mod settings;
pub mod socket;
pub mod storm;
pub mod ttl;
pub mod unix;
pub mod upstream;

/// Hooks that not every kernel has, and whose absence others make up for: entries of the map `HOOKED`.
pub mod hooked {
    /// `tcp_conn_request`: it sees every SYN.
    pub const CONN_REQUEST: u32 = 0;
    /// `unix_release_sock`: it sees every unix socket closed.
    pub const UNIX_RELEASE: u32 = 1;
    /// `sched_process_exit`: it looks through what an exiting server has open.
    pub const UNIX_EXIT: u32 = 2;
    pub const COUNT: u32 = 3;
}

/// Why a process counts as a server: values of the map `SERVERS`.
pub mod server {
    /// It listens.
    pub const LISTENS: u32 = 0;
    /// A server forked it: it has the listeners too, until it becomes another program.
    pub const FORKED: u32 = 1;
    /// Its last thread exits, and what it has open was looked through.
    pub const LOOKED_THROUGH: u32 = 2;
}

/// TCP states as `enum` in `include/net/tcp_states.h` numbers them (unchanged since 2.6).
pub mod tcp_state {
    pub const ESTABLISHED: u8 = 1;
    pub const SYN_SENT: u8 = 2;
    pub const FIN_WAIT1: u8 = 4;
    pub const TIME_WAIT: u8 = 6;
    pub const CLOSE: u8 = 7;
    pub const CLOSE_WAIT: u8 = 8;
    pub const LAST_ACK: u8 = 9;
    pub const LISTEN: u8 = 10;
    pub const NEW_SYN_RECV: u8 = 12;
}

/// Lets aya carry a wire type in a map or a global (user space only).
#[macro_export]
#[doc(hidden)]
macro_rules! wire_pod {
    ($type:ty, $size:expr) => {
        const _: () = assert!(size_of::<$type>() == $size);
        #[cfg(feature = "user")]
        // SAFETY: repr(C), integers and byte arrays only, no padding (zerocopy's IntoBytes proves it): any bytes are a value.
        unsafe impl aya::Pod for $type {}
    };
}
