//! A traced socket: what is remembered of it while it lives, and what is read from it at one moment.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Connection that existed before the tracing began: its connect and its history are unknown.
pub const PREEXISTING: u32 = 1 << 0;
/// nginx logged an error about this socket.
pub const COMPLAINED: u32 = 1 << 1;
/// The peer's RST arrived.
pub const RESET_RECEIVED: u32 = 1 << 3;
/// The peer's FIN arrived.
pub const FIN_RECEIVED: u32 = 1 << 4;
/// The connection ended with a request outstanding, as far as the counters tell.
pub const OUTSTANDING: u32 = 1 << 5;
/// Our side sent a RST (close with unread data).
pub const RESET_SENT: u32 = 1 << 6;
/// `reset_by_*` and `reset_reason` were filled from the RST seen when it was sent on this host.
pub const RESET_SEEN_AT_SENDER: u32 = 1 << 7;
/// The worker closed it while exiting (not a decision about a request).
pub const EXITING: u32 = 1 << 8;
/// A segment had to be sent again while the listener's accept queue was over its limit (listener on this host).
pub const ACCEPT_QUEUE_FULL: u32 = 1 << 9;
/// A SYN had to be sent again while the listener's SYN queue was over its limit (listener on this host).
pub const SYN_QUEUE_FULL: u32 = 1 << 10;

/// `reset_reason`: the kernel gave none.
pub const NO_REASON: u32 = u32::MAX;
/// [`Live::sending`]: the other end's kernel has all that was sent.
pub const ALL_ACKNOWLEDGED: u8 = 1;
/// [`Live::sending`]: something that was sent is not acknowledged.
pub const UNACKNOWLEDGED: u8 = 2;
/// The kernel gives no reason, but it was seen that it had no socket for the segment that it answered.
pub const NO_SOCKET: u32 = u32::MAX - 1;

/// What is remembered of one socket from connect to the worker's close, or else to `tcp_destroy_sock`. Written by the kernel programs, keyed by the
/// address of its `struct sock`; copied whole into the events about it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Socket {
    /// Address of the `struct sock`. With `started_ns` it names the connection for good.
    pub sk: u64,
    /// When connect() put it into SYN_SENT, or for a preexisting one when it was first seen.
    pub started_ns: u64,
    /// 0: never reached ESTABLISHED (or preexisting).
    pub established_ns: u64,
    /// When the other side (or the kernel's own timer) ended it: FIN, RST, error. 0: not yet.
    pub ended_ns: u64,
    /// Payload sent when it ended, without retransmits.
    pub ended_bytes_sent: u64,
    /// Payload received when it ended, without the FIN.
    pub ended_bytes_received: u64,
    /// When the peer's FIN arrived (kept when an RST follows). 0: none.
    pub fin_ns: u64,
    pub last_retransmit_ns: u64,
    /// Owner, learnt at connect in process context.
    pub tgid: u32,
    pub tid: u32,
    pub netns: u32,
    pub flags: u32,
    /// sk_err when it ended; 0 for a FIN.
    pub ended_error: u32,
    /// Jiffies since the last payload was sent / received, when it ended.
    pub ended_since_sent_jiffies: u32,
    pub ended_since_received_jiffies: u32,
    pub retransmits: u32,
    /// Reason of the RST received (`enum sk_rst_reason` of the running kernel), when its sender is on this host.
    pub reset_reason: u32,
    /// Process that reset the connection by closing it, when on this host; else 0.
    pub reset_by_tgid: u32,
    pub reset_by_comm: crate::process::Comm,
    pub local_address: crate::address::Ip,
    pub remote_address: crate::address::Ip,
    pub local_port: u16,
    pub remote_port: u16,
    /// AF_INET 2, AF_INET6 10.
    pub family: u16,
    /// TCP state before it ended.
    pub ended_state: u8,
    /// TCP state in which the RST was received.
    pub reset_state: u8,
}

crate::wire_pod!(Socket, 8 * 8 + 10 * 4 + 3 * 16 + 8);

/// Read from the `struct sock` at the moment of an event.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Live {
    /// Payload sent, without SYN, FIN and retransmits.
    pub bytes_sent: u64,
    /// As the kernel counts it: a received FIN is one byte.
    pub bytes_received: u64,
    /// Acknowledged by the other end, which has a socket for this connection then, or had one: the SYN counts one.
    pub bytes_acked: u64,
    /// rcv_nxt - copied_seq: bytes (and FIN) that the worker has not read.
    pub unread: u32,
    pub total_retransmits: u32,
    pub error: u32,
    pub soft_error: u32,
    pub since_sent_jiffies: u32,
    pub since_received_jiffies: u32,
    /// TCP state now (for a transition: the old one).
    pub state: u8,
    /// RCV_SHUTDOWN 1 | SEND_SHUTDOWN 2.
    pub shutdown: u8,
    /// Whether all that was sent is acknowledged, the FIN and the SYN included: [`ALL_ACKNOWLEDGED`], [`UNACKNOWLEDGED`], or 0 where
    /// the kernel does not show it.
    pub sending: u8,
    pub reserved: u8,
    /// The shortest round trip of late (tcp_min_rtt(), include/net/tcp.h), in µs; 0: none was measured, or the kernel does not
    /// show it.
    pub min_rtt_us: u32,
}

crate::wire_pod!(Live, 3 * 8 + 6 * 4 + 8);
