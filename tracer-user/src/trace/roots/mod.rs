//! The reason behind a cause, from what is known of the host: processes that died, listeners, queues.
//!
//! Asked when a failure is about to be told; nothing here waits. A reason is named only where it belongs to this very
//! connection, or to the place it was refused at: that something else died or overflowed at the same time is no reason.

mod distance;
mod dropped;
mod ended;
mod former;
mod icmp;
mod idle;
mod limits;
mod pending;
mod program;
mod proxy;
mod queue;
mod refused;
mod remedy;
mod remote;
mod route;
mod still;
mod tcp;
mod text;
mod unix;
mod waiting;

use std::{net::SocketAddr, time::Duration};

pub(super) use self::pending::Pending;
use self::tcp::Tcp;
use super::{host::Host, sockets::Answer, waits::Look};
use crate::{
    context::{ends::Seen, limits::host_files, unit::Unit},
    kernel::clock,
    model::{
        address::Address,
        cause::Cause,
        host::Actor,
        verdict::{Evidence, Failure},
    },
    record,
};
use ended::Close;

/// Failures that wait for the end of a process.
pub(super) const LEAVING: usize = 64;
/// Failures that wait for whose their upstream's address is.
pub(super) const UNSETTLED: usize = 256;

/// A reason, with what to do and what shows it.
pub(super) struct Found {
    pub(super) root: record::Root,
    /// Instead of the cause's own.
    pub(super) hint: Option<String>,
    pub(super) evidence: Option<Evidence>,
}

/// Finds the reason; None: none beyond what the rules found.
pub(super) fn find(failure: &Failure, host: &mut Host) -> Option<Found> {
    host.looked_around(Duration::ZERO);
    let tcp = Tcp::new(failure, host);
    if closer_may_end(&tcp, host) {
        host.leaving.push(failure.clone());
    }
    let waiting = host.waits.answer(failure).and_then(|look| of_wait(&tcp, &look, host));
    if waiting.as_ref().is_some_and(|found| found.root.kind == record::RootKind::ProcessStopped) {
        return waiting;
    }
    // First, for it takes in the answer if that is there.
    let open = is_unsettled(failure, host);
    let found = other(&tcp, host).or(waiting).or_else(|| gave_up(&tcp, host));
    let found = found.or_else(|| remote::root(&tcp, host));
    if found.is_none() && failure.root.is_none() && open {
        host.unsettled.push(failure.clone());
    }
    found
}

/// Whose the upstream's address is, is on its way.
fn looks_at_address(failure: &Failure, host: &mut Host) -> bool {
    tcp::here(failure).is_some_and(|here| host.addresses.waits(here.remote.ip()))
}

/// What another host's part in it depends on is on its way.
fn is_unsettled(failure: &Failure, host: &mut Host) -> bool {
    looks_at_address(failure, host) || remote::waits(failure, host)
}

/// Reasons of failures that were told before it was known whose their upstream's address is, or what this host has sent; waits so
/// long for the one.
pub(super) fn settled(host: &mut Host, patience: Duration) -> Vec<(u64, Found)> {
    if host.unsettled.is_empty() {
        return Vec::new();
    }
    host.addresses.settle(patience);
    let mut found = Vec::new();
    for failure in host.unsettled.take() {
        if is_unsettled(&failure, host) {
            host.unsettled.push(failure);
        } else {
            let tcp = Tcp::new(&failure, host);
            found.extend(remote::root(&tcp, host).map(|told| (failure.id.0, told)));
        }
    }
    found
}

fn other(tcp: &Tcp<'_>, host: &mut Host) -> Option<Found> {
    let failure = tcp.failure;
    let found = of_cause(tcp, host);
    let open = (found.is_none() && failure.root.is_none()) || host.may_have_missed_a_rule(failure);
    if open && (dropped::may_be_rejected(failure.cause) || waiting::unanswered(failure)) {
        // After a rule that rejects nothing is sent again, nor before a short proxy_connect_timeout: on a busy host nothing was looked
        // at. The next one will be.
        host.drops.suspect(failure.time_ns);
    }
    found
}

