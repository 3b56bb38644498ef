//! Where requests wait, and who is named.

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
    Seen::Queued(Queue {
        at: "127.0.0.1:80".into(),
        limit: Some(64),
        queued: Some(2),
        full: false,
        by_address: false,
        open,
    })
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
    let (kind, _) = said(&timeout(), Seen::Held { by, unread: None, unacknowledged: None }, &stops).expect("a reason");
    assert_eq!(kind, RootKind::ApplicationSilent);
    let open =
        vec![seat(10, 1, Standing::Going, 0), seat(11, 10, Standing::Stopped, 0), seat(12, 10, Standing::Stopped, 1)];
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
    assert!(text.starts_with("the accept queue of 127.0.0.1:80 was full (2, its limit is 1): gunicorn[10]"), "{text}");
    assert!(text.ends_with("(seen 4 ms after)"), "{text}");
    let (kind, _) = said(&failure, seen(Standing::Stopped, true), &stops).expect("a reason");
    assert_eq!(kind, RootKind::ProcessStopped);
    let elsewhere = |standing| {
        let Seen::Queued(queue) = seen(standing, true) else { unreachable!() };
        said(&failure, Seen::Queued(Queue { by_address: true, ..queue }), &stops).expect("a reason").1
    };
    let text = elsewhere(Standing::Going);
    assert!(text.ends_with("(seen 4 ms after, in another network namespace, which has that address)"), "{text}");
    let text = elsewhere(Standing::Stopped);
    assert!(text.contains("127.0.0.1:80, in another network namespace, which has that address, was full"), "{text}");
}
