//! nginx's messages up to the first byte of the request, and those about no attempt: each leads to its cause.
//!
//! The rows carry the ids of the project's list of messages; `messages_after` has the rest of them.

use super::{
    link::{connecting, connection, reused},
    script::{
        self, BODY, CONNECTING, HANDSHAKING, HEADER, Kind, SENDING, Step, complaint, failures, play, status, told,
    },
};
use crate::model::unix::OtherEnd;

/// id, `fmt` of the call (`%*s ` and the text for OpenSSL's), errno, `log->action`, what the kernel shows, the cause, and
/// the status when nginx does not retry; 200: the response has begun; "" and 0: no failure.
pub(super) type Row = (&'static str, &'static str, i32, &'static str, fn(Step) -> Step, &'static str, u16);

pub(super) const NONE: &str = "";
/// Messages that no attempt stands behind.
const WITHOUT_ATTEMPT: [&str; 5] =
    ["no_live_upstreams", "dns_timeout", "dns_failed", "no_resolver", "upstream_misconfigured"];

/// There is no connection.
pub(super) fn nothing(step: Step) -> Step {
    step
}

pub(super) fn unix(step: Step) -> Step {
    step.on_unix()
}

pub(super) fn unix_open(step: Step) -> Step {
    step.on_unix_socket(script::unix(|unix| {
        (unix.ended, unix.other_end) = (
            false,
            Some(OtherEnd { closed: false, accepted: true, inode: None, unread: 0, listener: Some(77), closing: None }),
        );
    }))
}

/// The kernel ended the connect with the error that nginx names.
fn dead(step: Step) -> Step {
    let Kind::Complaint { errno, .. } = step.kind else { return step };
    step.on(connecting().failed(errno))
}

fn silent(step: Step) -> Step {
    step.on(connecting())
}

fn reset_unsent(step: Step) -> Step {
    step.on(connection().unsent().rst(1))
}

fn reset_unsent_reused(step: Step) -> Step {
    step.cached(true).on(reused(5000).unsent().rst(30))
}

/// Connected; the request, or the handshake, is unanswered.
pub(super) fn waiting(step: Step) -> Step {
    step.on(connection())
}

pub(super) fn fin(step: Step) -> Step {
    step.on(connection().fin(2))
}

pub(super) fn rst(step: Step) -> Step {
    step.on(connection().rst(2))
}

/// The resolver, before there is any attempt to count.
fn resolving(code: u64) -> impl Fn(Step) -> Step {
    move |step| step.unread().code(code)
}

