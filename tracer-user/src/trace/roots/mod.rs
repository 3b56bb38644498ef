//! The reason behind a cause, from what is known of the host: processes that died, listeners, queues.
//!
//! Asked when a failure is about to be told; nothing here waits. A reason is named only where it belongs to this very
//! connection, or to the place it was refused at: that something else died or overflowed at the same time is no reason.

mod dropped;
mod ended;
mod icmp;
mod idle;
mod limits;
mod queue;
mod refused;
mod text;
mod unix;

use std::net::SocketAddr;

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
    match failure.cause {
        Cause::ConnectRefused => {
            let Some(upstream) = refused::refused_here(failure) else { return icmp(failure, host) };
            let listeners = host.listeners.on_port(failure.netns?, failure.worker, upstream.port())?;
            refused::root(failure, upstream, listeners, &host.owners, |pid| host.peers.fate(pid))
        }
        Cause::ConnectTimeout | Cause::ConnectTimeoutKernel | Cause::ResponseTimeout => {
            full(failure, host).or_else(|| dropped(failure, host)).or_else(|| icmp(failure, host))
        }
        Cause::ResponseTimeoutKernel | Cause::SendTimeout | Cause::ConnectUnreachable | Cause::ConnectFailed => {
            dropped(failure, host).or_else(|| icmp(failure, host))
        }
        Cause::ConnectReset | Cause::ResetBeforeResponse => full(failure, host).or_else(|| closed(failure, host)),
        Cause::StaleKeepalive => closed(failure, host).or_else(|| idle(failure, host)),
        Cause::SocketMissing | Cause::SocketDenied | Cause::SocketRefused | Cause::SocketBacklogFull => {
            let answer = host.sockets.answer(failure)?;
            of_socket(failure.cause, &answer, host)
        }
        Cause::FdsExhausted => limits::descriptors(failure, || host.limits.descriptors(failure.worker), host_files),
        Cause::WorkerConnections => limits::connections(failure),
        Cause::ClosedBeforeResponse
        | Cause::SendFailed
        | Cause::TlsPeerClosed
        | Cause::ClosedMidResponse
        | Cause::ResetMidResponse => closed(failure, host),
        _ => None,
    }
}

/// The reason behind a failure to connect to a unix socket, from what was seen of it.
pub(super) fn of_socket(cause: Cause, answer: &Answer, host: &Host) -> Option<Found> {
    let Answer { asked, look } = answer;
    let last = host.sockets.places.last(&look.scope, &asked.path);
    unix::find(cause, asked, look, last, |pid| host.peers.fate(pid))
}

/// The ends of its connection.
fn ends(failure: &Failure) -> Option<(u32, SocketAddr, SocketAddr)> {
    match (&failure.connection.local, &failure.upstream) {
        (Some(Address::Tcp(local)), Some(Address::Tcp(remote))) => Some((failure.netns?, *local, *remote)),
        _ => None,
    }
}

fn closed(failure: &Failure, host: &Host) -> Option<Found> {
    if let Some(closing) = &failure.connection.closing {
        let fate = host.peers.fate(closing.by.name.pid);
        let found = ended::root(failure, &closing.by, fate.as_ref(), closing.time_ns)?;
        // The failure has it already, as the kernel programs saw it.
        return Some(Found { evidence: None, ..found });
    }
    let (netns, local, remote) = ends(failure)?;
    let (closed_ns, actor) = host.peers.closer(netns, local, remote)?;
    if !ended::ended_it(failure, closed_ns) {
        return None;
    }
    let fate = host.peers.fate(actor.name.pid);
    ended::root(failure, &actor, fate.as_ref(), closed_ns)
}

fn full(failure: &Failure, host: &Host) -> Option<Found> {
    failure.connection.queue_full?;
    let Some(Address::Tcp(upstream)) = failure.upstream else { return None };
    let place = host.listener_for(failure.netns?, upstream)?;
    let owner = host.owners.live(place).map(|live| &live.owner);
    queue::root(failure, place.address, owner, host.overflows.at(place).as_ref())
}

fn dropped(failure: &Failure, host: &Host) -> Option<Found> {
    let (netns, local, remote) = ends(failure)?;
    dropped::root(failure, &host.drops.of(netns, local, remote)?)
}

fn icmp(failure: &Failure, host: &Host) -> Option<Found> {
    let (netns, local, remote) = ends(failure)?;
    icmp::root(failure, local, remote, &host.icmp.about(netns, local, remote)?)
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
