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
    let text = format!("{who} had the connection and had not answered; it closed it {after} after nginx gave up");
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
    found.root.text += &format!(" (seen {later} after)");
    Some(found)
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
            format!("the accept queue of {} was full", queue.at)
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
mod tests {
    use super::{Stops, root};
    use crate::{
        context::{
            ends::{Queue, Seat, Seen},
            standing::{Group, Standing},
        },
        model::{
            cause::Cause,
            host::{Actor, Ending, Name, Stop},
            verdict::{Failure, QueueFull},
        },
        record::RootKind,
        trace::{roots::samples::failure, waits::Look},
    };

    fn name(pid: u32) -> Name {
        Name { pid, comm: "gunicorn".into() }
    }

    fn seat(pid: u32, parent: u32, standing: Standing, connections: usize) -> Seat {
        let master = (parent != 1).then(|| name(parent));
        Seat { name: name(pid), parent, master, standing, connections }
    }

    fn timeout() -> Failure {
        Failure { time_ns: 5_000_000_000, ..failure(Cause::ResponseTimeout) }
    }

    /// When everything was stopped, and frozen, and whether that is seen.
    struct Known(Option<u64>, Option<u64>, bool);

    impl Stops for Known {
        fn signal(&self, _pid: u32) -> Option<Stop> {
            let sender = Name { pid: 3, comm: "bash".into() };
            self.0.map(|time_ns| Stop { time_ns, signal: 19, sender })
        }

        fn sees_signals(&self) -> bool {
            self.2
        }

        fn frozen_ns(&self, _group: u64) -> Option<u64> {
            self.1
        }

        fn sees_freezes(&self) -> bool {
            self.2
        }
    }

    fn sigstop(time_ns: u64) -> Known {
        Known(Some(time_ns), None, true)
    }

    fn said(failure: &Failure, seen: Seen, stops: &Known) -> Option<(RootKind, String)> {
        let look = Look { taken_ns: failure.time_ns + 4_000_000, seen };
        root(failure, &look, stops).map(|found| (found.root.kind, found.root.text))
    }

    fn held(standing: Standing) -> Seen {
        Seen::Held { by: vec![seat(977, 970, standing, 1)], unread: Some(3), unacknowledged: Some(0) }
    }

    fn queue(open: Vec<Seat>) -> Seen {
        Seen::Queued(Queue { at: "127.0.0.1:80".into(), limit: Some(64), queued: Some(2), full: false, open })
    }

    #[test]
    fn a_process_that_stood_still_when_it_failed() {
        let stops = sigstop(2_900_000_000);
        let (kind, text) = said(&timeout(), held(Standing::Stopped), &stops).expect("a reason");
        assert_eq!(kind, RootKind::ProcessStopped);
        assert_eq!(
            text,
            "gunicorn[977], a worker of gunicorn[970], has the connection and is stopped: SIGSTOP from bash[3] 2.1 s before"
        );
        let debugger = |pid| Standing::Traced(Name { pid, comm: "gdb".into() });
        assert_eq!(said(&timeout(), held(debugger(3)), &stops).expect("a reason").0, RootKind::ProcessStopped);
        assert_eq!(said(&timeout(), held(debugger(4)), &stops), None, "when it was stopped nobody knows");
    }

    #[test]
    fn stopped_only_afterwards_is_no_reason() {
        let stops = sigstop(5_000_000_001);
        assert_eq!(said(&timeout(), held(Standing::Stopped), &stops), None);
        assert_eq!(
            said(&timeout(), queue(vec![seat(10, 1, Standing::Stopped, 0)]), &stops).expect("a reason").0,
            RootKind::NotAccepted
        );
    }

    #[test]
    fn without_a_signal_it_was_stopped_before_or_nobody_knows() {
        let stops = |seen| Known(None, None, seen);
        let (_, text) = said(&timeout(), held(Standing::Stopped), &stops(true)).expect("a reason");
        assert!(text.ends_with("is stopped, since before the tracing began"), "{text}");
        assert_eq!(said(&timeout(), held(Standing::Stopped), &stops(false)), None);
    }

    #[test]
    fn a_frozen_control_group() {
        let frozen = || held(Standing::Frozen(Group { path: "/app.slice".into(), id: Some(7) }));
        let (kind, text) = said(&timeout(), frozen(), &Known(None, Some(1_000_000_000), true)).expect("a reason");
        assert_eq!(kind, RootKind::ProcessStopped);
        assert!(text.ends_with("stands still: its control group /app.slice was frozen 4.0 s before"), "{text}");
        assert_eq!(said(&timeout(), frozen(), &Known(None, Some(5_000_000_001), true)), None, "only afterwards");
        let (_, text) = said(&timeout(), frozen(), &Known(None, None, true)).expect("a reason");
        assert!(text.ends_with("was frozen before the tracing began"), "{text}");
        assert_eq!(said(&timeout(), frozen(), &Known(None, None, false)), None);
        let frozen = held(Standing::Frozen(Group { path: "/app".into(), id: None }));
        let (_, text) = said(&timeout(), frozen, &Known(None, None, true)).expect("a reason");
        assert!(text.ends_with("its control group /app is frozen, since when is not seen"), "{text}");
    }

