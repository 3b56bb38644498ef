//! After the connect: sending the request, waiting for the header, reading the body.

use super::{
    Attempt, Decision, Excluded, Reuse, connect,
    keepalive::{reuse, stale, was_there},
};
use crate::{
    diagnose::word::errno,
    model::{
        cause::Cause,
        event::{Connection, TcpState},
        host::Name,
        unix::UnixConnection,
        verdict::{Phase, Root, RootKind},
    },
};

/// nginx's timer in a phase after the connect.
pub(super) fn timed_out(attempt: &Attempt<'_>, phase: Phase) -> Decision {
    let cause = match phase {
        Phase::Connect => Cause::ConnectTimeout,
        Phase::Tls => Cause::TlsTimeout,
        Phase::Send => Cause::SendTimeout,
        Phase::Header => Cause::ResponseTimeout,
        Phase::Body => Cause::ResponseStalled,
    };
    let decision = Decision::proven(cause, phase, 0);
    match attempt.connection {
        None if attempt.unix_connection().is_some_and(UnixConnection::is_over) => {
            decision.but("nginx's timer fired, but the upstream had closed the socket by then", Excluded::No)
        }
        None if attempt.unix_connection().is_some() => decision,
        None => Decision::likely(cause, phase, 0),
        Some(connection) => match connection.ended {
            Some(ended) if ended.error == 0 => {
                decision.but("nginx's timer fired, but the upstream had closed the connection by then", Excluded::No)
            }
            Some(_) => decision.but("nginx's timer fired, but the connection had failed by then", Excluded::No),
            None => decision,
        },
    }
}

/// End of file before the response was complete.
pub(super) fn closed(attempt: &Attempt<'_>, phase: Phase) -> Decision {
    if let Some(decision) = connect::never_made(attempt) {
        return decision;
    }
    if phase == Phase::Body {
        return if attempt.reset_after_handshake() && !fin_first(attempt) {
            Decision::proven(Cause::ResetMidResponse, phase, errno::ECONNRESET).but(TLS_RESET, Excluded::Yes)
        } else {
            with_owner(Decision::proven(Cause::ClosedMidResponse, phase, 0), attempt)
        };
    }
    if phase == Phase::Tls {
        return Decision::proven(Cause::TlsPeerClosed, phase, attempt.complaint.errno);
    }
    if stale(attempt) {
        return stale_keepalive(attempt, phase);
    }
    if attempt.reset_after_handshake() && !fin_first(attempt) {
        return with_owner(
            Decision::proven(Cause::ResetBeforeResponse, phase, errno::ECONNRESET).but(TLS_RESET, Excluded::Yes),
            attempt,
        );
    }
    let decision = Decision::proven(Cause::ClosedBeforeResponse, phase, 0);
    match attempt.connection {
        None if attempt.unix_connection().is_some_and(|unix| !unix.is_over()) => {
            decision.but("nginx read an end of file, but the other end of the socket is open", Excluded::No)
        }
        None if attempt.unwatched() => Decision::likely(Cause::ClosedBeforeResponse, phase, 0),
        // What was received may end a TLS session (close_notify) ahead of the FIN.
        Some(connection) if !connection.fin_seen() && !connection.preexisting && connection.now.bytes_received == 0 => {
            decision.but("nginx read an end of file, but the kernel saw no FIN", Excluded::No)
        }
        _ => decision,
    }
}

const TLS_RESET: &str =
    "nginx says the upstream closed the connection, the kernel received a RST (under TLS nginx cannot tell)";

/// `recv()` or `readv()` with an error.
pub(super) fn receive_failed(attempt: &Attempt<'_>, phase: Phase) -> Decision {
    if let Some(decision) = connect::never_made(attempt) {
        return decision;
    }
    let number = attempt.complaint.errno;
    let by_kernel = matches!(number, errno::ETIMEDOUT | errno::EHOSTUNREACH | errno::ENETUNREACH);
    let decision = match (phase, by_kernel) {
        (Phase::Body, true) => Decision::proven(Cause::ResponseStalled, phase, number),
        (Phase::Body, false) => Decision::proven(Cause::ResetMidResponse, phase, number),
        (_, true) => Decision::proven(Cause::ResponseTimeoutKernel, phase, number),
        (_, false) if stale(attempt) => stale_keepalive(attempt, phase),
        (_, false) => Decision::proven(Cause::ResetBeforeResponse, phase, number),
    };
    let decision = match attempt.connection {
        None if attempt.unix_connection().is_some_and(|unix| !unix.is_over()) => {
            decision.but("nginx read a reset, but the other end of the socket is open", Excluded::No)
        }
        None if attempt.unwatched() => Decision::likely(decision.cause, phase, number),
        Some(connection) if !by_kernel && connection.reset.is_none() && !connection.preexisting => {
            decision.but("nginx read a reset, but the kernel received no RST on this connection", Excluded::No)
        }
        _ => decision,
    };
    with_owner(decision, attempt)
}

