//! `session`: the first line of every file and stream. `worker`: processes that came and went since.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Timestamp;

/// Rises only when a field changes meaning.
pub const SCHEMA: u32 = 1;

/// What is traced, where, and how well. Written once hooks are attached: it also means "ready".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub schema: u32,
    pub time: Timestamp,
    /// Unique id of this run.
    pub session: String,
    /// 0, and one more in every following file of the same run.
    #[serde(default)]
    pub part: u64,
    pub version: Cow<'static, str>,
    pub host: String,
    pub kernel: String,
    pub boot_id: Option<String>,
    pub processes: Vec<Process>,
    pub observations: Vec<Observation>,
}

/// A traced process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: u32,
    pub comm: String,
    pub exe: Option<String>,
    pub role: Option<Role>,
    /// Inode of its network namespace.
    pub netns: Option<u64>,
}

/// What an nginx process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Master,
    Worker,
    /// Cache manager and loader.
    Helper,
}

/// One kind of fact, and whether this host lets it be seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    pub name: Cow<'static, str>,
    /// The hook that serves it; null when none does.
    pub hook: Option<Cow<'static, str>>,
    pub state: ObservationState,
    /// What is not there, and why.
    pub missing: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObservationState {
    Full,
    Partial,
    None,
}

/// A traced process appeared or is gone (start, reload, upgrade, shutdown).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerChange {
    pub time: Timestamp,
    pub change: Change,
    pub process: Process,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Appeared,
    Gone,
}
