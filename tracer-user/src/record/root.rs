//! The reason behind a cause, where it could be established on this host; and the processes and listeners it names.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::Timestamp;
use crate::model::host::Name;
pub use crate::model::root::RootKind;

/// The reason behind a cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    pub kind: RootKind,
    /// For people.
    pub text: String,
    pub process: Option<ProcessFate>,
    pub listener: Option<Listener>,
}

impl Root {
    /// The request waits somewhere; nobody has ended.
    pub const fn is_wait(&self) -> bool {
        matches!(self.kind, RootKind::NotAccepted | RootKind::ApplicationSilent | RootKind::RemoteSilent)
    }
}

/// A process that a reason names, and how it ended if it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessFate {
    pub pid: u32,
    pub comm: String,
    /// Exit code, when it exited by itself.
    pub code: Option<i32>,
    /// The signal's name, as `SIGKILL`, when it was killed.
    pub signal: Option<Cow<'static, str>>,
    /// Killed for memory; null when not observed.
    pub oom: Option<bool>,
}

/// A listening socket that a reason names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    pub address: String,
    /// Backlog limit: the smaller of listen(2)'s and net.core.somaxconn.
    pub limit: Option<u32>,
    /// Connections in the queue when it was looked at.
    pub queued: Option<u32>,
    pub owner: Option<Owner>,
}

/// Who owns a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    pub pid: u32,
    pub comm: String,
}

impl From<&Name> for Owner {
    fn from(name: &Name) -> Self {
        Self { pid: name.pid, comm: name.comm.clone() }
    }
}

/// A listener on this host dropped connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overflow {
    pub time: Timestamp,
    pub address: String,
    pub queue: Queue,
    pub limit: Option<u32>,
    pub queued: Option<u32>,
    /// Since the last record about this listener; null where the kernel cannot count it.
    pub count: Option<u64>,
    pub owner: Option<Owner>,
}

/// Which queue of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Queue {
    Accept,
    Syn,
}

/// A process that served an upstream ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub time: Timestamp,
    pub pid: u32,
    pub comm: String,
    pub code: Option<i32>,
    /// The signal's name, as `SIGKILL`.
    pub signal: Option<Cow<'static, str>>,
    pub oom: Option<bool>,
    /// The upstream addresses it served, as far as known.
    pub upstreams: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::RootKind;

    #[test]
    fn ids_are_those_of_the_json() {
        for kind in RootKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.id());
            assert_eq!(RootKind::from_id(kind.id()), Some(*kind));
        }
    }
}
