//! nginx's messages: which of them say that an upstream attempt failed, and what they say.
//!
//! Matched by the literal (`fmt` of `ngx_log_error()`, not the printed line), the errno argument and `log->action`: none
//! of them can be forged by a client or an upstream. Source of each: src/http/ngx_http_upstream.c unless named.

use crate::model::{
    conversion::after_conversion,
    event::{Complaint, Subject},
    verdict::Phase,
};

pub mod errno {
    pub const EPERM: i32 = 1;
    pub const ENOENT: i32 = 2;
    pub const EAGAIN: i32 = 11;
    pub const EACCES: i32 = 13;
    pub const EPIPE: i32 = 32;
    pub const ENFILE: i32 = 23;
    pub const EMFILE: i32 = 24;
    pub const EPROTO: i32 = 71;
    pub const ENOPROTOOPT: i32 = 92;
    pub const EADDRNOTAVAIL: i32 = 99;
    pub const ENETDOWN: i32 = 100;
    pub const ENETUNREACH: i32 = 101;
    pub const ECONNRESET: i32 = 104;
    pub const ETIMEDOUT: i32 = 110;
    pub const ECONNREFUSED: i32 = 111;
    pub const EHOSTDOWN: i32 = 112;
    pub const EHOSTUNREACH: i32 = 113;
}

/// What nginx said about an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// `connect() failed`: the error of the socket before the first write, on a new or a cached connection.
    ConnectFailed,
    /// `connect() to … failed`: connect(2) itself failed.
    ConnectFailedAtOnce,
    TimedOut(Phase),
    /// End of file from the upstream.
    Closed(Phase),
    ReceiveFailed(Phase),
    SendFailed,
    HeaderTooBig,
    HeaderInvalid,
    BodyInvalid,
    TlsHandshakeFailed,
    TlsPeerClosed,
    TlsVerifyFailed,
    NoLiveUpstreams,
    NoResolver,
    /// The resolver's code is in `number`.
    NotResolved,
    SocketFailed,
    BindFailed,
    WorkerConnections,
    Misconfigured,
    TempFile,
}

/// Understands a complaint; None: it does not say that an attempt failed.
pub fn said(complaint: &Complaint) -> Option<Said> {
    let literal = complaint.literal.as_str();
    // OpenSSL's errors are formatted first and logged as "%*s" (src/event/ngx_event_openssl.c, ngx_ssl_error()).
    let literal = if literal.starts_with("%*s") { complaint.text.as_str() } else { literal };
    let starts = |prefix: &str| literal.starts_with(prefix);
    let phase = phase(&complaint.action);

    // Without an upstream phase: the resolver's and the configuration's (both before the first connect).
    if starts("no resolver defined to resolve") {
        return Some(Said::NoResolver);
    }
    if literal.contains(" could not be resolved (") {
        return Some(Said::NotResolved);
    }
    if starts("invalid URL prefix in")
        || starts("no upstream configuration")
        || starts("%s in upstream ")
        || starts("no port in upstream ")
        || starts("no host in upstream ")
    {
        return Some(Said::Misconfigured);
    }
    if starts("pwrite() \"") || starts("pwritev() \"") || starts("write() \"") {
        return Some(Said::TempFile);
    }

    // An unbuffered response: nginx reads the upstream while its action is still the client's side
    // (ngx_http_upstream_process_non_buffered_request()).
    let unbuffered = complaint.action == "sending to client"
        && ["upstream ", "recv() failed", "readv() failed"].iter().any(|prefix| starts(prefix));
    let phase = if unbuffered { Phase::Body } else { phase? };
    // The first of the body, read together with the header: ngx_http_upstream_send_response() hands it to the input
    // filter of an unbuffered response before the action changes.
    let accepted = matches!(&complaint.subject, Subject::Http(request) if request.header_accepted == Some(true));
    let phase = if phase == Phase::Header && accepted { Phase::Body } else { phase };
    let in_body = phase == Phase::Body;
    let said = if starts("connect() failed") {
        Said::ConnectFailed
    } else if starts("connect() to ") {
        Said::ConnectFailedAtOnce
    } else if starts("upstream timed out") {
        Said::TimedOut(phase)
    } else if starts("upstream prematurely closed connection") {
        Said::Closed(phase)
    } else if starts("recv() failed") || starts("readv() failed") {
        Said::ReceiveFailed(phase)
    } else if starts("writev() failed")
        || starts("send() failed")
        || starts("sendfile() failed")
        || starts("sendfile(")
        || starts("sendmsg() failed")
        || starts("SSL_write() failed")
        || starts("SSL_sendfile() failed")
    {
        // The rest of the request, which no longer matters, met the end of the response.
        if in_body { Said::ReceiveFailed(phase) } else { Said::SendFailed }
    } else if starts("SSL_read() failed") {
        // With TLS 1.3 nginx's side of the handshake is over before the other end judges its certificate. Else end of file or a
        // reset under TLS (before 1.21.2, or with other reasons than nginx knows).
        let alert = complaint.errno == 0 && literal.contains("SSL alert number");
        match phase {
            Phase::Tls => Said::TlsPeerClosed,
            Phase::Header if alert => Said::TlsHandshakeFailed,
            _ => Said::Closed(phase),
        }
    } else if starts("peer closed connection in SSL handshake") {
        Said::TlsPeerClosed
    } else if starts("SSL_do_handshake() failed") {
        // With an errno it was the connection, without it the protocol; OpenSSL 3 calls the connection's end one as well, which
        // nginx knows since 1.21.2.
        let ended = complaint.errno != 0 || literal.contains("unexpected eof while reading");
        if ended { Said::TlsPeerClosed } else { Said::TlsHandshakeFailed }
    } else if starts("handshake rejected") {
        Said::TlsHandshakeFailed
    } else if starts("upstream SSL certificate") {
        Said::TlsVerifyFailed
    } else if starts("SSL_set_tlsext_host_name")
        || starts("SSL_new")
        || starts("SSL_set_fd")
        || starts("SSL_CTX_")
        || starts("SSL_set_alpn_protos")
        || starts("ngx_ssl_create_connection")
    {
        Said::Misconfigured
    } else if starts("no live upstreams") {
        Said::NoLiveUpstreams
    } else if starts("upstream sent too big header") {
        Said::HeaderTooBig
    } else if starts("socket() failed") {
        Said::SocketFailed
    } else if starts("bind(") {
        Said::BindFailed
    } else if literal.contains("worker_connections are not enough") {
        Said::WorkerConnections
    } else if not_a_failure(literal) {
        return None;
    } else if starts("upstream prematurely closed FastCGI") {
        if in_body { Said::Closed(phase) } else { Said::HeaderInvalid }
    } else if starts("upstream prematurely closed stream") {
        Said::Closed(phase)
    } else if starts("upstream ") || starts("memcached sent invalid") {
        // Protocol errors: nginx has some sixty, and new ones with every version; all are FT_INVALID_HEADER before the
        // header, and end the response after it.
        if in_body { Said::BodyInvalid } else { Said::HeaderInvalid }
    } else {
        return None;
    };
    Some(said)
}