fn of_cause(tcp: &Tcp<'_>, host: &mut Host) -> Option<Found> {
    let failure = tcp.failure;
    match failure.cause {
        Cause::ConnectRefused => tcp.dropped(host).or_else(|| tcp.refused(host)).or_else(|| tcp.icmp(host)),
        Cause::ConnectTimeout | Cause::ConnectTimeoutKernel => {
            tcp.full(host).or_else(|| tcp.dropped(host)).or_else(|| tcp.icmp(host))
        }
        Cause::ResponseTimeout => tcp.full(host).or_else(|| tcp.dropped(host)).or_else(|| tcp.icmp(host)),
        Cause::ResponseTimeoutKernel | Cause::SendTimeout | Cause::TlsTimeout => {
            tcp.dropped(host).or_else(|| tcp.icmp(host))
        }
        Cause::ConnectUnreachable | Cause::ConnectFailed => {
            let found = tcp.dropped(host).or_else(|| tcp.icmp(host));
            found.or_else(|| route::root(failure, host)).or_else(|| unix::failed::root(failure))
        }
        Cause::ConnectDenied => route::root(failure, host),
        Cause::ConnectReset | Cause::ResetBeforeResponse => {
            let found = tcp.full(host).or_else(|| closed(tcp, host)).or_else(|| tcp.dropped(host));
            found.or_else(|| unix::server::ended_with_queue(failure, host))
        }
        Cause::StaleKeepalive => closed(tcp, host).or_else(|| tcp.dropped(host)).or_else(|| idle(failure, host)),
        Cause::SocketMissing | Cause::SocketDenied | Cause::SocketRefused | Cause::SocketBacklogFull => {
            let answer = host.sockets.answer(failure)?;
            of_socket(failure.cause, &answer, host)
        }
        Cause::FdsExhausted => limits::descriptors(failure, || host.limits.descriptors(failure.worker), host_files),
        Cause::WorkerConnections => limits::connections(failure),
        Cause::SendFailed | Cause::TlsPeerClosed | Cause::ResetMidResponse => {
            closed(tcp, host).or_else(|| tcp.dropped(host)).or_else(|| unix::server::ended_with_queue(failure, host))
        }
        Cause::ClosedBeforeResponse | Cause::ClosedMidResponse => closed(tcp, host),
        _ => None,
    }
}

/// The reason behind a failure to connect to a unix socket, from what was seen of it.
pub(super) fn of_socket(cause: Cause, answer: &Answer, host: &Host) -> Option<Found> {
    let Answer { asked, look } = answer;
    let last = host.sockets.places.last(&look.scope, &asked.path);
    let mut found = unix::find(cause, asked, look, last, |pid| host.peers.fate(pid))?;
    found.root.text += &text::seen_before(asked.time_ns, look.taken_ns);
    Some(found)
}

/// Who closed the other end, of a unix socket or a TCP connection.
fn closed(tcp: &Tcp<'_>, host: &mut Host) -> Option<Found> {
    let Some(closing) = &tcp.failure.connection.closing else {
        return tcp.closed(host).or_else(|| unix::server::closed(tcp.failure, host));
    };
    let found = of_close(tcp.failure, closing.by.clone(), closing.time_ns, host)?;
    // The failure has it already, as the kernel programs saw it.
    Some(Found { evidence: None, ..found })
}

/// The reason, where this process closed the other end.
fn of_close(failure: &Failure, mut actor: Actor, closed_ns: u64, host: &Host) -> Option<Found> {
    host.knows(&mut actor);
    ended::root(failure, &close(closed_ns, &actor, host), |pid| host.peers.fate(pid))
}

/// Who had a request that was not answered in time, and let go of it when nginx had given up: it was not there to be looked at.
fn gave_up(tcp: &Tcp<'_>, host: &Host) -> Option<Found> {
    if !waiting::is_for_answer(tcp.failure.cause) {
        return None;
    }
    let mut closer = tcp.closer(host)?;
    host.knows(&mut closer.by);
    waiting::gave_up(tcp.failure, &closer.by, closer.time_ns).map(|found| tcp.led(found))
}

/// Who closed its other end and so ended it, and when.
fn closer(tcp: &Tcp<'_>, host: &Host) -> Option<(u64, Actor)> {
    if !ended::is_by_other_end(tcp.failure.cause) {
        return None;
    }
    let (closed_ns, mut actor) = match &tcp.failure.connection.closing {
        Some(closing) => (closing.time_ns, closing.by.clone()),
        None => tcp.ended_by(host)?,
    };
    host.knows(&mut actor);
    Some((closed_ns, actor))
}

