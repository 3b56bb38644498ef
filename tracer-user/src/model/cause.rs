//! The causes: a closed list with stable ids (docs/causes.md explains each).

use std::fmt;

/// Why an attempt failed, or why nginx answered as it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    ConnectRefused,
    ConnectUnreachable,
    ConnectTimeout,
    ConnectTimeoutKernel,
    ConnectReset,
    ConnectDenied,
    PortsExhausted,
    ConnectFailed,
    SocketMissing,
    SocketDenied,
    SocketRefused,
    SocketBacklogFull,
    TlsHandshakeFailed,
    TlsPeerClosed,
    TlsVerifyFailed,
    TlsTimeout,
    ClosedBeforeResponse,
    ResetBeforeResponse,
    StaleKeepalive,
    ResponseTimeout,
    ResponseTimeoutKernel,
    SendTimeout,
    SendFailed,
    HeaderTooBig,
    HeaderInvalid,
    ClosedMidResponse,
    ResetMidResponse,
    ResponseStalled,
    ResponseInvalid,
    NoLiveUpstreams,
    DnsTimeout,
    DnsFailed,
    NoResolver,
    UpstreamStatus,
    ConfiguredStatus,
    FdsExhausted,
    WorkerConnections,
    BindFailed,
    UpstreamMisconfigured,
    TempfileFailed,
    ClientClosed,
    Unexplained,
}

impl Cause {
    /// An attempt failed of it; of the others nginx makes none, or nothing is known.
    pub const fn is_of_attempt(self) -> bool {
        !matches!(
            self,
            Self::NoLiveUpstreams
                | Self::DnsTimeout
                | Self::DnsFailed
                | Self::NoResolver
                | Self::UpstreamMisconfigured
                | Self::UpstreamStatus
                | Self::ConfiguredStatus
                | Self::Unexplained
        )
    }

    /// All of them, in the order of the taxonomy.
    pub const ALL: &[Self] = &[
        Self::ConnectRefused,
        Self::ConnectUnreachable,
        Self::ConnectTimeout,
        Self::ConnectTimeoutKernel,
        Self::ConnectReset,
        Self::ConnectDenied,
        Self::PortsExhausted,
        Self::ConnectFailed,
        Self::SocketMissing,
        Self::SocketDenied,
        Self::SocketRefused,
        Self::SocketBacklogFull,
        Self::TlsHandshakeFailed,
        Self::TlsPeerClosed,
        Self::TlsVerifyFailed,
        Self::TlsTimeout,
        Self::ClosedBeforeResponse,
        Self::ResetBeforeResponse,
        Self::StaleKeepalive,
        Self::ResponseTimeout,
        Self::ResponseTimeoutKernel,
        Self::SendTimeout,
        Self::SendFailed,
        Self::HeaderTooBig,
        Self::HeaderInvalid,
        Self::ClosedMidResponse,
        Self::ResetMidResponse,
        Self::ResponseStalled,
        Self::ResponseInvalid,
        Self::NoLiveUpstreams,
        Self::DnsTimeout,
        Self::DnsFailed,
        Self::NoResolver,
        Self::UpstreamStatus,
        Self::ConfiguredStatus,
        Self::FdsExhausted,
        Self::WorkerConnections,
        Self::BindFailed,
        Self::UpstreamMisconfigured,
        Self::TempfileFailed,
        Self::ClientClosed,
        Self::Unexplained,
    ];

    /// The id in records, options and documents.
    pub const fn id(self) -> &'static str {
        match self {
            Self::ConnectRefused => "connect_refused",
            Self::ConnectUnreachable => "connect_unreachable",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectTimeoutKernel => "connect_timeout_kernel",
            Self::ConnectReset => "connect_reset",
            Self::ConnectDenied => "connect_denied",
            Self::PortsExhausted => "ports_exhausted",
            Self::ConnectFailed => "connect_failed",
            Self::SocketMissing => "socket_missing",
            Self::SocketDenied => "socket_denied",
            Self::SocketRefused => "socket_refused",
            Self::SocketBacklogFull => "socket_backlog_full",
            Self::TlsHandshakeFailed => "tls_handshake_failed",
            Self::TlsPeerClosed => "tls_peer_closed",
            Self::TlsVerifyFailed => "tls_verify_failed",
            Self::TlsTimeout => "tls_timeout",
            Self::ClosedBeforeResponse => "closed_before_response",
            Self::ResetBeforeResponse => "reset_before_response",
            Self::StaleKeepalive => "stale_keepalive",
            Self::ResponseTimeout => "response_timeout",
            Self::ResponseTimeoutKernel => "response_timeout_kernel",
            Self::SendTimeout => "send_timeout",
            Self::SendFailed => "send_failed",
            Self::HeaderTooBig => "header_too_big",
            Self::HeaderInvalid => "header_invalid",
            Self::ClosedMidResponse => "closed_mid_response",
            Self::ResetMidResponse => "reset_mid_response",
            Self::ResponseStalled => "response_stalled",
            Self::ResponseInvalid => "response_invalid",
            Self::NoLiveUpstreams => "no_live_upstreams",
            Self::DnsTimeout => "dns_timeout",
            Self::DnsFailed => "dns_failed",
            Self::NoResolver => "no_resolver",
            Self::UpstreamStatus => "upstream_status",
            Self::ConfiguredStatus => "configured_status",
            Self::FdsExhausted => "fds_exhausted",
            Self::WorkerConnections => "worker_connections",
            Self::BindFailed => "bind_failed",
            Self::UpstreamMisconfigured => "upstream_misconfigured",
            Self::TempfileFailed => "tempfile_failed",
            Self::ClientClosed => "client_closed",
            Self::Unexplained => "unexplained",
        }
    }

    /// The cause with this id.
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|cause| cause.id() == id)
    }

    /// The status nginx gives when it does not retry (NGINX: ngx_http_upstream_next()); None where the cause does not
    /// decide it.
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::ConnectTimeout | Self::TlsTimeout | Self::ResponseTimeout | Self::SendTimeout => Some(504),
            Self::FdsExhausted
            | Self::WorkerConnections
            | Self::BindFailed
            | Self::UpstreamMisconfigured
            | Self::TempfileFailed => Some(500),
            Self::ClientClosed => Some(499),
            Self::ClosedMidResponse | Self::ResetMidResponse | Self::ResponseStalled | Self::ResponseInvalid => {
                Some(200)
            }
            Self::UpstreamStatus | Self::ConfiguredStatus | Self::Unexplained => None,
            _ => Some(502),
        }
    }

    /// The client already had its status when it happened: never a 502 or 504.
    pub const fn after_header(self) -> bool {
        matches!(self, Self::ClosedMidResponse | Self::ResetMidResponse | Self::ResponseStalled | Self::ResponseInvalid)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::Cause;

    #[test]
    fn ids_are_unique_and_lead_back() {
        for cause in Cause::ALL {
            assert_eq!(Cause::from_id(cause.id()), Some(*cause));
        }
    }
}
