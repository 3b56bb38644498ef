//! `failure`: one upstream attempt that failed. `update`: a fact about one, learnt later.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::nginx::NginxWord;
use super::root::Root;
use crate::model::cause::Cause;

/// One upstream attempt that failed. Exactly one per failed attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Unique within the session, rising.
    pub id: u64,
    /// The terminal kernel event, or nginx's message where the kernel saw none.
    pub time: Timestamp,
    /// The connect, or the first write of this request on a reused connection.
    pub started: Option<Timestamp>,
    pub cause: Cause,
    pub confidence: Confidence,
    /// What nginx answers for this cause when it does not retry.
    pub status: Option<u16>,
    pub outcome: Outcome,
    pub upstream: Option<Upstream>,
    pub purpose: Purpose,
    pub worker: Worker,
    pub request_key: Option<String>,
    pub phase: Option<Phase>,
    /// The errno's name, as `ECONNREFUSED`.
    pub errno: Option<Cow<'static, str>>,
    /// From `started` to `time`.
    pub elapsed_us: Option<u64>,
    pub connection: Option<Connection>,
    pub root: Option<Root>,
    pub nginx: Option<NginxWord>,
    pub evidence: Vec<Evidence>,
    /// What each witness said, where they differ.
    pub disagreement: Option<String>,
    /// What to do about it.
    pub hint: Option<Cow<'static, str>>,
    /// Directives of nginx's configuration that have to do with it, as far as they are known for certain.
    #[serde(default)]
    pub configuration: Vec<Setting>,
}

/// A directive of nginx's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    pub directive: String,
    /// As written; the default where no file has it; null where the files do not tell.
    pub value: Option<String>,
    /// As nginx names it, in its own mount namespace; null for a default.
    pub file: Option<String>,
    /// From 1.
    pub line: Option<u32>,
    /// What the worker's memory has; null where it was not read.
    pub in_force: Option<String>,
}

/// How well a verdict is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// The witness competent for this cause saw it directly, and none contradicts it.
    Proven,
    Likely,
    Unknown,
}

/// What became of the request after this attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Another attempt of the same request followed.
    Retried,
    /// It decided the status of the request.
    Final,
    /// The response had begun: the client has its status and a cut body.
    Truncated,
    ClientGone,
    Unknown,
}

impl Outcome {
    pub const fn id(self) -> &'static str {
        match self {
            Self::Retried => "retried",
            Self::Final => "final",
            Self::Truncated => "truncated",
            Self::ClientGone => "client_gone",
            Self::Unknown => "unknown",
        }
    }
}

/// What the connection was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    Http,
    /// Stream, mail, resolver, OCSP, logging: counted, not emitted.
    Other,
    /// No word from nginx.
    Unknown,
}

/// The other end of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Upstream {
    /// `1.2.3.4:80`, `[::1]:80`, `unix:/path`, `unix:@abstract`; the name of an `upstream` block where no server of it
    /// was chosen.
    pub address: String,
    /// Null where no server was chosen.
    pub transport: Option<Transport>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    Tcp,
    Unix,
}

/// The nginx process whose attempt it was. Pids are of the host's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Worker {
    pub pid: u32,
    pub comm: String,
    /// Inode of its network namespace.
    pub netns: Option<u64>,
    pub cgroup: Option<String>,
}

/// How far an attempt had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Connect,
    Tls,
    Send,
    Header,
    Body,
}

/// The connection as the kernel counted it. Bytes are payload, without SYN, FIN and retransmits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    pub local: Option<String>,
    /// Taken from nginx's keepalive pool.
    pub reused: Option<bool>,
    /// Open before tracing began.
    pub preexisting: Option<bool>,
    /// How many requests it has carried, this one included.
    pub requests: Option<u64>,
    /// How long it lay idle before this request.
    pub idle_us: Option<u64>,
    pub bytes_sent: Option<u64>,
    pub bytes_received: Option<u64>,
    pub syn_retransmits: Option<u32>,
}

/// One observed fact that the verdict rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// From `started`; negative for what came before.
    pub at_us: i64,
    /// The hook or file that saw it.
    pub source: Cow<'static, str>,
    pub text: Cow<'static, str>,
}

/// Facts learnt after a failure was emitted; only the fields that changed are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Update {
    pub time: Timestamp,
    /// The id of the failure.
    pub failure: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
    /// What to do about that root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<Cow<'static, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nginx: Option<NginxWord>,
}

/// An attempt that did not fail (with `--all`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub time: Timestamp,
    pub started: Option<Timestamp>,
    pub result: AttemptResult,
    pub upstream: Option<Upstream>,
    pub worker: Worker,
    pub request_key: Option<String>,
    pub elapsed_us: Option<u64>,
    pub connection: Option<Connection>,
}

/// How an attempt that did not fail ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptResult {
    Completed,
    /// The client went away first (499).
    ClientClosed,
    /// Closed, and nothing says that a request was waiting.
    Closed,
}
