//! What can be observed, by what, and what is hidden when it cannot.

use std::borrow::Cow;

/// The observations; names are fixed by the record format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    TcpLifecycle,
    Reset,
    SynRetransmit,
    RequestBoundary,
    ConnectResult,
    Icmp,
    UnixStream,
    AcceptQueue,
    PacketDrop,
    ProcessExit,
    NginxCause,
    NginxStatus,
    NginxLogText,
    Configuration,
}

impl Name {
    pub const ALL: &[Self] = &[
        Self::TcpLifecycle,
        Self::Reset,
        Self::SynRetransmit,
        Self::RequestBoundary,
        Self::ConnectResult,
        Self::Icmp,
        Self::UnixStream,
        Self::AcceptQueue,
        Self::PacketDrop,
        Self::ProcessExit,
        Self::NginxCause,
        Self::NginxStatus,
        Self::NginxLogText,
        Self::Configuration,
    ];

    pub const fn id(self) -> &'static str {
        match self {
            Self::TcpLifecycle => "tcp_lifecycle",
            Self::Reset => "reset",
            Self::SynRetransmit => "syn_retransmit",
            Self::RequestBoundary => "request_boundary",
            Self::ConnectResult => "connect_result",
            Self::Icmp => "icmp",
            Self::UnixStream => "unix_stream",
            Self::AcceptQueue => "accept_queue",
            Self::PacketDrop => "packet_drop",
            Self::ProcessExit => "process_exit",
            Self::NginxCause => "nginx_cause",
            Self::NginxStatus => "nginx_status",
            Self::NginxLogText => "nginx_log_text",
            Self::Configuration => "configuration",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Full,
    Partial,
    None,
}

impl State {
    pub const fn id(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Partial => "partial",
            Self::None => "none",
        }
    }
}

/// How one observation is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    pub name: Name,
    pub hook: Option<Cow<'static, str>>,
    pub state: State,
    /// What is missing, and what that hides.
    pub missing: Option<Cow<'static, str>>,
}

impl Observation {
    pub const fn full(name: Name, hook: &'static str) -> Self {
        Self { name, hook: Some(Cow::Borrowed(hook)), state: State::Full, missing: None }
    }

    pub const fn partial(name: Name, hook: &'static str, missing: &'static str) -> Self {
        Self { name, hook: Some(Cow::Borrowed(hook)), state: State::Partial, missing: Some(Cow::Borrowed(missing)) }
    }

    pub const fn none(name: Name, missing: &'static str) -> Self {
        Self { name, hook: None, state: State::None, missing: Some(Cow::Borrowed(missing)) }
    }
}
