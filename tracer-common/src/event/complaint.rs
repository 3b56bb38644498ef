//! nginx logs an error: `ngx_log_error_core(level, log, err, fmt, ...)`, src/core/ngx_log.c.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Header;
use crate::{
    socket::{Live, Socket},
    unix::UnixSocket,
};

/// The log belongs to an HTTP request (its signature was found).
pub const HTTP: u32 = 1 << 0;
/// The log belongs to a stream session.
pub const STREAM: u32 = 1 << 1;
/// `socket` and `live` describe the socket of the request's upstream connection, found through its descriptor.
pub const SOCKET_BOUND: u32 = 1 << 2;
/// `peer.cached` could be read (the layout of `ngx_peer_connection_t` was checked).
pub const CACHED_KNOWN: u32 = 1 << 3;
/// nginx took the connection from its keepalive cache.
pub const CACHED: u32 = 1 << 4;
/// The upstream connection's socket is a unix socket: `unix` describes it, `socket` and `live` are zero.
pub const UNIX: u32 = 1 << 5;
/// `attempt` and the `state_*` fields were read from `r->upstream_states`.
pub const STATES_KNOWN: u32 = 1 << 6;
/// `start_ms` and `line` were found in the main request.
pub const LINE_KNOWN: u32 = 1 << 7;

/// An error page of this main request was counted, and is not told: this is one more of the same request.
pub const ANSWERED: u32 = 1 << 9;
/// nginx's cache has to do with the request (`r->cache`): instead of an error the client may get a stale response.
pub const CACHEABLE: u32 = 1 << 8;

pub const LITERAL_LEN: usize = 128;
pub const TEXT_LEN: usize = 192;
pub const ACTION_LEN: usize = 56;
pub const NAME_LEN: usize = 112;
pub const CLIENT_LEN: usize = 64;
pub const LINE_LEN: usize = 304;
pub const HOST_LEN: usize = 96;

/// What nginx knows of the request, read from its memory with self-checks; shared by complaint and status.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Request {
    /// `ngx_http_request_t *` of the (sub)request, 0 unless [`HTTP`].
    pub request: u64,
    /// `ngx_http_request_t *` of the main request.
    pub main: u64,
    /// nginx's connection number of the client connection (`*N` in the log); 0: none.
    pub connection: u64,
    /// `r->upstream`; 0: the request has had nothing to do with an upstream.
    pub upstream: u64,
    /// `header_time` of the last attempt in ms; `u64::MAX`: no response header was accepted.
    pub state_header_time: u64,
    /// Bytes that nginx has read from the upstream in the last attempt (`u->state->bytes_received`); 0 where that is not known.
    pub state_received: u64,
    /// `status` of the last attempt, 0 while it runs.
    pub state_status: u32,
    /// Attempts so far (`r->upstream_states->nelts`).
    pub attempt: u32,
    /// `log->log_level`: lines above it are not written, and not seen here.
    pub log_level: u32,
    pub flags: u32,
    /// Where `start_sec` is in this build's `ngx_http_request_t`; 0: not found.
    pub start_offset: u32,
    /// Complaints about this request that were only counted: [`crate::storm`].
    pub counted: u32,
    /// When the main request began, ms since 1970 by nginx's clock: with its address it tells requests apart.
    pub start_ms: u64,
    /// `r->srv_conf` and `r->loc_conf`: which `server` and `location` have the request now.
    pub server_conf: u64,
    pub location_conf: u64,
    /// `r->uri.data` of the main request: another address is another URI, after an internal redirect. 0: not found.
    pub uri: u64,
    /// Bytes of this request that were written on the upstream connection (`u->peer.connection->sent`); 0 without one.
    pub sent: u64,
    /// The two words behind the client connection's `number`: `requests` and flags; since 1.19.10 `start_time` and `requests`.
    /// 0: not found.
    pub behind_number: [u64; 2],
    /// Name of the peer of the attempt (`u->peer.name`), NUL padded.
    pub peer: [u8; NAME_LEN],
    /// The client's address as nginx logs it.
    pub client: [u8; CLIENT_LEN],
    /// The main request's request line, NUL padded, cut.
    pub line: [u8; LINE_LEN],
    /// The main request's Host header, NUL padded, cut.
    pub host: [u8; HOST_LEN],
}

/// Bytes of [`Request`].
pub const REQUEST_LEN: usize = 13 * 8 + 6 * 4 + NAME_LEN + CLIENT_LEN + LINE_LEN + HOST_LEN;

crate::wire_pod!(Request, REQUEST_LEN);

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Complaint {
    pub header: Header,
    pub request: Request,
    pub socket: Socket,
    pub live: Live,
    pub unix: UnixSocket,
    /// NGX_LOG_*: 1 emerg … 4 error, 5 warn, 7 info.
    pub level: u32,
    /// The errno argument; 0: none.
    pub errno: u32,
    /// The first two variadic arguments: numbers or addresses, as the literal says.
    pub arguments: [u64; 2],
    /// Where `literal` and `action` are in the worker's memory. The kernel cannot read a page that the worker has not
    /// touched yet: the first complaint of its kind in a worker comes with an empty text, which user space looks up.
    pub literal_address: u64,
    pub action_address: u64,
    /// `fmt`, NUL terminated or cut.
    pub literal: [u8; LITERAL_LEN],
    /// The first argument as text, where the literal takes one (`%V`, or `%*s` of OpenSSL's errors), NUL terminated.
    pub text: [u8; TEXT_LEN],
    /// `log->action`: what nginx was doing.
    pub action: [u8; ACTION_LEN],
}

crate::wire_pod!(
    Complaint,
    32 + REQUEST_LEN + 160 + 56 + size_of::<UnixSocket>() + 40 + LITERAL_LEN + TEXT_LEN + ACTION_LEN
);