/// nginx before 1.21.2 logs OpenSSL 3's word for a connection that ended without close_notify even where what it had read just
/// before is the whole answer: ngx_ssl_recv() reads until nothing more comes.
pub fn may_follow_an_answer(complaint: &Complaint) -> bool {
    complaint.text.starts_with("SSL_read() failed") && complaint.text.contains("unexpected eof while reading")
}

/// A complaint about talking to an upstream that this program does not know: of a module it has not heard of, or a newer
/// nginx. Alone it explains nothing, and is better than nothing.
pub fn is_unknown(complaint: &Complaint) -> bool {
    let literal = if complaint.literal.starts_with("%*s") { &complaint.text } else { &complaint.literal };
    phase(&complaint.action).is_some() && said(complaint).is_none() && !not_a_failure(literal)
}

/// Messages about upstreams that accompany a failure, or are none.
fn not_a_failure(literal: &str) -> bool {
    literal.starts_with("upstream server temporarily disabled")
        || literal.starts_with("upstream sent no valid HTTP/1.0 header")
        || literal.starts_with("upstream sent more data than specified")
        || literal.starts_with("upstream sent data after final chunk")
        || (literal.starts_with("upstream sent duplicate header line") && literal.contains("ignored"))
        || literal.starts_with("upstream sent X-Accel")
        || literal.starts_with("upstream response is buffered")
        || literal.starts_with("FastCGI sent in stderr")
}

/// The phase that `log->action` names; None: not about talking to an upstream.
pub fn phase(action: &str) -> Option<Phase> {
    match action {
        "connecting to upstream" => Some(Phase::Connect),
        "SSL handshaking to upstream" => Some(Phase::Tls),
        "sending request to upstream" => Some(Phase::Send),
        "reading response header from upstream" => Some(Phase::Header),
        "reading upstream" => Some(Phase::Body),
        _ => None,
    }
}

/// The message as nginx writes it, as far as literal, errno and action tell: the arguments of the literal stay
/// placeholders unless they are the text or the peer.
pub fn message(complaint: &Complaint) -> String {
    let mut text = if let Some(rest) = complaint.literal.strip_prefix("%*s") {
        complaint.text.clone() + rest
    } else {
        with_argument(&complaint.literal, &complaint.text, &complaint.subject)
    };
    if complaint.errno != 0 {
        let name = std::io::Error::from_raw_os_error(complaint.errno).to_string();
        let name = name.split(" (os error").next().unwrap_or_default().to_owned();
        text = format!("{text} ({}: {name})", complaint.errno);
    }
    if complaint.action.is_empty() { text } else { format!("{text} while {}", complaint.action) }
}

/// The literal with its first argument; without one known, a `%V` is the peer as far as that is known.
fn with_argument(literal: &str, argument: &str, subject: &Subject) -> String {
    let Some((before, conversion)) = literal.split_once('%') else { return literal.to_owned() };
    let argument = match (argument, subject) {
        ("", Subject::Http(request)) if conversion.starts_with('V') => request.peer.as_deref().unwrap_or_default(),
        (argument, _) => argument,
    };
    if argument.is_empty() {
        return literal.to_owned();
    }
    let mut text = format!("{before}{argument}");
    let mut rest = after_conversion(conversion);
    // What nginx put in for the others is not known.
    while let Some((before, conversion)) = rest.split_once('%') {
        text.extend([before, "?"]);
        rest = after_conversion(conversion);
    }
    text + rest
}
