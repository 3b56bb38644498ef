//! Records: what why502 says, as data. One JSON object per line, `type` first (docs/schema.json).
//!
//! Plain owned values with the names of the JSON fields. Absent knowledge is `None` and null in JSON, never a guess.
//! Nothing here decides anything.

mod failure;
mod id;
mod line;
mod nginx;
mod root;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod schema;
mod session;
mod time;
mod totals;

pub use failure::{
    Attempt, AttemptResult, Confidence, Connection, Evidence, Failure, Outcome, Phase, Purpose, Setting, Transport,
    Update, Upstream, Worker,
};
pub use line::ReadError;
pub use nginx::{Handler, NginxSource, NginxWord, Origin, Response};
pub use root::{Exit, Listener, Overflow, Owner, ProcessFate, Queue, Root, RootKind};
pub use session::{Change, Observation, ObservationState, Process, Role, SCHEMA, Session, WorkerChange};
pub use time::Timestamp;
pub use totals::{Counted, End, EndReason, LossReason, Lost, Quantiles, Stats, UpstreamStats};

use serde::Serialize;

/// One line of a stream or capture file.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    Session(Session),
    Failure(Box<Failure>),
    Response(Box<Response>),
    Update(Box<Update>),
    Worker(WorkerChange),
    Overflow(Overflow),
    Exit(Exit),
    Attempt(Box<Attempt>),
    Lost(Lost),
    Stats(Stats),
    End(End),
}

impl Record {
    /// The `type` in JSON.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Session(_) => "session",
            Self::Failure(_) => "failure",
            Self::Response(_) => "response",
            Self::Update(_) => "update",
            Self::Worker(_) => "worker",
            Self::Overflow(_) => "overflow",
            Self::Exit(_) => "exit",
            Self::Attempt(_) => "attempt",
            Self::Lost(_) => "lost",
            Self::Stats(_) => "stats",
            Self::End(_) => "end",
        }
    }

    pub const fn time(&self) -> Timestamp {
        match self {
            Self::Session(record) => record.time,
            Self::Failure(record) => record.time,
            Self::Response(record) => record.time,
            Self::Update(record) => record.time,
            Self::Worker(record) => record.time,
            Self::Overflow(record) => record.time,
            Self::Exit(record) => record.time,
            Self::Attempt(record) => record.time,
            Self::Lost(record) => record.time,
            Self::Stats(record) => record.time,
            Self::End(record) => record.time,
        }
    }
}