    #[test]
    fn one_of_several_that_goes_on_could_have_answered() {
        let stops = sigstop(1);
        let by = vec![seat(977, 970, Standing::Going, 1), seat(978, 977, Standing::Stopped, 1)];
        let (kind, _) =
            said(&timeout(), Seen::Held { by, unread: None, unacknowledged: None }, &stops).expect("a reason");
        assert_eq!(kind, RootKind::ApplicationSilent);
        let open = vec![
            seat(10, 1, Standing::Going, 0),
            seat(11, 10, Standing::Stopped, 0),
            seat(12, 10, Standing::Stopped, 1),
        ];
        let (kind, text) = said(&timeout(), queue(open.clone()), &stops).expect("a reason");
        assert_eq!(kind, RootKind::ProcessStopped, "the master does not accept");
        assert!(text.contains("and so are all 2 that accept there"), "{text}");
        let mut open = open;
        open[2].standing = Standing::Going;
        assert_eq!(said(&timeout(), queue(open), &stops).expect("a reason").0, RootKind::NotAccepted);
    }

    #[test]
    fn who_has_it_and_is_silent() {
        let stops = Known(None, None, true);
        let (kind, text) = said(&timeout(), held(Standing::Going), &stops).expect("a reason");
        assert_eq!(kind, RootKind::ApplicationSilent);
        assert_eq!(
            text,
            "gunicorn[977], a worker of gunicorn[970], has the connection and has not answered (seen 4 ms after)"
        );
        let mut untouched = timeout();
        untouched.connection.bytes_sent = Some(3);
        assert!(said(&untouched, held(Standing::Going), &stops).expect("a reason").1.contains("neither read nor"));
    }

    #[test]
    fn who_should_have_accepted_it() {
        let stops = Known(None, None, true);
        let text = |open| {
            let (kind, text) = said(&timeout(), queue(open), &stops).expect("a reason");
            assert_eq!(kind, RootKind::NotAccepted);
            text.strip_prefix("nobody has accepted the connection, it waits in the queue of 127.0.0.1:80 (2 wait): ")
                .expect("where it waits")
                .to_owned()
        };
        let going = |pid, parent, connections| seat(pid, parent, Standing::Going, connections);
        let pool = |first, second| vec![going(10, 1, 0), going(11, 10, first), going(12, 10, second)];
        assert_eq!(text(pool(1, 1)), "all 2 workers of gunicorn[10] are at other connections");
        assert_eq!(text(pool(1, 0)), "gunicorn[10] has 2 workers, 1 of them at other connections");
        assert_eq!(text(vec![going(10, 1, 0)]), "gunicorn[10] has not accepted it");
        assert_eq!(text(vec![going(10, 1, 7)]), "gunicorn[10] has 7 other connections");
    }

    #[test]
    fn who_let_go_of_it_when_nginx_had_given_up() {
        let actor = Actor { name: name(977), parent: 970, master: Some(name(970)), ending: Ending::Alive };
        let timeout = timeout();
        let said = |after_ns: i64| {
            let found = super::gave_up(&timeout, &actor, timeout.time_ns.saturating_add_signed(after_ns))?;
            Some((found.root.kind, found.root.text))
        };
        let (kind, text) = said(3_000_000).expect("a reason");
        assert_eq!(kind, RootKind::ApplicationSilent);
        assert_eq!(
            text,
            "gunicorn[977], a worker of gunicorn[970], had the connection and had not answered; it closed it 3 ms after nginx gave up"
        );
        assert_eq!((said(-1), said(1_000_000_000)), (None, None), "before, or long after");
    }

    #[test]
    fn a_full_queue_is_named_by_others_unless_all_stand_still() {
        let mut full = Failure { time_ns: 5_000_000_000, ..failure(Cause::ConnectTimeout) };
        full.connection.queue_full = Some(QueueFull::Accept);
        let stops = sigstop(1);
        assert_eq!(said(&full, queue(vec![seat(10, 1, Standing::Going, 0)]), &stops), None);
        let (kind, text) = said(&full, queue(vec![seat(10, 1, Standing::Stopped, 0)]), &stops).expect("a reason");
        assert_eq!(kind, RootKind::ProcessStopped);
        assert!(text.starts_with("the accept queue of 127.0.0.1:80 was full: gunicorn[10] is stopped"), "{text}");
    }

    #[test]
    fn a_syn_without_an_answer_is_explained_by_a_queue_that_is_full() {
        let failure = Failure { time_ns: 5_000_000_000, ..failure(Cause::ConnectTimeout) };
        let stops = sigstop(1);
        let seen = |standing: Standing, full| {
            let Seen::Queued(queue) = queue(vec![seat(10, 1, standing, 0)]) else { unreachable!() };
            Seen::Queued(Queue { limit: Some(1), full, ..queue })
        };
        assert_eq!(said(&failure, seen(Standing::Going, false), &stops), None);
        assert_eq!(said(&failure, seen(Standing::Stopped, false), &stops), None, "its kernel would answer");
        let (kind, text) = said(&failure, seen(Standing::Going, true), &stops).expect("a reason");
        assert_eq!(kind, RootKind::AcceptQueueFull);
        assert!(
            text.starts_with("the accept queue of 127.0.0.1:80 was full (2, its limit is 1): gunicorn[10]"),
            "{text}"
        );
        assert!(text.ends_with("(seen 4 ms after)"), "{text}");
        let (kind, _) = said(&failure, seen(Standing::Stopped, true), &stops).expect("a reason");
        assert_eq!(kind, RootKind::ProcessStopped);
    }
}
