//! Events as values: what the engine understands, free of the wire's encoding.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use super::{
    address::Address,
    configured::Configured,
    unix::{Refusal, UnixConnection},
    verdict::QueueFull,
};

/// Names a connection for good: the address of its `struct sock` and when it was connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    pub sk: u64,
    pub started_ns: u64,
}

/// Where and when an event happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub time_ns: u64,
    /// Process (host pid namespace).
    pub pid: u32,
    /// Position among the events of this process; 0: not counted.
    pub sequence: u64,
    /// The hook that saw it, as in `evidence.source`.
    pub source: &'static str,
}

/// TCP states that the rules tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpState {
    Established,
    SynSent,
    Close,
    CloseWait,
    Other(u8),
}

/// How a connection ended while the worker still had it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub time_ns: u64,
    /// State before.
    pub state: TcpState,
    /// sk_err; 0: a FIN.
    pub error: i32,
    /// Payload by then, without FIN and retransmits.
    pub bytes_sent: u64,
    pub bytes_received: u64,
    /// Age of the last payload in each direction, in jiffies.
    pub since_sent_jiffies: u32,
    pub since_received_jiffies: u32,
}

/// The RST that the peer sent, as far as this host knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// State in which it arrived.
    pub state: TcpState,
    /// Sent by this host too.
    pub sender: Option<ResetSender>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetSender {
    /// The kernel's reason, by name; None where it gives none.
    pub reason: Option<String>,
    /// The process whose close sent it: pid and comm.
    pub process: Option<(u32, String)>,
}

/// What is known of a TCP connection at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    pub id: ConnectionId,
    /// It existed before the tracing began.
    pub preexisting: bool,
    pub established_ns: Option<u64>,
    pub ended: Option<Ended>,
    pub fin_ns: Option<u64>,
    pub reset: Option<Reset>,
    /// Our side answered with a RST.
    pub reset_sent: bool,
    pub retransmits: u32,
    /// Why they were needed, where the listener is on this host.
    pub queue_full: Option<QueueFull>,
    pub last_retransmit_ns: Option<u64>,
    /// As far as counters tell, it ended with a request outstanding.
    pub outstanding: bool,
    /// Its descriptor was closed by another process than its owner.
    pub closed_by_other: bool,
    pub worker: u32,
    pub netns: u32,
    /// None where the kernel had not chosen a port yet.
    pub local: Option<Address>,
    pub remote: Address,
    pub now: Now,
}

impl Connection {
    /// The peer's FIN arrived: seen as it came, or by the state that it left.
    pub fn fin_seen(&self) -> bool {
        self.fin_ns.is_some() || self.now.state == TcpState::CloseWait
    }
}

/// The socket itself at the moment of the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub state: TcpState,
    pub error: i32,
    pub soft_error: i32,
    pub bytes_sent: u64,
    /// Payload, without the FIN.
    pub bytes_received: u64,
    /// Payload sent that the other end's kernel has acknowledged.
    pub bytes_acked: u64,
    /// Received and not read by the worker (a FIN counts one).
    pub unread: u32,
    pub since_sent_jiffies: u32,
    pub since_received_jiffies: u32,
    /// The other end's kernel has acknowledged all that was sent; None: not shown.
    pub all_acknowledged: Option<bool>,
    /// The shortest round trip of late; None: not shown.
    pub min_rtt_us: Option<u32>,
}

/// nginx's request as read from its memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Address of the `ngx_http_request_t`.
    pub request: u64,
    /// Address of the main request's.
    pub main: u64,
    /// nginx's number of the client connection.
    pub connection: u64,
    /// The request has, or had, to do with an upstream.
    pub has_upstream: bool,
    /// Attempts so far; None where it could not be read.
    pub attempts: Option<u32>,
    /// A response header of the last attempt was accepted; None where it could not be read.
    pub header_accepted: Option<bool>,
    /// Status that the upstream gave in the last attempt.
    pub upstream_status: Option<u16>,
    /// Bytes that nginx has read of the response to the last attempt; None where it could not be read.
    pub received: Option<u64>,
    /// nginx's log level (4: error); complaints above it are invisible.
    pub log_level: u32,
    /// nginx took the connection from its keepalive cache; None where it could not be read.
    pub cached: Option<bool>,
    /// Name of the peer, or of the upstream.
    pub peer: Option<String>,
    pub client: Option<String>,
    /// When the main request began, ms since 1970 by nginx's clock; None where it could not be found.
    pub start_ms: Option<u64>,
    /// The main request's request line.
    pub line: Option<String>,
    /// Where to find the start time in the main request.
    pub start_offset: u32,
    /// The main request's Host header.
    pub host: Option<String>,
    /// nginx's cache has to do with it: instead of an error the client may get a stale response.
    pub cacheable: bool,
    /// `r->srv_conf` and `r->loc_conf`: they name the `server` and the `location` within its worker.
    pub server_conf: u64,
    pub location_conf: u64,
    /// `r->uri.data` of the main request; 0: not found.
    pub uri: u64,
    /// Complaints about it that were only counted.
    pub counted: u32,
    /// It had an error page before, which was counted.
    pub answered: bool,
    /// What the worker is configured to do with it, once looked up.
    pub configured: Option<Arc<Configured>>,
    /// Bytes of it that nginx wrote on the upstream connection.
    pub sent: u64,
    /// The two words behind `number` in the client's connection.
    pub behind_number: [u64; 2],
    /// Which of them is `requests`, which tells the requests of a connection apart; None: not known (yet).
    pub requests_word: Option<usize>,
}

