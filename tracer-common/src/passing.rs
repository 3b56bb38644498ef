//! Programs that much passes by, of which little is of interest: user space takes them away where that would cost.

/// Packets that the kernel frees or drops, looked at: an entry of the map `PASSED`.
pub const DROPS: u32 = 0;
/// Segments that TCP receives.
pub const SEGMENTS: u32 = 1;
/// Packets that were dropped for a reason that is told.
pub const RECORDED: u32 = 2;
pub const COUNT: u32 = 3;
