//! Unix stream sockets of workers, and calls that failed at once.

use super::{address::Address, host::Actor};

/// What is known of a connected unix socket, or of one that was to be, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixConnection {
    /// Address of the `struct sock`.
    pub sk: u64,
    /// When, and the hook that saw it; None: it is older than the tracing, or no hook sees connects.
    pub connected: Option<(u64, &'static str)>,
    pub worker: u32,
    pub netns: u32,
    /// The listener's address, as it was bound.
    pub remote: Option<Address>,
    /// None: not connected.
    pub other_end: Option<OtherEnd>,
    /// sk_err.
    pub error: i32,
    /// The other end sends no more: end of file, once all is read.
    pub ended: bool,
    /// Messages that the worker has not read.
    pub unread: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherEnd {
    pub closed: bool,
    /// The process that called listen(2) there.
    pub listener: Option<u32>,
    /// accept(2) had taken it; says nothing once it is closed.
    pub accepted: bool,
    /// Number of its inode, where it is open and accepted.
    pub inode: Option<u64>,
    /// Messages of the worker that it has not read.
    pub unread: u32,
    /// None: not closed, or nobody saw it.
    pub closing: Option<Closing>,
}

/// The close of the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    pub time_ns: u64,
    /// The hook that saw it.
    pub source: &'static str,
    pub by: Actor,
    /// Messages that it left unread: what remains of the connection is reset.
    pub unread: u32,
    /// It had not been accepted: the listener was closed.
    pub embryo: bool,
}

impl UnixConnection {
    /// How the other end was closed, where that was seen.
    pub fn closing(&self) -> Option<&Closing> {
        self.other_end.as_ref()?.closing.as_ref()
    }

    pub fn connected_ns(&self) -> Option<u64> {
        self.connected.map(|(time_ns, _)| time_ns)
    }

    /// The other end is closed, or sends no more.
    pub fn is_over(&self) -> bool {
        self.ended || self.other_end.as_ref().is_some_and(|other| other.closed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Socket,
    Bind,
    Connect,
}

impl Call {
    /// As its manual page is named.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Socket => "socket(2)",
            Self::Bind => "bind(2)",
            Self::Connect => "connect(2)",
        }
    }
}

/// A call that failed at once, on a stream socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub call: Call,
    pub worker: u32,
    pub errno: i32,
    /// Address of the `struct sock`; None: there is none.
    pub sk: Option<u64>,
    pub netns: Option<u32>,
    /// The address given.
    pub remote: Option<Address>,
}

impl Refusal {
    pub const fn is_unix(&self) -> bool {
        matches!(self.remote, Some(Address::Unix(_)))
    }
}
