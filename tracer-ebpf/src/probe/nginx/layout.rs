//! Where nginx keeps what is read: layouts of src/core/ngx_log.h, ngx_connection.h, ngx_event_connect.h,
//! src/http/ngx_http_request.h and ngx_http_upstream.h, 1.18 to 1.30, x86-64 and aarch64, as far as they are the same in all.

/// NGX_HTTP_MODULE and NGX_STREAM_MODULE: first word of a request and of a stream session.
pub(super) const HTTP_SIGNATURE: u32 = 0x5054_5448;

pub(super) const STREAM_SIGNATURE: u32 = 0x4d52_5453;

pub(super) mod log {
    pub(in crate::probe::nginx) const LEVEL: u64 = 0;
    pub(in crate::probe::nginx) const CONNECTION: u64 = 16;
    pub(in crate::probe::nginx) const DATA: u64 = 40;
    pub(in crate::probe::nginx) const ACTION: u64 = 64;
}

/// `ngx_http_log_ctx_t`
pub(super) mod log_context {
    pub(in crate::probe::nginx) const REQUEST: u64 = 8;
    pub(in crate::probe::nginx) const CURRENT_REQUEST: u64 = 16;
}

pub(super) mod connection {
    pub(in crate::probe::nginx) const DATA: u64 = 0;
    pub(in crate::probe::nginx) const FD: u64 = 24;
    pub(in crate::probe::nginx) const LOG: u64 = 80;
    pub(in crate::probe::nginx) const ADDR_TEXT: u64 = 120;
}

pub(super) mod request {
    pub(in crate::probe::nginx) const CONNECTION: u64 = 8;
    pub(in crate::probe::nginx) const SRV_CONF: u64 = 32;
    pub(in crate::probe::nginx) const LOC_CONF: u64 = 40;
    pub(in crate::probe::nginx) const CACHE: u64 = 64;
    pub(in crate::probe::nginx) const UPSTREAM: u64 = 72;
    pub(in crate::probe::nginx) const UPSTREAM_STATES: u64 = 80;
    /// `headers_in.host`, behind `pool`, `header_in` and `headers_in.headers`.
    pub(in crate::probe::nginx) const HOST: u64 = 160;
}
/// `ngx_table_elt_t`
pub(super) mod header {
    pub(in crate::probe::nginx) const KEY_LENGTH: u64 = 8;
    pub(in crate::probe::nginx) const VALUE: u64 = 24;
    pub(in crate::probe::nginx) const LOWCASE_KEY: u64 = 40;
}

pub(super) mod upstream {
    pub(in crate::probe::nginx) const PEER: u64 = 16;
    /// Right after the peer: without and with what --with-compat reserves there.
    pub(in crate::probe::nginx) const PIPE: [u64; 4] = [144, 152, 160, 168];
}

/// `ngx_event_pipe_t`
pub(super) mod pipe {
    pub(in crate::probe::nginx) const UPSTREAM: u64 = 0;
    pub(in crate::probe::nginx) const DOWNSTREAM: u64 = 8;
    pub(in crate::probe::nginx) const FLAGS_WITHOUT_THREADS: u64 = 104;
    pub(in crate::probe::nginx) const FLAGS_WITH_THREADS: u64 = 128;
    /// Fifth of the one-bit fields.
    pub(in crate::probe::nginx) const UPSTREAM_DONE: u64 = 1 << 4;
}

/// `ngx_peer_connection_t`
pub(super) mod peer {
    pub(in crate::probe::nginx) const CONNECTION: u64 = 0;
    pub(in crate::probe::nginx) const NAME: u64 = 24;
    pub(in crate::probe::nginx) const LOG: u64 = 112;
    pub(in crate::probe::nginx) const BITS: u64 = 120;
    /// Two pointers more (`hint`, `sid`).
    pub(in crate::probe::nginx) const BITS_SINCE_1_29_6: u64 = 136;
    pub(in crate::probe::nginx) const CACHED_BIT: u32 = 1;

    /// Six one-bit fields, the last two of which hold NGX_ERROR_ERR (1) for every HTTP upstream
    /// (ngx_http_upstream_init_request()).
    #[inline(always)]
    pub(in crate::probe::nginx) const fn are_bits(word: u32) -> bool {
        word & !0xf == 0x10
    }
}

/// `ngx_http_upstream_state_t`
pub(super) mod state {
    pub(in crate::probe::nginx) const STATUS: u64 = 0;
    pub(in crate::probe::nginx) const HEADER_TIME: u64 = 24;
    /// Smallest size that has these, largest that is plausible.
    pub(in crate::probe::nginx) const SIZE: core::ops::RangeInclusive<u64> = 64..=160;
}

/// From `start_sec` on.
pub(super) mod start {
    pub(in crate::probe::nginx) const MSEC: u64 = 8;
    pub(in crate::probe::nginx) const HTTP_VERSION: u64 = 24;
    pub(in crate::probe::nginx) const REQUEST_LINE: u64 = 32;
    pub(in crate::probe::nginx) const URI_DATA: u64 = 56;
}
