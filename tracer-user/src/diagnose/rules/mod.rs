//! The rules: from what nginx said and what the kernel saw to a cause. One file per phase.

mod connect;
mod keepalive;
mod kernel_only;
mod response;

use crate::model::{
    cause::Cause,
    event::{Bound, Complaint, Connection, Subject, TcpState},
    unix::UnixConnection,
    verdict::{Confidence, Phase, Root},
};

pub use keepalive::{Reuse, reuse};
pub use kernel_only::{refused, refused_with_status, unix_with_status, unspoken, with_status};

use super::word::{Said, errno, phase};

/// A cause with what supports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub cause: Cause,
    pub confidence: Confidence,
    pub phase: Phase,
    pub errno: Option<i32>,
    pub disagreement: Option<String>,
    pub root: Option<Root>,
}

impl Decision {
    fn new(cause: Cause, confidence: Confidence, phase: Phase, errno: i32) -> Self {
        Self { cause, confidence, phase, errno: (errno != 0).then_some(errno), disagreement: None, root: None }
    }

    fn proven(cause: Cause, phase: Phase, errno: i32) -> Self {
        Self::new(cause, Confidence::Proven, phase, errno)
    }

    fn likely(cause: Cause, phase: Phase, errno: i32) -> Self {
        Self::new(cause, Confidence::Likely, phase, errno)
    }

    /// The witnesses differ; the verdict stands as `likely` unless the kernel's fact excludes nginx's.
    fn but(mut self, disagreement: impl Into<String>, excluded: Excluded) -> Self {
        self.disagreement = Some(disagreement.into());
        if matches!(excluded, Excluded::No) {
            self.confidence = self.confidence.min(Confidence::Likely);
        }
        self
    }
}

/// Does the kernel's fact exclude what nginx says?
#[derive(Clone, Copy)]
enum Excluded {
    Yes,
    No,
}

/// What both witnesses know of one failed attempt.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    pub complaint: &'a Complaint,
    pub connection: Option<&'a Connection>,
    /// Length of a jiffy.
    pub jiffy_us: u64,
}

impl Attempt<'_> {
    /// The unix socket as it was when nginx complained.
    pub fn unix_connection(&self) -> Option<&UnixConnection> {
        match &self.complaint.bound {
            Bound::Unix(unix) => Some(unix),
            Bound::Tcp(_) | Bound::None => None,
        }
    }

    fn unix(&self) -> bool {
        match (&self.complaint.bound, &self.complaint.subject) {
            (Bound::Unix(_), _) => true,
            (_, Subject::Http(request)) => request.peer.as_deref().is_some_and(|peer| peer.starts_with("unix:")),
            _ => false,
        }
    }

    fn is_unix_reused(&self) -> bool {
        self.unix() && matches!(reuse(self), Reuse::Reused { .. })
    }

    /// nginx alone knows how it ended: no socket could be told, or a unix socket that may have been idle for long.
    fn unwatched(&self) -> bool {
        let unix = self.unix_connection().is_some_and(|unix| unix.is_over() && reuse(self) == Reuse::Fresh);
        self.connection.is_none() && !unix
    }

    /// The peer's RST arrived, in any state after the handshake.
    fn reset_after_handshake(&self) -> bool {
        self.connection
            .is_some_and(|connection| connection.reset.as_ref().is_some_and(|reset| reset.state != TcpState::SynSent))
    }
}

/// Decides the cause of an attempt that nginx complained about; None: no failure after all.
pub fn decide(said: Said, attempt: &Attempt<'_>) -> Option<Decision> {
    let errno = attempt.complaint.errno;
    Some(match said {
        Said::ConnectFailed => connect::failed(attempt),
        Said::ConnectFailedAtOnce => connect::failed_at_once(attempt),
        Said::TimedOut(Phase::Connect) => connect::timed_out(attempt),
        Said::TimedOut(phase) => response::timed_out(attempt, phase),
        Said::Closed(phase) => response::closed(attempt, phase),
        Said::ReceiveFailed(phase) => response::receive_failed(attempt, phase),
        Said::SendFailed => response::send_failed(attempt),
        Said::HeaderTooBig => Decision::proven(Cause::HeaderTooBig, Phase::Header, 0),
        Said::HeaderInvalid => Decision::proven(Cause::HeaderInvalid, Phase::Header, 0),
        Said::BodyInvalid => Decision::proven(Cause::ResponseInvalid, Phase::Body, 0),
        Said::TlsHandshakeFailed => Decision::proven(Cause::TlsHandshakeFailed, Phase::Tls, errno),
        Said::TlsPeerClosed => Decision::proven(Cause::TlsPeerClosed, Phase::Tls, errno),
        Said::TlsVerifyFailed => Decision::proven(Cause::TlsVerifyFailed, Phase::Tls, 0),
        Said::SocketFailed => match errno {
            errno::EMFILE | errno::ENFILE => Decision::proven(Cause::FdsExhausted, Phase::Connect, errno),
            _ => Decision::proven(Cause::ConnectFailed, Phase::Connect, errno),
        },
        Said::BindFailed => Decision::proven(Cause::BindFailed, Phase::Connect, errno),
        Said::WorkerConnections => Decision::proven(Cause::WorkerConnections, Phase::Connect, 0),
        Said::Misconfigured => Decision::proven(Cause::UpstreamMisconfigured, Phase::Connect, errno),
        Said::TempFile => {
            // The client's body, unless nginx names another phase.
            let phase = phase(&attempt.complaint.action).unwrap_or(Phase::Send);
            Decision::proven(Cause::TempfileFailed, phase, errno)
        }
        Said::NoLiveUpstreams => Decision::proven(Cause::NoLiveUpstreams, Phase::Connect, 0),
        Said::NoResolver => Decision::proven(Cause::NoResolver, Phase::Connect, 0),
        Said::NotResolved => {
            // NGX_RESOLVE_TIMEDOUT is NGX_ETIMEDOUT, src/core/ngx_resolver.h.
            let timed_out = i32::try_from(attempt.complaint.number) == Ok(errno::ETIMEDOUT);
            let cause = if timed_out { Cause::DnsTimeout } else { Cause::DnsFailed };
            Decision::proven(cause, Phase::Connect, 0)
        }
    })
}

/// Causes for which nginx tried no connection: they explain a response, and are no failed attempt.
pub const fn without_attempt(said: Said) -> bool {
    matches!(said, Said::NoLiveUpstreams | Said::NoResolver | Said::NotResolved | Said::Misconfigured)
}