const ROWS: &[Row] = &[
    ("connect_refused", "connect() failed", 111, CONNECTING, dead, "connect_refused", 502),
    ("connect_unreach_host", "connect() failed", 113, CONNECTING, dead, "connect_unreachable", 502),
    ("connect_unreach_net", "connect() failed", 101, CONNECTING, dead, "connect_unreachable", 502),
    ("connect_timeout_kernel", "connect() failed", 110, CONNECTING, dead, "connect_timeout_kernel", 502),
    ("reset_before_first_write", "connect() failed", 104, CONNECTING, reset_unsent, "connect_reset", 502),
    ("reset_before_first_write", "connect() failed", 104, CONNECTING, reset_unsent_reused, "stale_keepalive", 502),
    ("connect_async_other", "connect() failed", 13, CONNECTING, dead, "connect_unreachable", 502),
    ("connect_async_other", "connect() failed", 71, CONNECTING, dead, "connect_unreachable", 502),
    ("connect_async_other", "connect() failed", 92, CONNECTING, dead, "connect_unreachable", 502),
    ("connect_async_other", "connect() failed", 100, CONNECTING, dead, "connect_unreachable", 502),
    ("connect_async_other", "connect() failed", 112, CONNECTING, dead, "connect_unreachable", 502),
    ("connect_async_other", "connect() failed", 90, CONNECTING, dead, "connect_failed", 502),
    ("connect_sync_refused", "connect() to %V failed", 111, CONNECTING, nothing, "connect_refused", 502),
    ("connect_sync_refused", "connect() to %V failed", 111, CONNECTING, unix, "socket_refused", 502),
    ("unix_backlog_full", "connect() to %V failed", 11, CONNECTING, unix, "socket_backlog_full", 502),
    ("connect_sync_netunreach", "connect() to %V failed", 101, CONNECTING, nothing, "connect_unreachable", 502),
    ("connect_sync_hostunreach", "connect() to %V failed", 113, CONNECTING, nothing, "connect_unreachable", 502),
    ("connect_sync_reset_or_down", "connect() to %V failed", 104, CONNECTING, nothing, "connect_reset", 502),
    ("connect_sync_reset_or_down", "connect() to %V failed", 100, CONNECTING, nothing, "connect_unreachable", 502),
    ("connect_sync_reset_or_down", "connect() to %V failed", 112, CONNECTING, nothing, "connect_unreachable", 502),
    ("unix_socket_missing", "connect() to %V failed", 2, CONNECTING, unix, "socket_missing", 502),
    ("connect_permission", "connect() to %V failed", 13, CONNECTING, nothing, "connect_denied", 502),
    ("connect_permission", "connect() to %V failed", 13, CONNECTING, unix, "socket_denied", 502),
    ("connect_eperm", "connect() to %V failed", 1, CONNECTING, nothing, "connect_denied", 502),
    ("connect_eperm", "connect() to %V failed", 1, CONNECTING, unix, "connect_denied", 502),
    ("ephemeral_ports_exhausted", "connect() to %V failed", 99, CONNECTING, nothing, "ports_exhausted", 502),
    ("connect_einval", "connect() to %V failed", 22, CONNECTING, nothing, "connect_failed", 502),
    ("connect_sync_other", "connect() to %V failed", 97, CONNECTING, nothing, "connect_failed", 502),
    ("connect_sync_other", "connect() to %V failed", 91, CONNECTING, unix, "connect_failed", 502),
    ("timeout_connect", "upstream timed out", 110, CONNECTING, silent, "connect_timeout", 504),
    ("no_live_upstreams", "no live upstreams", 0, CONNECTING, nothing, "no_live_upstreams", 502),
    ("server_disabled", "upstream server temporarily disabled", 0, CONNECTING, waiting, NONE, 0),
    ("no_resolver", "no resolver defined to resolve %V", 0, "", nothing, "no_resolver", 502),
    ("dns_server_refused", "recv() failed", 111, "resolving", nothing, NONE, 0),
    ("dns_bad_response", "DNS error (%ui: %s), query id:%ui", 0, "", nothing, NONE, 0),
    ("dns_bad_response", "unexpected DNS response for %V", 0, "", nothing, NONE, 0),
    ("dns_bad_response", "wrong ident %ui in DNS response for %V, expect %ui", 0, "", nothing, NONE, 0),
    ("dns_bad_response", "no A or CNAME types in DNS response", 0, "", nothing, NONE, 0),
    ("bad_upstream_url", "invalid URL prefix in \"%V\"", 0, "", nothing, "upstream_misconfigured", 500),
    ("bad_upstream_url", "%s in upstream \"%V\"", 0, "", nothing, "upstream_misconfigured", 500),
    ("bad_upstream_url", "no port in upstream \"%V\"", 0, "", nothing, "upstream_misconfigured", 500),
    ("bad_upstream_url", "no host in upstream \"%V\"", 0, "", nothing, "upstream_misconfigured", 500),
    ("no_upstream_conf", "no upstream configuration", 0, "", nothing, "upstream_misconfigured", 500),
    ("emfile_socket", "socket() failed", 24, CONNECTING, nothing, "fds_exhausted", 500),
    ("socket_other", "socket() failed", 23, CONNECTING, nothing, "fds_exhausted", 500),
    ("socket_other", "socket() failed", 105, CONNECTING, nothing, "connect_failed", 500),
    ("socket_other", "socket() failed", 97, CONNECTING, nothing, "connect_failed", 500),
    ("worker_connections", "%ui worker_connections are not enough", 0, CONNECTING, nothing, "worker_connections", 500),
    (
        "worker_connections_client",
        "%ui worker_connections are not enough",
        0,
        "accepting new connection",
        nothing,
        NONE,
        0,
    ),
    ("worker_connections_client", "%ui worker_connections are not enough", 0, "", nothing, NONE, 0),
    ("bind_failed", "bind(%V) failed", 99, CONNECTING, nothing, "bind_failed", 500),
    ("tls_peer_closed", "peer closed connection in SSL handshake", 0, HANDSHAKING, fin, "tls_peer_closed", 502),
    ("tls_peer_reset", "peer closed connection in SSL handshake", 104, HANDSHAKING, rst, "tls_peer_closed", 502),
    (
        "tls_handshake_failed",
        "%*s SSL_do_handshake() failed (SSL: error:0A000410:SSL routines::alert",
        0,
        HANDSHAKING,
        waiting,
        "tls_handshake_failed",
        502,
    ),
    (
        "tls_handshake_failed",
        "%*s SSL_do_handshake() failed (SSL: error:0A00010B:SSL routines::wrong version number",
        0,
        HANDSHAKING,
        waiting,
        "tls_handshake_failed",
        502,
    ),
    (
        "tls_handshake_syscall",
        "%*s SSL_do_handshake() failed (SSL: error:0A000126:SSL routines::unexpected eof while reading",
        0,
        HANDSHAKING,
        fin,
        "tls_peer_closed",
        502,
    ),
    ("tls_handshake_syscall", "%*s SSL_do_handshake() failed (SSL:", 104, HANDSHAKING, rst, "tls_peer_closed", 502),
    ("tls_handshake_rejected", "handshake rejected", 0, HANDSHAKING, waiting, "tls_handshake_failed", 502),
    (
        "tls_verify_failed",
        "upstream SSL certificate verify error: (%l:%s)",
        0,
        HANDSHAKING,
        waiting,
        "tls_verify_failed",
        502,
    ),
    (
        "tls_name_mismatch",
        "upstream SSL certificate does not match \"%V\"",
        0,
        HANDSHAKING,
        waiting,
        "tls_verify_failed",
        502,
    ),
    ("timeout_ssl_handshake", "upstream timed out", 110, HANDSHAKING, waiting, "tls_timeout", 504),
    (
        "tls_setup_failed",
        "%*s SSL_set_tlsext_host_name(\"x\") failed (SSL: error",
        0,
        CONNECTING,
        waiting,
        "upstream_misconfigured",
        500,
    ),
    ("tls_setup_failed", "%*s SSL_new() failed (SSL: error", 0, HANDSHAKING, waiting, "upstream_misconfigured", 500),
    (
        "client_closed",
        "client prematurely closed connection, so upstream connection is closed too",
        0,
        SENDING,
        waiting,
        NONE,
        0,
    ),
    (
        "client_closed",
        "epoll_wait() reported that client prematurely closed connection, so upstream connection is \
        closed too",
        104,
        HEADER,
        waiting,
        NONE,
        0,
    ),
    ("client_h2_cancel", "client canceled stream %ui", 0, "processing HTTP/2 connection", waiting, NONE, 0),
    ("client_timed_out", "client timed out", 110, "sending to client", nothing, NONE, 0),
    ("auth_subrequest_5xx", "auth request unexpected status: %ui", 0, "sending to client", nothing, NONE, 0),
    ("limit_req_conn", "limiting requests%s, excess: %ui.%03ui by zone \"%V\"", 0, "", nothing, NONE, 0),
    ("tempfile_enospc", "pwritev() \"%s\" failed", 28, BODY, waiting, "tempfile_failed", 200),
    ("tempfile_enospc", "pwrite() \"%s\" failed", 28, "reading client request body", nothing, "tempfile_failed", 500),
    ("tempfile_enospc", "write() \"%s\" failed", 28, "reading client request body", nothing, "tempfile_failed", 500),
];

