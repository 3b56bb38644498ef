//! A traced process appeared or went away.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Header;

pub const APPEARED: u32 = 1;
pub const GONE: u32 = 2;

/// The process is the header's tgid, except after fork, where it is the child.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Process {
    pub header: Header,
    /// [`APPEARED`] or [`GONE`].
    pub change: u32,
    pub tgid: u32,
    pub comm: crate::process::Comm,
}

crate::wire_pod!(Process, 56);
