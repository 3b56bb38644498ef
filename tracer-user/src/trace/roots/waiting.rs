//! Where a request waits that was not answered in time: with a process that has it, or before those that should accept it.

use tracer_common::listener::Overflowed;

use super::{
    Found,
    program::Program,
    proxy, queue,
    still::{Still, Stops, still},
    text,
};
use crate::{
    context::{
        ends::{Queue, Seat, Seen},
        standing::Standing,
    },
    model::{
        cause::Cause,
        host::{Actor, Ending, Name},
        verdict::{Failure, QueueFull},
    },
    record::{self, RootKind},
    trace::waits::Look,
};

/// The reason; None: nothing that was seen later explains it.
pub(super) fn root(failure: &Failure, look: &Look, stops: &impl Stops) -> Option<Found> {
    let timed_out = is_for_answer(failure.cause) || failure.cause == Cause::SendTimeout;
    match &look.seen {
        Seen::Held { by, .. } => held_still(failure, by, stops).or_else(|| silent(failure, look, by)),
        Seen::Queued(queue) if unanswered(failure) => {
            // One that stands still is answered for by its kernel until its queue is full.
            let was_full = queue.full || failure.connection.queue_full.is_some();
            let still = was_full.then(|| queue_still(failure, queue, stops)).flatten();
            still.or_else(|| full_now(failure, look, queue))
        }
        Seen::Queued(queue) => {
            let silent = || (timed_out && failure.connection.queue_full.is_none()).then(|| queued(queue)).flatten();
            queue_still(failure, queue, stops).or_else(silent)
        }
    }
}

/// nginx gave up waiting for bytes over a connection that was made.
pub(super) const fn is_for_answer(cause: Cause) -> bool {
    matches!(cause, Cause::ResponseTimeout | Cause::ResponseStalled | Cause::TlsTimeout)
}

/// What lets go of a connection later than that did not because nginx had.
const AT_ONCE_NS: u64 = 1_000_000_000;

/// This process had it, and closed it at that time without having answered; None: that was another connection's end.
pub(super) fn gave_up(failure: &Failure, actor: &Actor, closed_ns: u64) -> Option<Found> {
    let after_ns = closed_ns.checked_sub(failure.time_ns).filter(|after_ns| *after_ns < AT_ONCE_NS)?;
    if proxy::is_one(&actor.name) {
        return proxy::silent(&actor.name);
    }
    let (who, after) = (text::who(actor), text::duration(after_ns));
    let what = match failure.cause {
        Cause::ResponseStalled => "had not gone on with the answer",
        Cause::TlsTimeout => "had not gone on with the handshake",
        _ => "had not answered",
    };
    let text = format!("{who} had the connection and {what}; it closed it {after} after nginx gave up");
    let process = text::process(&Actor { ending: Ending::Alive, ..actor.clone() }, None, closed_ns);
    let root = record::Root { kind: RootKind::ApplicationSilent, text, process: Some(process), listener: None };
    Some(Found { root, hint: Some(was_doing(&actor.name)), evidence: None })
}

fn was_doing(process: &Name) -> String {
    let doing = Program::of(Some(process)).doing(process.pid);
    format!("find out what {} was doing: {doing}", text::name(process))
}

/// Its SYN was never answered.
pub(super) const fn unanswered(failure: &Failure) -> bool {
    matches!(failure.cause, Cause::ConnectTimeout | Cause::ConnectTimeoutKernel)
}

/// Its listener's queue is full: a SYN that comes to it is dropped (tcp_conn_request(), net/ipv4/tcp_input.c).
fn full_now(failure: &Failure, look: &Look, queue: &Queue) -> Option<Found> {
    let at = queue.at.parse().ok().filter(|_| queue.full)?;
    let numbers = |(queued, limit)| Overflowed { queued, limit, ..Overflowed::default() };
    let seen = queue.queued.zip(queue.limit).map(numbers);
    let owner = queue.owner().map(|seat| &seat.name);
    let mut found = queue::root(QueueFull::Accept, at, owner, seen.as_ref());
    let later = text::duration(look.taken_ns.saturating_sub(failure.time_ns));
    found.root.text += &format!(" (seen {later} after{})", place(queue).trim_end_matches(','));
    Some(found)
}

/// Where it is, where no more than its address says so.
const fn place(queue: &Queue) -> &'static str {
    if queue.by_address { ", in another network namespace, which has that address," } else { "" }
}

fn who(seat: &Seat) -> String {
    text::worker_of(&seat.name, seat.master.as_ref())
}

/// All that have the connection stand still.
fn held_still(failure: &Failure, by: &[Seat], stops: &impl Stops) -> Option<Found> {
    let all: Option<Vec<Still>> = by.iter().map(|seat| still(failure, seat, stops)).collect();
    let (seat, first) = (by.first()?, all?.into_iter().next()?);
    Some(stopped(seat, format!("{} has the connection and {}", who(seat), first.text), first.remedy, None))
}

