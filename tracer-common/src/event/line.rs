//! What nginx wrote right after a complaint: the line of it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Header;

/// Most lines are shorter; a longer one takes [`LONG`].
pub const SHORT: usize = 512;
/// NGX_MAX_ERROR_STR (src/core/ngx_log.h), and what syslog puts before it.
pub const LONG: usize = 2048 + 128;

/// Followed by the text.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Line {
    pub header: Header,
    /// `time_ns` of the complaint that this process had made before.
    pub complaint_ns: u64,
    /// Bytes of the text that count.
    pub length: u32,
    pub reserved: u32,
}

crate::wire_pod!(Line, 48);

/// With room for a text of [`SHORT`] or [`LONG`] bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Written<const ROOM: usize> {
    pub line: Line,
    pub text: [u8; ROOM],
}
