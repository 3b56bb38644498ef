//! Reused connections: was this one, how long had it been idle, and did it die of that?

use super::Attempt;
use crate::{
    diagnose::word::{self, Said},
    model::event::{Connection, Request, Subject, TcpState},
};

/// A FIN or RST that comes this soon after the request was written answers its first bytes: the peer had closed
/// already, or closes what it had given up. An application that dies of a request needs longer, or is not told apart.
const ANSWER_US: u64 = 100_000;
/// An upstream that has taken more of a request than this was at work on it: no connection that it had given up.
const FIRST_BYTES: u64 = 16 * 1024;
/// A connection that idled for less was in use; its death is not staleness.
const IDLE_US: u64 = 10_000;

/// Did the connection come from nginx's keepalive cache?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    Fresh,
    /// `idle_us`: from the last payload received to the request; None where jiffies do not tell.
    Reused {
        idle_us: Option<u64>,
    },
    Unknown,
}

/// nginx's own flag first, where its layout could be checked; else the counters.
pub fn reuse(attempt: &Attempt<'_>) -> Reuse {
    let cached = match &attempt.complaint.subject {
        Subject::Http(request) => request.cached,
        _ => None,
    };
    let idle_us = attempt.connection.and_then(|connection| idle_us(connection, attempt));
    match (cached, attempt.connection) {
        (Some(true), _) => Reuse::Reused { idle_us },
        (Some(false), _) => Reuse::Fresh,
        (None, Some(connection)) if received(connection) == 0 && !connection.preexisting => Reuse::Fresh,
        (None, Some(connection)) if idle_us.is_some_and(|idle| idle >= IDLE_US) && received(connection) > 0 => {
            Reuse::Reused { idle_us }
        }
        _ => Reuse::Unknown,
    }
}

/// Response bytes of all requests on the connection by its end.
fn received(connection: &Connection) -> u64 {
    connection.ended.map_or(connection.now.bytes_received, |ended| ended.bytes_received)
}

/// Time between the last payload received and the request; None when nothing was received, or it came after the request.
fn idle_us(connection: &Connection, attempt: &Attempt<'_>) -> Option<u64> {
    let (sent, got) = (connection.now.since_sent_jiffies, connection.now.since_received_jiffies);
    if received(connection) == 0 {
        return None;
    }
    if connection.now.bytes_sent > 0 && sent < got {
        return Some(u64::from(got - sent) * attempt.jiffy_us);
    }
    if matches!(word::said(attempt.complaint), Some(Said::ConnectFailed | Said::SendFailed)) {
        // The request was not written at all: idle until now.
        return Some(u64::from(got) * attempt.jiffy_us);
    }
    // Within one jiffy: it was not idle.
    (sent == got).then_some(0)
}

/// Bytes of this request that the other end's kernel has acknowledged. With TLS a little less: the kernel counts its records.
pub(super) fn taken(attempt: &Attempt<'_>, connection: &Connection) -> u64 {
    let Subject::Http(request) = &attempt.complaint.subject else { return 0 };
    let before = connection.now.bytes_sent.saturating_sub(request.sent);
    connection.now.bytes_acked.saturating_sub(before)
}

/// nginx wrote to a connection whose end had come.
fn written_after_end(connection: &Connection) -> bool {
    connection.ended.as_ref().is_some_and(|ended| ended.bytes_sent < connection.now.bytes_sent)
}

/// The request was there when the other end's application ended the connection, which may have read it, and died of it. A FIN acknowledges
/// what came before it; a RST does not take that along (tcp_validate_incoming(), net/ipv4/tcp_input.c), but whose close sent it may
/// be known.
pub(super) fn was_there(attempt: &Attempt<'_>, connection: &Connection) -> bool {
    let closed = || connection.reset.as_ref()?.sender.as_ref()?.process.as_ref();
    taken(attempt, connection) > 0 || (closed().is_some() && !written_after_end(connection))
}

/// The reused connection died of having been idle: zero response bytes, and its end was there before the request or
/// answers its first bytes. Asked only after the request was written.
pub(super) fn stale(attempt: &Attempt<'_>) -> bool {
    let (Reuse::Reused { idle_us }, Some(connection)) = (reuse(attempt), attempt.connection) else { return false };
    if taken(attempt, connection) > FIRST_BYTES {
        return false;
    }
    let Some(ended) = connection.ended else {
        // Its end was not seen (it is older than the tracing, or the kernel skipped a program), but nothing came back since
        // the request.
        let now = &connection.now;
        let answered_us = u64::from(now.since_sent_jiffies) * attempt.jiffy_us;
        return now.state != TcpState::Established
            && now.since_sent_jiffies < now.since_received_jiffies
            && answered_us <= ANSWER_US
            && idle_us.is_some_and(|idle| idle >= IDLE_US);
    };
    let answered_us = u64::from(ended.since_sent_jiffies) * attempt.jiffy_us;
    // The request met the FIN, and the RST answered it: it was not written long before the FIN.
    let reset_after_fin = ended.error != 0
        && connection
            .fin_ns
            .is_some_and(|fin| fin < ended.time_ns && answered_us <= (ended.time_ns - fin) / 1000 + attempt.jiffy_us);
    if written_after_end(connection) || reset_after_fin {
        return true;
    }
    // The request was written first: whatever came after it is a response to it. Of TLS's notice of an orderly end nginx reads
    // nothing, and nobody gives one who dies of a request; how long it was idle before is not known then.
    let bytes_came = ended.since_received_jiffies < ended.since_sent_jiffies;
    let response_bytes = match &attempt.complaint.subject {
        Subject::Http(Request { received: Some(bytes), .. }) => *bytes > 0,
        _ => bytes_came,
    };
    let was_idle = bytes_came || idle_us.is_some_and(|idle| idle >= IDLE_US);
    !response_bytes && answered_us <= ANSWER_US && was_idle
}