/// Reasons that were told before whoever closed had ended, and how it did, by failure.
pub(super) fn left(host: &mut Host) -> Vec<(u64, Found)> {
    let mut found = Vec::new();
    for failure in host.leaving.take() {
        let tcp = Tcp::new(&failure, host);
        if closer_may_end(&tcp, host) {
            let young = clock::monotonic_ns().saturating_sub(failure.time_ns) < ended::LEAVING_NS;
            young.then(|| host.leaving.push(failure));
        } else if closer_has_ended(&tcp, host) {
            found.extend(closed(&tcp, host).map(|told| (failure.id.0, told)));
        }
    }
    found
}

/// The reason behind a request that was not answered in time, from where it was seen to wait.
fn of_wait(tcp: &Tcp<'_>, look: &Look, host: &Host) -> Option<Found> {
    let found = waiting::root(tcp.failure, look, host)?;
    match (&look.seen, tcp.there()) {
        // Its SYNs went past that one: that they are led elsewhere (NAT) was not known when it was looked for.
        (Seen::Queued(queue), Some(there)) if !queue.at.parse().is_ok_and(|at| serves(at, there.remote)) => None,
        _ => Some(tcp.led(found)),
    }
}

/// The same, for a failure that was told before it was seen: None where that said as much.
pub(super) fn of_late(failure: &Failure, look: &Look, host: &mut Host) -> Option<Found> {
    let tcp = Tcp::new(failure, host);
    let found = of_wait(&tcp, look, host)?;
    (found.root.kind == record::RootKind::ProcessStopped || other(&tcp, host).is_none()).then_some(found)
}

/// What runs the process that a reason is about.
pub(super) fn unit(root: &record::Root, host: &mut Host) -> Option<Unit> {
    let process = root.process.as_ref().map(|process| process.pid);
    let owner = || Some(root.listener.as_ref()?.owner.as_ref()?.pid);
    host.units.of(process.or_else(owner)?)
}

/// Begins to look aside for what may be the reason.
pub(super) fn ask(failure: &Failure, host: &mut Host) {
    host.sockets.ask(failure);
    if host.waits.wants(failure) {
        let led = Tcp::new(failure, host).there();
        host.waits.ask(failure, led);
    }
    if let Some(here) = tcp::here(failure) {
        host.addresses.ask(here.remote.ip());
    }
}

/// Does it wait for more to be seen of it?
pub(super) fn waits(failure: &Failure, host: &mut Host) -> bool {
    looks_at_address(failure, host)
        || host.sockets.waits(failure)
        || host.waits.waits(failure)
        || (ended::is_by_other_end(failure.cause) && closer_is_leaving(&Tcp::new(failure, host), host))
}

/// Whoever closed its other end was told to end, and has not yet.
fn closer_is_leaving(tcp: &Tcp<'_>, host: &Host) -> bool {
    closer(tcp, host).is_some_and(|(closed_ns, actor)| {
        close(closed_ns, &actor, host).is_leaving(host.peers.fate(actor.name.pid).as_ref())
    })
}

/// Whoever closed its other end may be ending: told to, or by itself. One that closed a connection that it had kept needs a reason.
fn closer_may_end(tcp: &Tcp<'_>, host: &Host) -> bool {
    if tcp.failure.cause == Cause::StaleKeepalive {
        return closer_is_leaving(tcp, host);
    }
    closer(tcp, host).is_some_and(|(closed_ns, actor)| close(closed_ns, &actor, host).may_end())
}

/// Whoever closed its other end has ended since, and may have decided both.
fn closer_has_ended(tcp: &Tcp<'_>, host: &Host) -> bool {
    closer(tcp, host).is_some_and(|(closed_ns, actor)| {
        close(closed_ns, &actor, host).has_ended(host.peers.fate(actor.name.pid).as_ref())
    })
}

fn close<'a>(closed_ns: u64, actor: &'a Actor, host: &Host) -> Close<'a> {
    Close::new(actor, closed_ns, host.owners.end_of(actor.name.pid, closed_ns))
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