/// Plays a message, and then the error page that nginx makes of it.
#[track_caller]
pub(super) fn check(row: &Row) {
    let (id, literal, errno, action, socket, cause, code) = *row;
    judge(id, socket(complaint(literal, action).errno(errno)), cause, code);
}

#[track_caller]
fn judge(id: &str, said: Step, cause: &str, code: u16) {
    let page = status(code).with(|request| request.attempts = said.request.attempts);
    let alone = play([said.clone()]);
    let attempt = !WITHOUT_ATTEMPT.contains(&cause);
    let began = code == 200;
    let outcome = if began { "truncated" } else { "unknown" };
    let failure = |outcome| format!("#1 {cause} proven {outcome}");
    let expected: Vec<String> = (code != 0 && attempt).then(|| failure(outcome)).into_iter().collect();
    assert_eq!(told(&alone), expected, "{id}, nothing after it");
    for failure in failures(&alone).filter(|_| !began) {
        assert_eq!(failure.status, Some(code), "{id}, the status to expect");
    }
    if code < 500 {
        return;
    }
    let mut expected = Vec::new();
    expected.extend(attempt.then(|| failure("final")));
    expected.push(format!("{code} nginx {cause}{}", if attempt { " #1" } else { "" }));
    assert_eq!(told(&play([said, page])), expected, "{id}, with its error page");
}

#[test]
fn every_message_has_its_cause() {
    ROWS.iter().for_each(check);
}

#[test]
fn resolver_codes_have_their_cause() {
    let rows = [("dns_timeout", 110), ("dns_nxdomain", 3), ("dns_servfail", 2), ("dns_other", 1), ("dns_other", 5)];
    for (id, code) in rows {
        let said = resolving(code)(complaint("%V could not be resolved (%i: %s)", ""));
        judge(id, said, if code == 110 { "dns_timeout" } else { "dns_failed" }, 502);
    }
}
