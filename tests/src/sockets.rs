//! The kernel's table of TCP sockets: conditions to wait for that no program announces.

use std::fs;

/// States as /proc/net/tcp numbers them.
pub const ESTABLISHED: u8 = 1;
/// Waiting for an answer to a SYN.
pub const SYN_SENT: u8 = 2;
/// Answered with a SYN and ACK, waiting for the last segment of the handshake.
const SYN_RECV: u8 = 3;
/// Closed by the other side, not yet by this one.
pub const CLOSE_WAIT: u8 = 8;
const LISTEN: u8 = 10;

/// A TCP socket.
#[derive(Clone, Copy, Debug)]
pub struct Socket {
    /// Its own port.
    pub local: u16,
    /// The other side's port.
    pub remote: u16,
    /// Its state.
    pub state: u8,
    /// Bytes that the other side has not acknowledged.
    pub unacknowledged: u32,
    /// Bytes that nobody has read.
    pub unread: u32,
}

/// All IPv4 sockets of the calling thread's network namespace.
pub fn all() -> Vec<Socket> {
    let table = fs::read_to_string("/proc/thread-self/net/tcp").unwrap_or_default();
    table.lines().skip(1).filter_map(parse).collect()
}

/// Whether something has arrived at this port of the calling thread's network namespace that nobody has read.
pub fn has_unread(port: u16) -> bool {
    all().iter().any(|socket| socket.local == port && socket.unread > 0)
}

/// Whether anybody listens on this port, on whatever address.
pub fn listens(port: u16) -> bool {
    let six = fs::read_to_string("/proc/thread-self/net/tcp6").unwrap_or_default();
    let six = six.lines().skip(1).filter_map(parse);
    all().into_iter().chain(six).any(|socket| socket.local == port && socket.state == LISTEN)
}

/// How many sockets towards this port are in this state.
pub fn towards(port: u16, state: u8) -> usize {
    all().iter().filter(|socket| socket.remote == port && socket.state == state).count()
}

/// How many connections to a listener on this port wait for the last segment of their handshake.
pub fn half_open(port: u16) -> usize {
    all().iter().filter(|socket| socket.local == port && socket.state == SYN_RECV).count()
}

/// How many connections wait to be accepted from the listener on this port (its bytes to read are they).
pub fn waiting(port: u16) -> u32 {
    all().iter().filter(|socket| socket.local == port && socket.state == LISTEN).map(|socket| socket.unread).sum()
}

/// Whether something was sent to this port over a connection, and is not acknowledged.
pub fn sent_towards(port: u16) -> bool {
    let sent = |socket: &Socket| socket.remote == port && socket.state == ESTABLISHED && socket.unacknowledged > 0;
    all().iter().any(sent)
}

/// How many connections towards this port some process still holds open.
pub fn open_towards(port: u16) -> usize {
    towards(port, ESTABLISHED) + towards(port, CLOSE_WAIT)
}

fn parse(line: &str) -> Option<Socket> {
    let mut fields = line.split_whitespace().skip(1);
    let mut port = || u16::from_str_radix(fields.next()?.rsplit(':').next()?, 16).ok();
    let (local, remote) = (port()?, port()?);
    let state = u8::from_str_radix(fields.next()?, 16).ok()?;
    let (unacknowledged, unread) = fields.next()?.split_once(':')?;
    let bytes = |text| u32::from_str_radix(text, 16).ok();
    Some(Socket { local, remote, state, unacknowledged: bytes(unacknowledged)?, unread: bytes(unread)? })
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_the_kernels_lines() {
        let line = "   1: 0100007F:1F90 0100007F:C350 01 00000007:0000002A 00:00000000 00000000     0        0 5 1 0";
        let socket = super::parse(line).expect("a socket");
        assert_eq!((socket.local, socket.remote, socket.state), (8080, 50000, 1));
        assert_eq!((socket.unacknowledged, socket.unread), (7, 42));
    }
}
