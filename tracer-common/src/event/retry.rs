//! The connect that follows a complaint on the same thread and belongs to the same request: nginx tries the next peer.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Header;

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Retry {
    pub header: Header,
    /// nginx's `ngx_http_request_t *`.
    pub request: u64,
    /// The socket of the new attempt.
    pub sk: u64,
}

crate::wire_pod!(Retry, 48);