/// All that could accept it stand still.
fn queue_still(failure: &Failure, queue: &Queue, stops: &impl Stops) -> Option<Found> {
    let accepting = queue.accepting();
    let all: Option<Vec<Still>> = accepting.iter().map(|seat| still(failure, seat, stops)).collect();
    let (seat, first) = (*accepting.first()?, all?.into_iter().next()?);
    let full = match (failure.connection.queue_full, failure.cause) {
        (Some(_), _) | (_, Cause::SocketBacklogFull | Cause::ConnectTimeout | Cause::ConnectTimeoutKernel) => {
            format!("the accept queue of {}{} was full", queue.at, place(queue))
        }
        _ => format!("nobody has accepted the connection to {}", queue.at),
    };
    let others = match accepting.len() {
        1 => String::new(),
        count => format!(", and so are all {count} that accept there"),
    };
    let text = format!("{full}: {} {}{others}", who(seat), first.text);
    Some(stopped(seat, text, first.remedy, Some(listener(queue))))
}

fn stopped(seat: &Seat, text: String, remedy: String, listener: Option<record::Listener>) -> Found {
    let root = record::Root { kind: RootKind::ProcessStopped, text, process: Some(process(seat)), listener };
    Found { root, hint: Some(remedy), evidence: None }
}

/// Somebody has it, and goes on.
fn silent(failure: &Failure, look: &Look, by: &[Seat]) -> Option<Found> {
    let Seen::Held { unread, unacknowledged, .. } = &look.seen else { return None };
    if unacknowledged.is_some_and(|bytes| bytes > 0) {
        return None; // It did answer.
    }
    let seat = by.iter().find(|seat| !by.iter().any(|other| other.name.pid == seat.parent)).or_else(|| by.first())?;
    if !matches!(seat.standing, Standing::Going) {
        return None;
    }
    if proxy::is_one(&seat.name) {
        return proxy::silent(&seat.name);
    }
    let later = text::duration(look.taken_ns.saturating_sub(failure.time_ns));
    let sent = failure.connection.bytes_sent.filter(|sent| *sent > 0);
    let untouched = unread.zip(sent).is_some_and(|(unread, sent)| u64::from(unread) >= sent);
    let what = match failure.cause {
        Cause::ResponseStalled => "has not gone on with the answer",
        Cause::TlsTimeout => "has not gone on with the handshake",
        Cause::SendTimeout => "does not read what nginx sends",
        _ if untouched => "has neither read nor answered the request",
        _ => "has not answered",
    };
    let root = record::Root {
        kind: RootKind::ApplicationSilent,
        text: format!("{} has the connection and {what} (seen {later} after)", who(seat)),
        process: Some(process(seat)),
        listener: None,
    };
    Some(Found { root, hint: Some(was_doing(&seat.name)), evidence: None })
}

/// Nobody has accepted it, though somebody could.
fn queued(queue: &Queue) -> Option<Found> {
    let owner = queue.owner()?;
    let accepting = queue.accepting();
    let busy = accepting.iter().filter(|seat| seat.connections > 0).count();
    let count = accepting.len();
    let forked = accepting.iter().any(|seat| seat.name.pid != owner.name.pid);
    // Several that share a place, or a socket that they were given, need not be one server's.
    let family = accepting.iter().all(|seat| [seat.name.pid, seat.parent].contains(&owner.name.pid));
    let name = text::name(&owner.name);
    let stopped = match accepting.iter().filter(|seat| seat.standing != Standing::Going).count() {
        0 => String::new(),
        count => format!(", {count} stand still"),
    };
    let they = match (count, busy) {
        _ if !family => format!("{count} processes accept there, {name} one of them; {busy} are at other connections"),
        (_, 0) if !forked => format!("{name} has not accepted it"),
        (1, 1) if !forked => match accepting[0].connections {
            1 => format!("{name} is at another connection"),
            others => format!("{name} has {others} other connections"),
        },
        (1, 1) => format!("the only worker of {name} is at another connection"),
        _ if busy == count => format!("all {count} workers of {name} are at other connections"),
        _ => format!("{name} has {count} workers, {busy} of them at other connections"),
    };
    let wait = queue.queued.filter(|queued| *queued > 1).map_or_else(String::new, |queued| format!(" ({queued} wait)"));
    let root = record::Root {
        kind: RootKind::NotAccepted,
        text: format!(
            "nobody has accepted the connection, it waits in the queue of {}{wait}: {they}{stopped}",
            queue.at
        ),
        process: None,
        listener: Some(listener(queue)),
    };
    let (more, _) = Program::of(Some(&owner.name)).more();
    let now = if forked && family { format!(", which has {count} now") } else { String::new() };
    let hint = format!("let {name}{now} accept sooner: {more}");
    Some(Found { root, hint: Some(hint), evidence: None })
}

fn listener(queue: &Queue) -> record::Listener {
    let owner = queue.owner().map(|seat| record::Owner::from(&seat.name));
    record::Listener { address: queue.at.clone(), limit: queue.limit, queued: queue.queued, owner }
}

fn process(seat: &Seat) -> record::ProcessFate {
    let Name { pid, comm } = seat.name.clone();
    record::ProcessFate { pid, comm, code: None, signal: None, oom: None }
}

#[cfg(test)]
mod tests;
