//! Before the first byte: refused, unreachable, timed out, reset, denied.

use super::{
    Attempt, Decision, Excluded,
    keepalive::{Reuse, reuse},
    response::{idle_close, with_owner},
};
use crate::{
    diagnose::{evidence::errno_name, word::errno},
    model::{
        cause::Cause,
        event::{Connection, TcpState},
        verdict::{Phase, Root, RootKind},
    },
};

/// `connect() failed`: SO_ERROR before the first write (ngx_http_upstream_test_connect()).
pub(super) fn failed(attempt: &Attempt<'_>) -> Decision {
    let number = attempt.complaint.errno;
    if let Some(connection) = attempt.connection
        && connected_before(connection)
    {
        return failed_after_connect(attempt);
    }
    let cause = cause_of(number, attempt.unix());
    let mut decision = Decision::proven(cause, Phase::Connect, number);
    match attempt.connection {
        None if attempt.unix() => {}
        None => decision = Decision::likely(cause, Phase::Connect, number),
        Some(connection) => {
            decision.root = not_listening(connection, cause);
            if let Some(ended) = connection.ended
                && ended.error != 0
                && ended.error != number
            {
                decision = decision.but(
                    format!(
                        "nginx says {}, the kernel ended the connect with {}",
                        errno_name(number),
                        errno_name(ended.error)
                    ),
                    Excluded::No,
                );
            }
        }
    }
    decision
}

/// The connection was made (or was cached) before nginx asked for its error.
fn failed_after_connect(attempt: &Attempt<'_>) -> Decision {
    let number = attempt.complaint.errno;
    match reuse(attempt) {
        Reuse::Reused { .. } => {
            let mut decision = Decision::proven(Cause::StaleKeepalive, Phase::Send, number).but(
                "nginx says connect() failed, but made no connect in this attempt: the connection came from its keepalive cache",
                Excluded::Yes,
            );
            decision.root = idle_close(attempt);
            decision
        }
        Reuse::Unknown => Decision::likely(Cause::StaleKeepalive, Phase::Send, number).but(
            "nginx says connect() failed; the connection is older than the tracing, so it came from the keepalive cache",
            Excluded::No,
        ),
        Reuse::Fresh => match number {
            errno::ETIMEDOUT => Decision::proven(Cause::ResponseTimeoutKernel, Phase::Connect, number),
            _ => with_owner(Decision::proven(Cause::ConnectReset, Phase::Connect, number), attempt),
        },
    }
}

/// `connect() to … failed`: connect(2) itself.
pub(super) fn failed_at_once(attempt: &Attempt<'_>) -> Decision {
    let number = attempt.complaint.errno;
    // connect(2) told nginx its result itself: nobody is a better witness.
    Decision::proven(cause_at_once(number, attempt.unix()), Phase::Connect, number)
}

/// Cause of what connect(2) returns.
pub(super) const fn cause_at_once(number: i32, unix: bool) -> Cause {
    match (number, unix) {
        (errno::ENOENT, true) => Cause::SocketMissing,
        (errno::EACCES, true) => Cause::SocketDenied,
        (errno::ECONNREFUSED, true) => Cause::SocketRefused,
        (errno::EAGAIN, true) => Cause::SocketBacklogFull,
        (errno::EACCES | errno::EPERM, _) => Cause::ConnectDenied,
        (errno::EADDRNOTAVAIL | errno::EAGAIN, false) => Cause::PortsExhausted,
        (errno::ECONNREFUSED, false) => Cause::ConnectRefused,
        (errno::ECONNRESET, _) => Cause::ConnectReset,
        (errno::ENETUNREACH | errno::EHOSTUNREACH | errno::ENETDOWN | errno::EHOSTDOWN, _) => Cause::ConnectUnreachable,
        _ => Cause::ConnectFailed,
    }
}

/// nginx's timer: the kernel has no error.
pub(super) fn timed_out(attempt: &Attempt<'_>) -> Decision {
    let decision = Decision::proven(Cause::ConnectTimeout, Phase::Connect, 0);
    match attempt.connection {
        None => Decision::likely(Cause::ConnectTimeout, Phase::Connect, 0),
        Some(connection) if connection.established_ns.is_some() => {
            decision.but("nginx timed out connecting, but the kernel completed the handshake", Excluded::No)
        }
        Some(connection) if connection.ended.is_some_and(|ended| ended.error != 0) => {
            decision.but("nginx's timer fired, but the kernel had ended the connect with an error", Excluded::No)
        }
        Some(_) => decision,
    }
}

/// The kernel never completed the handshake, whatever nginx says it was doing: it met the error of the connect in a later
/// call (seen with EHOSTUNREACH: `recv() failed (113`).
pub(super) fn never_made(attempt: &Attempt<'_>) -> Option<Decision> {
    let connection = attempt.connection?;
    let ended = connection.ended.filter(|ended| ended.state == TcpState::SynSent && ended.error != 0)?;
    if connected_before(connection) || connection.preexisting {
        return None;
    }
    let cause = cause_of(ended.error, false);
    let mut decision = Decision::proven(cause, Phase::Connect, ended.error)
        .but("nginx met the error only later; the kernel never completed the connect", Excluded::Yes);
    decision.root = not_listening(connection, cause);
    Some(decision)
}

fn connected_before(connection: &Connection) -> bool {
    connection.established_ns.is_some()
        || connection.now.bytes_sent > 0
        || connection.now.bytes_received > 0
        || connection.ended.is_some_and(|ended| ended.state != TcpState::SynSent)
        || connection.reset.as_ref().is_some_and(|reset| reset.state != TcpState::SynSent)
}

/// Cause of an asynchronous error of connect.
pub(super) const fn cause_of(number: i32, unix: bool) -> Cause {
    match (number, unix) {
        (errno::ECONNREFUSED, true) => Cause::SocketRefused,
        (errno::ECONNREFUSED, false) => Cause::ConnectRefused,
        (errno::ETIMEDOUT, _) => Cause::ConnectTimeoutKernel,
        (errno::ECONNRESET | errno::EPIPE, _) => Cause::ConnectReset,
        (
            errno::EHOSTUNREACH
            | errno::ENETUNREACH
            | errno::EHOSTDOWN
            | errno::ENETDOWN
            | errno::EACCES
            | errno::EPROTO
            | errno::ENOPROTOOPT,
            _,
        ) => Cause::ConnectUnreachable,
        _ => Cause::ConnectFailed,
    }
}

/// The kernel of this host answered the SYN itself because no socket was there for it.
pub(super) fn not_listening(connection: &Connection, cause: Cause) -> Option<Root> {
    let sender = connection.reset.as_ref()?.sender.as_ref()?;
    let no_socket = sender.process.is_none() && sender.reason.as_deref() == Some("NO_SOCKET");
    (cause == Cause::ConnectRefused && no_socket).then(|| Root {
        kind: RootKind::NotListening,
        text: format!("nothing listens on {}: this host's kernel found no socket for it", connection.remote),
        process: None,
    })
}
