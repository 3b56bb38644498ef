//! Unix sockets and refused calls from the wire.

use tracer_common::{
    event::refused::{self, Refused},
    unix::{self, UnixSocket},
};

use super::{address::from_wire, host::actor};
use crate::model::{
    address::Address,
    unix::{Call, Closing, OtherEnd, Refusal, UnixConnection},
};

/// RCV_SHUTDOWN, include/net/sock.h.
const RCV_SHUTDOWN: u32 = 1;
const AF_UNIX: u16 = 1;
/// nginx reads the end of a connection that it waits for within this time, unless it is very busy.
pub const NOTICED_NS: u64 = 1_000_000_000;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// The hooks are those that saw the connect, and the close of the other end.
///
/// `sees_all`: it is seen whenever the last that has it closes it. Otherwise a child that exits may only have inherited it: then
/// nginx goes on, which would else notice at once.
pub(super) fn connection(
    wire: &UnixSocket,
    connected: &'static str,
    closed_by: &'static str,
    (time_ns, sees_all): (u64, bool),
) -> UnixConnection {
    let has = |flag: u32| wire.flags & flag != 0;
    let closed = &wire.closed;
    let fits = sees_all || time_ns.saturating_sub(closed.by.time_ns) < NOTICED_NS;
    let closing = (closed.by.time_ns != 0 && has(unix::PEER_CLOSED) && fits).then(|| Closing {
        time_ns: closed.by.time_ns,
        source: closed_by,
        by: actor(closed.by.tgid, closed.by.comm, closed.by.parent, closed.by.flags, closed.by.exit_code),
        unread: closed.unread,
        embryo: closed.embryo != 0,
    });
    UnixConnection {
        sk: wire.sk,
        connected: has(unix::CONNECT_SEEN).then_some((wire.started_ns, connected)),
        worker: wire.tgid,
        netns: wire.netns,
        remote: address(&wire.path, wire.path_length),
        other_end: has(unix::CONNECTED).then(|| OtherEnd {
            closed: has(unix::PEER_CLOSED),
            listener: (wire.listener_tgid != 0).then_some(wire.listener_tgid),
            accepted: has(unix::ACCEPTED),
            inode: (wire.peer_inode != 0).then_some(wire.peer_inode),
            unread: wire.peer_unread,
            closing,
        }),
        error: wire.error.cast_signed(),
        ended: wire.shutdown & RCV_SHUTDOWN != 0,
        unread: wire.unread,
    }
}

pub(super) fn refusal(worker: u32, wire: &Refused) -> Refusal {
    Refusal {
        call: match wire.call {
            refused::SOCKET => Call::Socket,
            refused::BIND => Call::Bind,
            _ => Call::Connect,
        },
        worker,
        errno: wire.errno.cast_signed(),
        sk: (wire.sk != 0).then_some(wire.sk),
        netns: (wire.netns != 0).then_some(wire.netns),
        remote: match wire.family {
            AF_UNIX => address(&wire.path, wire.path_length),
            AF_INET | AF_INET6 => Some(from_wire(wire.address, wire.port)),
            _ => None,
        },
    }
}

/// `sun_path`: a path, or a name after a NUL. None: the other end has no name.
fn address(path: &[u8], length: u32) -> Option<Address> {
    let path = path.get(..length as usize).unwrap_or(path);
    let text = match path {
        [] => return None,
        // Every byte of an abstract name counts, NULs too.
        [0, name @ ..] => format!("@{}", String::from_utf8_lossy(name)),
        _ => String::from_utf8_lossy(path.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned(),
    };
    Some(Address::Unix(text))
}

#[cfg(test)]
mod tests {
    use super::address;

    #[test]
    fn names_of_unix_sockets() {
        let text = |path: &[u8]| address(path, path.len() as u32).map(|address| address.to_string());
        assert_eq!(text(b"/run/a.sock\0").as_deref(), Some("unix:/run/a.sock"));
        assert_eq!(text(b"\0name").as_deref(), Some("unix:@name"));
        assert_eq!(text(b""), None);
        assert_eq!(address(b"/run", u32::MAX).expect("a path").to_string(), "unix:/run");
    }
}
