//! Without nginx's word: what the kernel alone allows to say, and what nginx's status adds.

use super::{
    Decision,
    connect::{cause_at_once, cause_of, not_listening},
    response::{reset_by, unix_unread},
};
use crate::{
    diagnose::word::errno,
    model::{
        address::Address,
        cause::Cause,
        event::{Connection, TcpState},
        unix::{Call, Refusal, UnixConnection},
        verdict::{Confidence, Phase},
    },
};

/// Nobody but the kernel said anything. `listening`: nginx's complaints would have been seen, so that its silence counts.
pub fn unspoken(connection: &Connection, listening: bool) -> Option<Decision> {
    if let Some(ended) = connection.ended {
        if ended.error != 0 && ended.state == TcpState::SynSent {
            let mut decision = Decision::likely(cause_of(ended.error, false), Phase::Connect, ended.error);
            decision.root = not_listening(connection, decision.cause);
            return Some(decision);
        }
        if listening || ended.state == TcpState::SynSent || !connection.outstanding {
            return None;
        }
        if ended.bytes_received > 0 {
            // Bytes came at some time: of a former response, a handshake, or this response. Nothing can be claimed.
            return None;
        }
        if ended.bytes_sent == 0 {
            return (ended.error != 0).then(|| never_sent(connection, ended.error));
        }
        return Some(received_nothing(connection, ended.error));
    }
    if listening || connection.closed_by_other {
        return None;
    }
    // nginx gave up with no error in the kernel: its timer, a client that left, or a shutdown.
    let waiting = connection.now.state == TcpState::SynSent
        || (connection.now.bytes_sent > 0 && connection.now.bytes_received == 0);
    let phase = if connection.now.state == TcpState::SynSent { Phase::Connect } else { Phase::Header };
    waiting.then(|| Decision::new(Cause::Unexplained, Confidence::Unknown, phase, 0))
}

/// nginx made an error page right after it closed this connection, and logged nothing (its level is above `error`).
pub fn with_status(connection: &Connection, status: u16) -> Option<Decision> {
    if connection.ended.is_some_and(|ended| ended.error != 0 && ended.state == TcpState::SynSent) {
        return unspoken(connection, false);
    }
    if status == 504 && connection.ended.is_none() {
        let (cause, phase) = if connection.now.state == TcpState::SynSent {
            (Cause::ConnectTimeout, Phase::Connect)
        } else {
            (Cause::ResponseTimeout, Phase::Header)
        };
        return Some(Decision::likely(cause, phase, 0));
    }
    if status == 502
        && let Some(ended) = connection.ended
        && connection.outstanding
    {
        return Some(if ended.bytes_sent == 0 {
            never_sent(connection, ended.error)
        } else {
            received_nothing(connection, ended.error)
        });
    }
    None
}

/// It ended before nginx sent anything.
fn never_sent(connection: &Connection, error: i32) -> Decision {
    let mut decision = Decision::likely(Cause::ConnectReset, Phase::Connect, error);
    decision.root = reset_by(connection);
    decision
}

/// Something was sent, nothing came back, and the connection ended.
fn received_nothing(connection: &Connection, error: i32) -> Decision {
    let mut decision = match error {
        0 => Decision::likely(Cause::ClosedBeforeResponse, Phase::Header, 0),
        errno::ETIMEDOUT | errno::EHOSTUNREACH | errno::ENETUNREACH => {
            Decision::likely(Cause::ResponseTimeoutKernel, Phase::Header, error)
        }
        _ if connection.fin_ns.is_some() => Decision::likely(Cause::ClosedBeforeResponse, Phase::Header, 0),
        _ => Decision::likely(Cause::ResetBeforeResponse, Phase::Header, error),
    };
    decision.root = reset_by(connection);
    decision
}

/// Where the C library asks for users and groups, which nginx does when it starts: nothing there is no failure.
const NAME_SERVICES: [&str; 5] = ["/var/run/nscd/", "/run/nscd/", "/run/systemd/", "/var/lib/sss/", "/var/run/dbus/"];

/// A call failed at once, and nginx says nothing. `heard`: it would have, so that it was about something else. A bind(2) that
/// fails alone may be about a listener.
pub fn refused(refusal: &Refusal, heard: bool) -> Option<Decision> {
    let name_service = matches!(&refusal.remote, Some(Address::Unix(path))
        if NAME_SERVICES.iter().any(|directory| path.starts_with(directory)));
    (!heard && refusal.call != Call::Bind && !name_service).then(|| of_refusal(refusal))
}

/// The same, and nginx made an error page right after it.
pub fn refused_with_status(refusal: &Refusal, status: u16) -> Option<Decision> {
    // ngx_event_connect_peer() = NGX_ERROR where there is no socket to connect: src/event/ngx_event_connect.c.
    let expected = if refusal.call == Call::Connect { 502 } else { 500 };
    (status == expected).then(|| of_refusal(refusal))
}

fn of_refusal(refusal: &Refusal) -> Decision {
    let cause = match (refusal.call, refusal.errno) {
        (Call::Socket, errno::EMFILE | errno::ENFILE) => Cause::FdsExhausted,
        (Call::Socket, _) => Cause::ConnectFailed,
        (Call::Bind, _) => Cause::BindFailed,
        (Call::Connect, number) => cause_at_once(number, refusal.is_unix()),
    };
    Decision::likely(cause, Phase::Connect, refusal.errno)
}

/// The other end of a unix socket went away without reading all that was sent, or died, and nginx made a 502 right after it.
/// Without that nothing can be said: bytes are not counted on unix sockets, and the answer may have been whole.
pub fn unix_with_status(unix: &UnixConnection, status: u16) -> Option<Decision> {
    let closing = unix.closing()?;
    let decision = || {
        if closing.unread > 0 { unread(unix) } else { Decision::likely(Cause::ClosedBeforeResponse, Phase::Header, 0) }
    };
    (status == 502).then(decision)
}

fn unread(unix: &UnixConnection) -> Decision {
    let mut decision = Decision::likely(Cause::ResetBeforeResponse, Phase::Header, errno::ECONNRESET);
    decision.root = unix_unread(unix);
    decision
}