impl Request {
    /// The request as its worker's memory named it, for looking there again; None where nothing tells it from the next one
    /// at the same address.
    pub fn place(&self, worker: u32) -> Option<RequestPlace> {
        Some(RequestPlace {
            worker,
            request: self.request,
            main: self.main,
            start_ms: self.start_ms?,
            start_offset: self.start_offset,
            location_conf: self.location_conf,
            connection: self.connection,
            requests: self.requests_word.zip(self.requests()),
            line: self.line.as_deref().map(line_hash),
        })
    }

    /// Requests of the client connection so far, this one included; None: not known.
    pub fn requests(&self) -> Option<u64> {
        self.behind_number.get(self.requests_word?).copied().filter(|requests| *requests != 0)
    }
}

/// A number for a request line, as far as events have it.
pub fn line_hash(line: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish()
}

/// Where a request is in its worker's memory, and when it began: nginx reuses addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestPlace {
    pub worker: u32,
    /// Addresses of the (sub)request and of its main request.
    pub request: u64,
    pub main: u64,
    /// When the main request began, and where that stands in it.
    pub start_ms: u64,
    pub start_offset: u32,
    /// `r->loc_conf` at the event.
    pub location_conf: u64,
    /// nginx's number of the client connection.
    pub connection: u64,
    /// `connection->requests`, and which word behind the number it is.
    pub requests: Option<(usize, u64)>,
    /// Of the request line.
    pub line: Option<u64>,
}

/// A request looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestNow {
    /// It is still there, or has ended and nothing has taken its place.
    There {
        /// Attempts of the (sub)request by now.
        attempts: Option<u32>,
        /// Status of the main request's response header; 0: not sent yet; None: not found.
        status: Option<u16>,
        /// The main request has been freed.
        ended: bool,
        /// `r->loc_conf` and `r->uri.data` of the main request; 0: not to be believed.
        location_conf: u64,
        uri: u64,
    },
    /// Another request has its place: it has ended.
    Gone,
    /// The worker's memory cannot be read.
    Unreadable,
}

/// Whose log the complaint went to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are HTTP's")]
pub enum Subject {
    Http(Request),
    /// stream, mail, resolver, logging …: not about an HTTP request.
    Other,
}

/// The socket that a complaint is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bound {
    Tcp(Connection),
    Unix(UnixConnection),
    /// There was none, or it could not be told.
    None,
}

/// What two complaints must have in common for the kernel programs to take them for the same again: addresses in a worker's
/// memory, and a number for the peer's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    pub worker: u32,
    pub errno: i32,
    pub literal: u64,
    pub action: u64,
    pub location: u64,
    pub peer: u64,
}

/// nginx logged an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    pub subject: Subject,
    pub bound: Bound,
    /// NGX_LOG_*: 4 is error.
    pub level: u32,
    pub errno: i32,
    /// The second argument: the resolver's code, where the literal has one.
    pub number: u64,
    pub literal: String,
    /// The first argument, where the literal has one: OpenSSL's text, a name, a number.
    pub text: String,
    /// What nginx was doing (`log->action`).
    pub action: String,
    /// None: there is no telling whether another is the same.
    pub kind: Option<Kind>,
}

/// nginx makes an error page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub request: Request,
    pub status: u16,
}

/// Whether nginx had read all of a response when it closed the upstream connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseRead {
    Complete,
    Cut,
    Unknown,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "events are rare and short-lived")]
pub enum Happening {
    /// A worker closed a connection that was not plainly healthy.
    Closed {
        connection: Connection,
        response: ResponseRead,
    },
    /// A call of a worker failed at once.
    Refused(Refusal),
    /// A worker closed a unix connection that the other end had left in a way that is not plainly healthy.
    UnixClosed(UnixConnection),
    /// The request connects to the next peer.
    Retry {
        request: u64,
    },
    Complaint(Complaint),
    Status(Status),
    Appeared {
        pid: u32,
        comm: String,
    },
    Gone {
        pid: u32,
        comm: String,
    },
}

impl Happening {
    /// nginx's request that it is about.
    pub fn request_mut(&mut self) -> Option<&mut Request> {
        match self {
            Self::Complaint(Complaint { subject: Subject::Http(request), .. })
            | Self::Status(Status { request, .. }) => Some(request),
            _ => None,
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub moment: Moment,
    pub happening: Happening,
}
