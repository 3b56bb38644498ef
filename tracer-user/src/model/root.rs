//! Kinds of reasons behind a cause.

use std::fmt;

/// What kind of reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RootKind {
    NotListening,
    AddressFamily,
    AcceptQueueFull,
    SynQueueFull,
    ProcessExited,
    ProcessKilled,
    OomKilled,
    ProcessStopped,
    NotAccepted,
    ApplicationSilent,
    ApplicationClosed,
    UnreadData,
    PeerIdleClose,
    Firewall,
    Icmp,
    Route,
    RemoteSilent,
    RemoteReset,
    SocketFile,
    Ports,
    FdLimit,
    Limits,
}

impl RootKind {
    pub const ALL: &[Self] = &[
        Self::NotListening,
        Self::AddressFamily,
        Self::AcceptQueueFull,
        Self::SynQueueFull,
        Self::ProcessExited,
        Self::ProcessKilled,
        Self::OomKilled,
        Self::ProcessStopped,
        Self::NotAccepted,
        Self::ApplicationSilent,
        Self::ApplicationClosed,
        Self::UnreadData,
        Self::PeerIdleClose,
        Self::Firewall,
        Self::Icmp,
        Self::Route,
        Self::RemoteSilent,
        Self::RemoteReset,
        Self::SocketFile,
        Self::Ports,
        Self::FdLimit,
        Self::Limits,
    ];

    /// The id in records.
    pub const fn id(self) -> &'static str {
        match self {
            Self::NotListening => "not_listening",
            Self::AddressFamily => "address_family",
            Self::AcceptQueueFull => "accept_queue_full",
            Self::SynQueueFull => "syn_queue_full",
            Self::ProcessExited => "process_exited",
            Self::ProcessKilled => "process_killed",
            Self::OomKilled => "oom_killed",
            Self::ProcessStopped => "process_stopped",
            Self::NotAccepted => "not_accepted",
            Self::ApplicationSilent => "application_silent",
            Self::ApplicationClosed => "application_closed",
            Self::UnreadData => "unread_data",
            Self::PeerIdleClose => "peer_idle_close",
            Self::Firewall => "firewall",
            Self::Icmp => "icmp",
            Self::Route => "route",
            Self::RemoteSilent => "remote_silent",
            Self::RemoteReset => "remote_reset",
            Self::SocketFile => "socket_file",
            Self::Ports => "ports",
            Self::FdLimit => "fd_limit",
            Self::Limits => "limits",
        }
    }

    /// The kind with this id.
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.id() == id)
    }
}

impl fmt::Display for RootKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::RootKind;
    use crate::model::cause::Cause;

    #[test]
    fn ids_lead_back_and_are_no_causes() {
        for kind in RootKind::ALL {
            assert_eq!(RootKind::from_id(kind.id()), Some(*kind));
            assert_eq!(Cause::from_id(kind.id()), None, "{kind}");
        }
        assert_eq!(RootKind::from_id("unknown"), None);
    }
}
