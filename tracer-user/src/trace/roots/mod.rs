//! The reason behind a cause, from what is known of the host: processes that died, listeners, queues.
//!
//! Asked when a failure is about to be told; nothing here waits. A reason is named only where it belongs to this very
//! connection, or to the place it was refused at: that something else died or overflowed at the same time is no reason.

mod dropped;
mod ended;
mod icmp;
mod idle;
mod limits;
mod proxy;
mod queue;
mod refused;
mod route;
mod tcp;
mod text;
mod unix;

use std::net::SocketAddr;

use self::tcp::Tcp;
use super::{host::Host, sockets::Answer};
use crate::{
    context::limits::host_files,
    model::{
        address::Address,
        cause::Cause,
        verdict::{Evidence, Failure},
    },
    record,
};

/// A reason, with what to do and what shows it.
pub(super) struct Found {
    pub(super) root: record::Root,
    /// Instead of the cause's own.
    pub(super) hint: Option<String>,
    pub(super) evidence: Option<Evidence>,
}

/// Finds the reason; None: none beyond what the rules found.
pub(super) fn find(failure: &Failure, host: &mut Host) -> Option<Found> {
    let found = of_cause(failure, host);
    if found.is_none() && failure.root.is_none() && dropped::may_be_rejected(failure.cause) {
        // A rule that rejects sends nothing again, so that nothing was looked at: the next one will be.
        host.drops.suspect(failure.time_ns);
    }
    found
}

fn of_cause(failure: &Failure, host: &mut Host) -> Option<Found> {
    let tcp = Tcp::new(failure, host);
    match failure.cause {
        Cause::ConnectRefused => tcp.dropped(host).or_else(|| tcp.refused(host)).or_else(|| tcp.icmp(host)),
        Cause::ConnectTimeout | Cause::ConnectTimeoutKernel => {
            let found = tcp.full(host).or_else(|| tcp.dropped(host)).or_else(|| tcp.full_there(host));
            found.or_else(|| tcp.icmp(host))
        }
        Cause::ResponseTimeout => tcp.full(host).or_else(|| tcp.dropped(host)).or_else(|| tcp.icmp(host)),
        Cause::ResponseTimeoutKernel | Cause::SendTimeout => tcp.dropped(host).or_else(|| tcp.icmp(host)),
        Cause::ConnectUnreachable | Cause::ConnectFailed => {
            let found = tcp.dropped(host).or_else(|| tcp.icmp(host));
            found.or_else(|| route::root(failure, host))
        }
        Cause::ConnectDenied => route::root(failure, host),
        Cause::ConnectReset | Cause::ResetBeforeResponse => {
            tcp.full(host).or_else(|| closed(&tcp, host)).or_else(|| tcp.dropped(host))
        }
        Cause::StaleKeepalive => closed(&tcp, host).or_else(|| tcp.dropped(host)).or_else(|| idle(failure, host)),
        Cause::SocketMissing | Cause::SocketDenied | Cause::SocketRefused | Cause::SocketBacklogFull => {
            let answer = host.sockets.answer(failure)?;
            of_socket(failure.cause, &answer, host)
        }
        Cause::FdsExhausted => limits::descriptors(failure, || host.limits.descriptors(failure.worker), host_files),
        Cause::WorkerConnections => limits::connections(failure),
        Cause::SendFailed | Cause::TlsPeerClosed | Cause::ResetMidResponse => {
            closed(&tcp, host).or_else(|| tcp.dropped(host))
        }
        Cause::ClosedBeforeResponse | Cause::ClosedMidResponse => closed(&tcp, host),
        _ => None,
    }
}

/// The reason behind a failure to connect to a unix socket, from what was seen of it.
pub(super) fn of_socket(cause: Cause, answer: &Answer, host: &Host) -> Option<Found> {
    let Answer { asked, look } = answer;
    let last = host.sockets.places.last(&look.scope, &asked.path);
    unix::find(cause, asked, look, last, |pid| host.peers.fate(pid))
}

/// Who closed the other end, of a unix socket or a TCP connection.
fn closed(tcp: &Tcp<'_>, host: &mut Host) -> Option<Found> {
    let Some(closing) = &tcp.failure.connection.closing else { return tcp.closed(host) };
    let fate = host.peers.fate(closing.by.name.pid);
    let found = ended::root(tcp.failure, &closing.by, fate.as_ref(), closing.time_ns)?;
    // The failure has it already, as the kernel programs saw it.
    Some(Found { evidence: None, ..found })
}

fn idle(failure: &Failure, host: &Host) -> Option<Found> {
    let Some(Address::Tcp(upstream)) = failure.upstream else { return None };
    idle::root(failure, host.idle.timeout(failure.netns?, upstream)?)
}

/// `code`, `signal` and `oom` of a process that ended.
pub(super) fn fate(event: &crate::model::host::HostEvent, host: &Host) -> record::ProcessFate {
    text::process(&event.actor, host.peers.fate(event.actor.name.pid).as_ref(), event.time_ns)
}

/// Would this listener take a connection to that address?
pub(super) fn serves(listener: SocketAddr, upstream: SocketAddr) -> bool {
    refused::serves(listener, upstream)
}

#[cfg(test)]
pub(super) mod samples {
    use crate::model::{
        cause::Cause,
        verdict::{Confidence, ConnectionFacts, Failure, Outcome, Phase, Purpose, VerdictId},
    };

    pub(super) const NETNS: u32 = 7;

    pub(in crate::trace) fn failure(cause: Cause) -> Failure {
        Failure {
            id: VerdictId(1),
            time_ns: 1_000,
            started_ns: None,
            cause,
            confidence: Confidence::Proven,
            status: Some(502),
            outcome: Outcome::Final,
            upstream: None,
            purpose: Purpose::Http,
            worker: 1,
            netns: Some(NETNS),
            request_key: None,
            phase: Phase::Header,
            errno: None,
            connection: ConnectionFacts::default(),
            root: None,
            word: None,
            evidence: Vec::new(),
            disagreement: None,
            configured: None,
        }
    }
}
