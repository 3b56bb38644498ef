//! nginx's own word about a failure, and `response`: what it answered in the end.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::failure::Setting;
use super::failure::Worker;
use crate::model::cause::Cause;

/// What nginx itself said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NginxWord {
    pub source: NginxSource,
    pub level: Option<Cow<'static, str>>,
    /// nginx's connection number (the `*123` of the log line).
    pub connection: Option<u64>,
    pub message: String,
    pub client: Option<String>,
    pub server: Option<String>,
    pub request: Option<String>,
    pub host: Option<String>,
    pub upstream: Option<String>,
    pub referrer: Option<String>,
}

/// Where nginx's word was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NginxSource {
    /// A probe on its logging function.
    Uprobe,
    /// The write of the log line.
    Write,
    /// The log file, read along.
    Log,
}

/// One main request for which nginx decided on 502 or 504, or on 500 because of an upstream failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    pub id: u64,
    pub time: Timestamp,
    /// The code that nginx first generated.
    pub status: u16,
    /// What the client got in the end; null if not observed.
    pub client_status: Option<u16>,
    pub origin: Origin,
    pub handled_by: Option<Handler>,
    /// Of the last failure, or of nginx's own message where no connection was tried.
    pub cause: Cause,
    /// The failed attempts of this request, in order.
    pub failures: Vec<u64>,
    /// Failed attempts of this request that were only counted (`lost`): they are not among `failures`.
    #[serde(default)]
    pub counted: u32,
    /// Failures of other requests that led here.
    pub related: Vec<u64>,
    pub request_key: Option<String>,
    pub worker: Worker,
    pub client: Option<String>,
    pub server: Option<String>,
    pub request: Option<String>,
    pub host: Option<String>,
    /// The upstream as nginx names it: a block's name or a URL.
    pub upstream: Option<String>,
    /// nginx's own message, where no failure carries it.
    pub message: Option<String>,
    pub hint: Option<Cow<'static, str>>,
    /// As in `failure`, where this has none.
    #[serde(default)]
    pub configuration: Vec<Setting>,
}

impl Response {
    /// Its last failed attempt decided it: that one's line and advice are its own. None of `failures` did where nginx then found no
    /// server to try, or something else than an attempt answered.
    pub fn is_of_last_failure(&self) -> bool {
        !self.failures.is_empty() && self.origin == Origin::Nginx && self.cause.is_of_attempt()
    }
}

/// Who made a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    Nginx,
    /// The upstream sent it and nginx passed it on.
    Upstream,
    /// `return 502`, `try_files … =502`.
    Config,
    Cache,
}

/// What nginx's configuration made of the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handler {
    ErrorPage,
    Fallback,
    AuthRequest,
}
