//! Where nginx keeps what is read: layouts of src/core/ngx_log.h, ngx_connection.h, ngx_event_connect.h,
//! src/http/ngx_http_request.h and ngx_http_upstream.h, 1.18 to 1.30, x86-64 and aarch64, as far as they are the same in all.
//!
//! Each struct is read in one piece of `WORDS` words: a read costs some 40 ns, however short it is. Places are words, the
//! few that are read alone are bytes (`_AT`).

/// NGX_HTTP_MODULE and NGX_STREAM_MODULE: first word of a request and of a stream session.
pub(super) const HTTP_SIGNATURE: u32 = 0x5054_5448;

pub(super) const STREAM_SIGNATURE: u32 = 0x4d52_5453;

pub(super) mod log {
    pub(in crate::probe::nginx) const WORDS: usize = 9;
    pub(in crate::probe::nginx) const LEVEL: usize = 0;
    pub(in crate::probe::nginx) const CONNECTION: usize = 2;
    pub(in crate::probe::nginx) const DATA: usize = 5;
    pub(in crate::probe::nginx) const ACTION: usize = 8;
}

/// `ngx_http_log_ctx_t`
pub(super) mod log_context {
    pub(in crate::probe::nginx) const WORDS: usize = 3;
    pub(in crate::probe::nginx) const REQUEST: usize = 1;
    pub(in crate::probe::nginx) const CURRENT_REQUEST: usize = 2;
}

pub(super) mod connection {
    pub(in crate::probe::nginx) const DATA: usize = 0;
    pub(in crate::probe::nginx) const FD: usize = 3;
    /// As far as the two above are.
    pub(in crate::probe::nginx) const HEAD_WORDS: usize = 4;
    pub(in crate::probe::nginx) const SENT_AT: u64 = 72;
    pub(in crate::probe::nginx) const LOG_AT: u64 = 80;
    pub(in crate::probe::nginx) const ADDR_TEXT_AT: u64 = 120;
    /// Without and with QUIC; one more to be prepared: `number` is one of these.
    pub(in crate::probe::nginx) const NUMBER_AT: u64 = 200;
    pub(in crate::probe::nginx) const NUMBERS: usize = 3;
}

pub(super) mod request {
    pub(in crate::probe::nginx) const WORDS: usize = 11;
    pub(in crate::probe::nginx) const SIGNATURE: usize = 0;
    pub(in crate::probe::nginx) const CONNECTION: usize = 1;
    pub(in crate::probe::nginx) const SRV_CONF: usize = 4;
    pub(in crate::probe::nginx) const LOC_CONF: usize = 5;
    pub(in crate::probe::nginx) const CACHE: usize = 8;
    pub(in crate::probe::nginx) const UPSTREAM: usize = 9;
    pub(in crate::probe::nginx) const UPSTREAM_STATES: usize = 10;
    pub(in crate::probe::nginx) const CONNECTION_AT: u64 = 8;
    pub(in crate::probe::nginx) const UPSTREAM_AT: u64 = 72;
    pub(in crate::probe::nginx) const UPSTREAM_STATES_AT: u64 = 80;
    /// `headers_in.host`, behind `pool`, `header_in` and `headers_in.headers`.
    pub(in crate::probe::nginx) const HOST_AT: u64 = 160;
}

/// `ngx_table_elt_t`
pub(super) mod header {
    pub(in crate::probe::nginx) const WORDS: usize = 6;
    pub(in crate::probe::nginx) const KEY_LENGTH: usize = 1;
    pub(in crate::probe::nginx) const VALUE: usize = 3;
    pub(in crate::probe::nginx) const LOWCASE_KEY: usize = 5;
}

pub(super) mod upstream {
    pub(in crate::probe::nginx) const PEER_AT: u64 = 16;
    /// Right after the peer: without and with what --with-compat reserves there.
    pub(in crate::probe::nginx) const PIPE_AT: [u64; 4] = [144, 152, 160, 168];
}

/// `ngx_event_pipe_t`
pub(super) mod pipe {
    pub(in crate::probe::nginx) const UPSTREAM_AT: u64 = 0;
    pub(in crate::probe::nginx) const DOWNSTREAM_AT: u64 = 8;
    pub(in crate::probe::nginx) const FLAGS_WITHOUT_THREADS_AT: u64 = 104;
    pub(in crate::probe::nginx) const FLAGS_WITH_THREADS_AT: u64 = 128;
    /// Fifth of the one-bit fields.
    pub(in crate::probe::nginx) const UPSTREAM_DONE: u64 = 1 << 4;
}

/// `ngx_peer_connection_t`
pub(super) mod peer {
    pub(in crate::probe::nginx) const WORDS: usize = 4;
    pub(in crate::probe::nginx) const CONNECTION: usize = 0;
    pub(in crate::probe::nginx) const NAME: usize = 3;
    /// From here on the log and the one-bit fields: right behind it, and since 1.29.6 two pointers (`hint`, `sid`) later.
    pub(in crate::probe::nginx) const LOG_AT: u64 = 112;
    pub(in crate::probe::nginx) const BITS: usize = 1;
    pub(in crate::probe::nginx) const BITS_SINCE_1_29_6: usize = 3;
    pub(in crate::probe::nginx) const CACHED_BIT: u32 = 1;

    /// Six one-bit fields, the last two of which hold NGX_ERROR_ERR (1) for every HTTP upstream
    /// (ngx_http_upstream_init_request()).
    #[inline(always)]
    pub(in crate::probe::nginx) const fn are_bits(word: u32) -> bool {
        word & !0xf == 0x10
    }
}

/// `ngx_array_t`
pub(super) mod array {
    pub(in crate::probe::nginx) const WORDS: usize = 4;
    pub(in crate::probe::nginx) const COUNT_AT: u64 = 8;
}

/// `ngx_http_upstream_state_t`
pub(super) mod state {
    pub(in crate::probe::nginx) const WORDS: usize = 7;
    pub(in crate::probe::nginx) const STATUS: usize = 0;
    pub(in crate::probe::nginx) const HEADER_TIME: usize = 3;
    pub(in crate::probe::nginx) const BYTES_RECEIVED: usize = 6;
    /// Smallest size that has these, largest that is plausible.
    pub(in crate::probe::nginx) const SIZE: core::ops::RangeInclusive<u64> = 64..=160;
}

/// From `start_sec` on: `start_sec`, `start_msec`, `method`, `http_version`, `request_line`, `uri`.
pub(super) mod start {
    pub(in crate::probe::nginx) const WORDS: usize = 8;
    pub(in crate::probe::nginx) const SEC: usize = 0;
    pub(in crate::probe::nginx) const MSEC: usize = 1;
    pub(in crate::probe::nginx) const HTTP_VERSION: usize = 3;
    pub(in crate::probe::nginx) const REQUEST_LINE: usize = 4;
    pub(in crate::probe::nginx) const URI_DATA: usize = 7;
}
