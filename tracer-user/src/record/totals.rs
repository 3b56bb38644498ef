//! Numbers: `lost`, `stats` and `end`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::failure::Outcome;
use crate::model::cause::Cause;

/// Something could have been seen and was not. Counts since the last such record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    pub time: Timestamp,
    /// The program that lost it, by its hook's or file's name.
    pub program: Cow<'static, str>,
    pub reason: LossReason,
    /// Null where the kernel cannot count it.
    pub count: Option<u64>,
    /// With `overload`: these failures and responses have no record of their own, but were counted; they are part of all
    /// totals, and no loss.
    #[serde(default)]
    pub counted: Option<Counted>,
}

/// Failures that were counted by kind instead of told one by one: of each, nginx gave the same message, errno and action, for
/// the same peer and location, as for failures that have been told and whose cause that proves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    pub cause: Cause,
    /// Address of the upstream; where no server was tried, nginx's name of it.
    pub upstream: Option<String>,
    /// When the counting of these began.
    pub since: Timestamp,
    /// Failed attempts.
    pub failures: u64,
    /// Those whose outcome was seen.
    pub by_outcome: BTreeMap<Outcome, u64>,
    pub responses: u64,
    pub by_status: BTreeMap<u16, u64>,
    /// Responses of requests without a failed attempt.
    pub responses_alone: u64,
    /// Attempts among those counted that were followed by another, and by an error page nevertheless.
    pub retried_in_vain: u64,
}

/// How something was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossReason {
    RingFull,
    MapFull,
    Evicted,
    Recursion,
    KretprobeMissed,
    UserRead,
    TailGap,
    Overload,
    /// Lines that could not be written to the capture file.
    WriteFailed,
}

impl LossReason {
    /// For people.
    pub const fn text(self) -> &'static str {
        match self {
            Self::RingFull => "the ring buffer was full",
            Self::MapFull => "a kernel map was full",
            Self::Evicted => "an entry was evicted from a kernel map",
            Self::Recursion => "a kernel program interrupted itself",
            Self::KretprobeMissed => "a return probe missed calls",
            Self::UserRead => "nginx's memory could not be read",
            Self::TailGap => "the log was rotated or written faster than it was read",
            Self::Overload => "failures came faster than they could be told: lines of nginx's log were left out",
            Self::WriteFailed => "the capture file could not be written",
        }
    }
}

/// Counts of one interval (normally 10 s); they count everything, whatever the filters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stats {
    pub time: Timestamp,
    pub interval_s: f64,
    pub upstreams: Vec<UpstreamStats>,
    pub failures: u64,
    pub responses: u64,
    pub by_cause: BTreeMap<Cause, u64>,
    /// Since the start of the session.
    pub lost: u64,
    /// Wire events read from the kernel.
    pub events: u64,
}

/// Counts of one interval for one upstream address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamStats {
    pub address: String,
    /// Connects begun.
    pub connections: u64,
    /// Connects that succeeded.
    pub established: u64,
    pub failures: BTreeMap<Cause, u64>,
    /// From SYN to established; null when there was none.
    pub connect_us: Option<Quantiles>,
}

/// Quantiles of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantiles {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub count: u64,
}

/// The last line of a file or stream; its absence says that it was cut off. Totals of the session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct End {
    pub time: Timestamp,
    pub reason: EndReason,
    /// The file that goes on from here (`rotated`).
    pub next: Option<String>,
    pub failures: u64,
    pub responses: u64,
    pub by_cause: BTreeMap<Cause, u64>,
    pub by_outcome: BTreeMap<Outcome, u64>,
    /// Responses with the cause `unexplained`.
    pub unexplained: u64,
    /// Upstream connections begun; null when not counted.
    pub connections: Option<u64>,
    pub lost: u64,
    pub events: u64,
    pub duration_s: f64,
}

/// Why a file or stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    Signal,
    Duration,
    Count,
    Rotated,
    /// It could not go on; standard error says why.
    Error,
}
