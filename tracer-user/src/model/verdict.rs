//! Verdicts: what the engine concludes.

pub use super::root::RootKind;
use std::sync::Arc;

use super::{
    address::Address,
    cause::Cause,
    configured::Configured,
    unix::{Closing, OtherEnd},
};

/// Number of a failure or response within the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VerdictId(pub u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    Unknown,
    Likely,
    Proven,
}

/// What became of the request after this attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    Retried,
    Final,
    Truncated,
    ClientGone,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Http,
    Unknown,
}

/// Which part of the attempt it was in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Connect,
    Tls,
    Send,
    Header,
    Body,
}

/// Worker, nginx's connection number, and which of the connection's requests that had failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey {
    pub worker: u32,
    pub connection: u64,
    pub ordinal: u32,
}

/// One observed fact, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    pub time_ns: u64,
    pub source: &'static str,
    pub text: String,
}

/// The reason behind the cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    pub kind: RootKind,
    pub text: String,
    /// pid and comm.
    pub process: Option<(u32, String)>,
}

/// nginx's own word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub level: u32,
    pub connection: u64,
    /// As nginx writes it, arguments of the literal aside.
    pub message: String,
    pub client: Option<String>,
    /// The request line.
    pub request: Option<String>,
    /// The Host header.
    pub host: Option<String>,
}

/// A queue of the listener that was over its limit when something of this connection had to be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueFull {
    Accept,
    Syn,
}

/// Who sent a RST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetBy {
    /// TCP of this host.
    ThisHost,
    /// Nobody that was seen: another host, a firewall rule, or this host's TCP where the kernel does not tell.
    Unseen,
}

/// The connection's part of a failure; all None when there was no connection to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectionFacts {
    /// When its connect began; None for one that is older than the tracing.
    pub connected_ns: Option<u64>,
    pub queue_full: Option<QueueFull>,
    /// Who sent the RST that it received.
    pub reset: Option<ResetBy>,
    /// Of a unix connection: the close of its other end.
    pub closing: Option<Closing>,
    /// Of a unix connection: its other end.
    pub other_end: Option<OtherEnd>,
    pub local: Option<Address>,
    pub reused: Option<bool>,
    pub preexisting: Option<bool>,
    pub requests: Option<u32>,
    pub idle_us: Option<u64>,
    pub bytes_sent: Option<u64>,
    pub bytes_received: Option<u64>,
    pub syn_retransmits: Option<u32>,
    /// When something was last sent again.
    pub last_retransmit_ns: Option<u64>,
    /// The other end's kernel has acknowledged all that was sent.
    pub all_acknowledged: Option<bool>,
    /// When its handshake was done; None for one that is older than the tracing.
    pub established_ns: Option<u64>,
    /// When the other end's FIN or a RST ended it.
    pub ended_ns: Option<u64>,
    /// The shortest round trip that its kernel knows of.
    pub min_rtt_us: Option<u32>,
}

/// One upstream attempt that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub id: VerdictId,
    /// The terminal kernel event, or nginx's complaint where there was none.
    pub time_ns: u64,
    pub started_ns: Option<u64>,
    pub cause: Cause,
    pub confidence: Confidence,
    pub status: Option<u16>,
    pub outcome: Outcome,
    pub upstream: Option<Address>,
    pub purpose: Purpose,
    pub worker: u32,
    pub netns: Option<u32>,
    pub request_key: Option<RequestKey>,
    pub phase: Phase,
    pub errno: Option<i32>,
    pub connection: ConnectionFacts,
    pub root: Option<Root>,
    pub word: Option<Word>,
    pub evidence: Vec<Evidence>,
    pub disagreement: Option<String>,
    /// What the worker is configured to do with the request; None: not known.
    pub configured: Option<Arc<Configured>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Nginx,
    Upstream,
    Config,
    Cache,
}

/// What nginx's configuration made of an error page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// `error_page`: another page, another status.
    ErrorPage,
    /// `error_page` led to an upstream again.
    Fallback,
    AuthRequest,
}

/// One main request for which nginx decided on 502 or 504 (or 500 because of an upstream failure).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub id: VerdictId,
    pub time_ns: u64,
    /// The code that nginx first generated.
    pub status: u16,
    /// What the client got; None: not observed.
    pub client_status: Option<u16>,
    pub origin: Origin,
    pub handled_by: Option<Handler>,
    pub cause: Cause,
    pub failures: Vec<VerdictId>,
    /// Failed attempts of this request before those, which were only counted.
    pub counted: u32,
    pub related: Vec<VerdictId>,
    /// When each peer of those failed last, latest first.
    pub last_failed: Vec<(Address, u64)>,
    pub request_key: RequestKey,
    pub worker: u32,
    pub client: Option<String>,
    /// The request line.
    pub request: Option<String>,
    /// nginx's name of the peer, or of the upstream where none was chosen.
    pub upstream: Option<String>,
    pub message: Option<String>,
    /// The Host header.
    pub host: Option<String>,
    pub configured: Option<Arc<Configured>>,
}

impl Response {
    /// Its last failed attempt decided it, not what came after that.
    pub fn is_of_last_failure(&self) -> bool {
        !self.failures.is_empty() && self.origin == Origin::Nginx && self.cause.is_of_attempt()
    }
}

/// A fact learnt after a failure was emitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    pub failure: VerdictId,
    pub time_ns: u64,
    pub outcome: Outcome,
}

/// What the engine says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "verdicts are rare and short-lived")]
pub enum Verdict {
    Failure(Failure),
    Response(Response),
    Update(Update),
}
