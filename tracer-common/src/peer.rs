//! The other end of a connection, when it is on this host: who closed it; and what killed whom.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The connection as the end sees it that was *not* closed: addresses as its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PeerKey {
    pub local_address: crate::address::Ip,
    pub remote_address: crate::address::Ip,
    pub local_port: u16,
    pub remote_port: u16,
    /// Of a loopback connection, whose addresses every namespace has for itself; else 0: the ends may be in two.
    pub netns: u32,
}

crate::wire_pod!(PeerKey, 40);

/// The process was exiting: nobody decided to close.
pub const PEER_EXITING: u32 = 1 << 0;
/// The parent has the same name: a worker of a prefork server.
pub const PEER_WORKER: u32 = 1 << 1;
/// Its close sent a RST.
pub const PEER_RESETS: u32 = 1 << 2;

/// A process of this host closed its end. Written in that process's context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PeerClosed {
    pub time_ns: u64,
    pub tgid: u32,
    pub parent: u32,
    /// As wait(2) gives it: signal in the low 7 bits, 0x80 for a core dump, exit code above. Only with [`PEER_EXITING`].
    pub exit_code: u32,
    pub flags: u32,
    /// Name of the process (its thread group leader).
    pub comm: crate::process::Comm,
}

crate::wire_pod!(PeerClosed, 40);

/// What was done to a process that may be dying of it, by tgid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Fate {
    /// When the kernel chose it as a victim for memory; 0: it did not.
    pub oom_ns: u64,
    /// When a process sent it the signal; 0: none did.
    pub signal_ns: u64,
    pub signal: u32,
    pub sender: u32,
    pub sender_comm: crate::process::Comm,
}

crate::wire_pod!(Fate, 40);

/// A process was told to stand still, by tgid, gone once it was told to go on; or a server was told to reload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Stop {
    /// Of the signal; the process stands still a moment later, if it does not handle it.
    pub time_ns: u64,
    /// SIGSTOP, SIGTSTP, SIGTTIN or SIGTTOU; after a debugger's SIGSTOP also SIGTRAP. To reload: SIGHUP or SIGUSR2.
    pub signal: u32,
    pub sender: u32,
    pub sender_comm: crate::process::Comm,
}

crate::wire_pod!(Stop, 32);