/// Writing the request failed.
pub(super) fn send_failed(attempt: &Attempt<'_>) -> Decision {
    if let Some(decision) = connect::never_made(attempt) {
        return decision;
    }
    let number = attempt.complaint.errno;
    let decision = match attempt.connection {
        _ if stale(attempt) => stale_keepalive(attempt, Phase::Send),
        // The first write of a request on a cached unix socket: the other end had been closed before. But a long request may
        // have been written in parts.
        None if number == errno::EPIPE && attempt.is_unix_reused() => {
            Decision::likely(Cause::StaleKeepalive, Phase::Send, number)
        }
        None if attempt.unwatched() => Decision::likely(Cause::SendFailed, Phase::Send, number),
        _ => Decision::proven(Cause::SendFailed, Phase::Send, number),
    };
    with_owner(decision, attempt)
}

/// Proven where the connection's end was seen, and the request was not there before it: who has it may also die of it. Of a
/// connection older than the tracing only its present state is known.
pub(super) fn stale_keepalive(attempt: &Attempt<'_>, phase: Phase) -> Decision {
    let number = attempt.complaint.errno;
    let unsure = |connection: &Connection| connection.ended.is_none() || was_there(attempt, connection);
    let mut decision = if attempt.connection.is_some_and(unsure) {
        Decision::likely(Cause::StaleKeepalive, phase, number)
    } else {
        Decision::proven(Cause::StaleKeepalive, phase, number)
    };
    decision.root = idle_close(attempt);
    decision
}

/// The upstream closes connections that were idle for so long.
pub(super) fn idle_close(attempt: &Attempt<'_>) -> Option<Root> {
    let Reuse::Reused { idle_us: Some(idle_us) } = reuse(attempt) else { return None };
    let idle = if idle_us < 1_000_000 {
        format!("{} ms", idle_us / 1000)
    } else {
        format!("{:.1} s", std::time::Duration::from_micros(idle_us).as_secs_f64())
    };
    let text = if attempt.connection.is_some_and(|connection| was_there(attempt, connection)) {
        format!(
            "the connection had been idle for {idle}, and its upstream ended it when it had the request: it had given the \
             connection up, or closes on this request"
        )
    } else {
        format!("the upstream gave the connection up after it had been idle for {idle}")
    };
    Some(Root { kind: RootKind::PeerIdleClose, text, process: None })
}

/// The FIN came first; a RST after it only answers what nginx wrote then.
fn fin_first(attempt: &Attempt<'_>) -> bool {
    attempt.connection.is_some_and(|connection| {
        connection.fin_ns.is_some() && connection.reset.as_ref().is_some_and(|reset| reset.state == TcpState::CloseWait)
    })
}

/// Names the process whose close reset the connection, where it is on this host.
pub(super) fn with_owner(mut decision: Decision, attempt: &Attempt<'_>) -> Decision {
    let seen = || attempt.connection.and_then(reset_by).or_else(|| unix_unread(attempt.unix_connection()?));
    decision.root = decision.root.or_else(seen);
    decision
}

/// Who closed the other end of a unix socket without reading all that was sent.
pub(super) fn unix_unread(unix: &UnixConnection) -> Option<Root> {
    let closing = unix.closing().filter(|closing| closing.unread > 0 && !closing.embryo)?;
    let Name { pid, comm } = &closing.by.name;
    let text = format!("{comm}[{pid}] closed the connection without reading all of the request");
    Some(Root { kind: RootKind::UnreadData, text, process: Some((*pid, comm.clone())) })
}

/// From the RST seen at its sender.
pub(super) fn reset_by(connection: &Connection) -> Option<Root> {
    let sender = connection.reset.as_ref()?.sender.as_ref()?;
    let (pid, comm) = sender.process.as_ref()?;
    let (kind, text) = if sender.reason.as_deref() == Some("TCP_ABORT_ON_CLOSE") {
        (RootKind::UnreadData, format!("{comm}[{pid}] closed the connection without reading all of the request"))
    } else {
        (RootKind::ApplicationClosed, format!("{comm}[{pid}] on this host reset the connection by closing it"))
    };
    Some(Root { kind, text, process: Some((*pid, comm.clone())) })
}
