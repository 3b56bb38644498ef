//! nginx makes an error page: `ngx_http_special_response_handler(r, error)`, src/http/ngx_http_special_response.c.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Header;
use super::complaint::{REQUEST_LEN, Request};

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Status {
    pub header: Header,
    pub request: Request,
    pub status: u32,
    pub reserved: u32,
}

crate::wire_pod!(Status, 32 + REQUEST_LEN + 8);
