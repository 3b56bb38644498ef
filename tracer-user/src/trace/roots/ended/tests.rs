//! Ends of processes and what they explain.

use super::{Close, by_server, closed, ended_it, root};
use crate::{
    collect::host::Closer,
    model::{
        address::Address,
        cause::Cause,
        host::{Actor, Ending, Fate, Name},
        verdict::{ResetBy, Root, RootKind},
    },
    trace::roots::samples::failure,
};

fn actor(ending: Ending) -> Actor {
    Actor { name: Name { pid: 412, comm: "python3".into() }, parent: 400, master: None, ending }
}

fn killed(by: u32) -> Ending {
    Ending::Killed { signal: by, core: false }
}

fn fate(oom_ns: Option<u64>, signal: Option<(u64, u32, u32)>) -> Fate {
    let sender = |(time, number, pid)| (time, number, Name { pid, comm: "bash".into() });
    Fate { oom_ns, signal: signal.map(sender), reload: None }
}

fn said(ending: Ending, fate: Option<&Fate>) -> (RootKind, String) {
    let actor = actor(ending);
    let close = Close::new(&actor, 1_000, None);
    let found = root(&failure(Cause::ClosedBeforeResponse), &close, |_| fate.cloned()).expect("a reason");
    (found.root.kind, found.root.text)
}

#[test]
fn how_it_ended() {
    use RootKind::{ApplicationClosed, OomKilled, ProcessExited, ProcessKilled};
    let by_bash = fate(None, Some((900, 9, 399)));
    for (ending, fate, kind, text) in [
        (killed(9), None, ProcessKilled, "python3[412] was killed by SIGKILL with the request unanswered"),
        (
            killed(9),
            Some(&by_bash),
            ProcessKilled,
            "python3[412] was killed by SIGKILL from bash[399] with the request unanswered",
        ),
        // The signal that was sent is not the one that ended it.
        (killed(11), Some(&by_bash), ProcessKilled, "python3[412] was killed by SIGSEGV with the request unanswered"),
        (
            killed(9),
            Some(&fate(Some(990), None)),
            OomKilled,
            "python3[412] was killed by the kernel for memory (OOM) with the request unanswered",
        ),
        (Ending::Exited(1), None, ProcessExited, "python3[412] exited with code 1 with the request unanswered"),
        (
            Ending::Alive,
            None,
            ApplicationClosed,
            "python3[412] closed the connection without answering, and was not exiting then",
        ),
    ] {
        assert_eq!(said(ending, fate), (kind, text.to_owned()));
    }
}

#[test]
fn what_was_answered_is_not_called_unanswered() {
    let said = |cause, bytes_received| {
        let mut failure = failure(cause);
        failure.connection.bytes_received = bytes_received;
        closed(&failure)
    };
    for bytes in [None, Some(0)] {
        assert_eq!(said(Cause::ClosedBeforeResponse, bytes), "closed the connection without answering");
        assert_eq!(said(Cause::ResetBeforeResponse, bytes), "closed the connection without answering");
    }
    assert_eq!(said(Cause::ResetBeforeResponse, Some(17)), "closed the connection", "a part of a header");
    assert_eq!(said(Cause::ResetMidResponse, Some(17)), "closed the connection in the middle of the response");
    assert_eq!(
        said(Cause::SendFailed, Some(17)),
        "closed the connection",
        "it may have answered while nginx was sending"
    );
    assert_eq!(said(Cause::StaleKeepalive, Some(17)), "closed a connection that nginx had kept");
}

#[test]
fn who_closed_after_an_answer_is_not_known_better_than_who_listens() {
    let name = |pid, comm: &str| Name { pid, comm: comm.into() };
    let at = Address::Tcp("127.0.0.1:80".parse().expect("an address"));
    let mut failure = failure(Cause::ClosedMidResponse);
    failure.time_ns = 3_000_000_000;
    let said = |fate: Option<&Fate>| by_server(&failure, &at, "", &name(412, "node"), fate).root;
    let root = said(None);
    assert_eq!((root.kind, root.process), (RootKind::ApplicationClosed, None));
    assert_eq!(root.listener.expect("a listener").owner.expect("an owner").pid, 412);
    assert!(root.text.ends_with("closed it and was not seen exiting then"), "{}", root.text);
    let told = Fate { oom_ns: None, signal: Some((2_600_000_000, 15, name(1, "systemd"))), reload: None };
    assert!(said(Some(&told)).text.ends_with("then, 400 ms after SIGTERM from systemd[1] to node[412]"));
    let elsewhere = by_server(&failure, &at, " (as seen 1.5 s before)", &name(412, "node"), None).root.text;
    assert!(
        elsewhere.starts_with("node[412], which listens on 127.0.0.1:80 (as seen 1.5 s before), or"),
        "{elsewhere}"
    );
}

#[test]
fn memory_does_not_explain_another_death() {
    let fate = fate(Some(990), None);
    assert_eq!(said(killed(11), Some(&fate)).0, RootKind::ProcessKilled);
    assert_eq!(said(Ending::Exited(0), Some(&fate)).0, RootKind::ProcessExited);
    // A victim of an earlier process of that number.
    let actor = actor(killed(9));
    let close = Close::new(&actor, 200_000_000_000, None);
    let found = root(&failure(Cause::ClosedBeforeResponse), &close, |_| Some(fate.clone()));
    assert_eq!(found.expect("a reason").root.kind, RootKind::ProcessKilled);
}

#[test]
fn the_same_ports_served_another_connection_before() {
    let mut failure = failure(Cause::ClosedBeforeResponse);
    failure.connection.connected_ns = Some(500);
    failure.time_ns = 10_000_000;
    let name = Name { pid: 412, comm: "python3".into() };
    let by = Actor { name, parent: 1, master: None, ending: Ending::Alive };
    let at = |time_ns, resets| Closer { time_ns, by: by.clone(), resets };
    assert!(!ended_it(&failure, &at(400, false)), "closed before this connection was made");
    assert!(ended_it(&failure, &at(600, false)));
    assert!(!ended_it(&failure, &at(20_000_000, false)), "closed long after it had ended");
    assert!(!ended_it(&failure, &at(20_000_000, true)), "no RST came");
    failure.connection.reset = Some(ResetBy::Unseen);
    assert!(ended_it(&failure, &at(20_000_000, true)), "told of after it was sent");
    assert!(!ended_it(&failure, &at(20_000_000, false)));
}

#[test]
fn unread_data_says_more_than_a_close() {
    let mut failure = failure(Cause::ResetBeforeResponse);
    failure.root = Some(Root { kind: RootKind::UnreadData, text: String::new(), process: None });
    let (lives, dead) = (actor(Ending::Alive), actor(killed(9)));
    assert!(root(&failure, &Close::new(&lives, 1_000, None), |_| None).is_none());
    let found = root(&failure, &Close::new(&dead, 1_000, None), |_| None).expect("a death says more");
    assert_eq!(found.root.kind, RootKind::ProcessKilled);
}

#[test]
fn an_end_much_later_may_have_another_reason() {
    let (lives, failure) = (actor(Ending::Alive), failure(Cause::ClosedBeforeResponse));
    let said = |later_ns: u64| {
        let end = (actor(Ending::Exited(3)), 1_000 + later_ns);
        let close = Close::new(&lives, 1_000, Some(&end));
        assert!(close.has_ended(None));
        let root = root(&failure, &close, |_| None).expect("a reason").root;
        (root.kind, root.process.and_then(|process| process.code), root.text)
    };
    let text =
        |later| format!("python3[412] closed the connection without answering, and exited with code 3 {later} later");
    assert_eq!(said(20_000_000), (RootKind::ProcessExited, Some(3), text("20 ms")));
    assert_eq!(said(803_000_000), (RootKind::ApplicationClosed, None, text("803 ms")));
}

#[test]
fn a_signal_that_it_had_survived_did_not_end_it() {
    let (exits, mut failure) = (actor(Ending::Exited(7)), failure(Cause::ClosedBeforeResponse));
    let told = fate(None, Some((1_000_000_000, 15, 399)));
    let mut said = |connected_ns| {
        (failure.connection.connected_ns, failure.time_ns) = (Some(connected_ns), 12_000_000_000);
        let close = Close::new(&exits, 12_000_000_000, None);
        root(&failure, &close, |_| Some(told.clone())).expect("a reason").root.text
    };
    assert_eq!(said(11_900_000_000), "python3[412] exited with code 7 with the request unanswered");
    assert!(said(900_000_000).starts_with("python3[412] exited with code 7 (11.0 s after SIGTERM from bash[399])"));
}

/// As gunicorn does with a worker that takes too long: it handles SIGABRT, closes, and exits.
#[test]
fn a_worker_that_its_master_told_to_end_closes_first() {
    let name = |pid, comm: &str| Name { pid, comm: comm.into() };
    let worker = Actor { master: Some(name(400, "gunicorn: maste")), ..actor(Ending::Alive) };
    let aborted = Fate { oom_ns: None, signal: Some((5_000_000, 6, name(400, "gunicorn: maste"))), reload: None };
    let fates = |pid| (pid == 412).then(|| aborted.clone());
    let failure = failure(Cause::ClosedBeforeResponse);
    let close = Close::new(&worker, 8_000_000, None);
    assert!(close.is_leaving(fates(412).as_ref()));
    let found = root(&failure, &close, fates).expect("a reason");
    assert_eq!(found.root.kind, RootKind::ApplicationClosed, "it has not exited yet");
    assert_eq!(
        found.root.text,
        "python3[412], a worker of gunicorn: maste[400], closed the connection without answering, 3 ms after SIGABRT \
         from gunicorn: maste[400]"
    );
    let ended = (Actor { ending: Ending::Exited(1), ..worker.clone() }, 20_000_000);
    let close = Close::new(&worker, 8_000_000, Some(&ended));
    assert!(!close.is_leaving(fates(412).as_ref()));
    let found = root(&failure, &close, fates).expect("a reason");
    assert_eq!(found.root.kind, RootKind::ProcessExited);
    assert!(found.root.text.ends_with("from gunicorn: maste[400], and exited with code 1 12 ms later"));
    assert!(found.hint.expect("a hint").contains("ended its own worker"));
    // It closed by itself, and was killed for another reason then.
    let ended = (Actor { ending: killed(9), ..worker.clone() }, 60_000_000);
    let later = Fate { oom_ns: None, signal: Some((50_000_000, 9, name(3, "bash"))), reload: None };
    let found = root(&failure, &Close::new(&worker, 8_000_000, Some(&ended)), |_| Some(later.clone()));
    assert!(found.expect("a reason").root.text.ends_with("and was not exiting then"));
    // A signal of long ago, and an end of long after, have nothing to do with it.
    let close = Close::new(&worker, 8_000_000_000, Some(&ended));
    assert!(root(&failure, &close, fates).expect("a reason").root.text.ends_with("and was not exiting then"));
}

#[test]
fn a_master_that_was_told_to_end_ends_its_workers() {
    let name = |pid, comm: &str| Name { pid, comm: comm.into() };
    let worker = Actor { master: Some(name(400, "gunicorn: maste")), ..actor(killed(9)) };
    let fates = |pid| {
        let signal = match pid {
            412 => (5_000_000, 9, name(400, "gunicorn: maste")),
            400 => (4_000_000, 15, name(1, "systemd")),
            _ => return None,
        };
        Some(Fate { oom_ns: None, signal: Some(signal), reload: None })
    };
    let found = root(&failure(Cause::ClosedBeforeResponse), &Close::new(&worker, 6_000_000, None), fates);
    let found = found.expect("a reason");
    assert_eq!(
        found.root.text,
        "python3[412], a worker of gunicorn: maste[400], was killed by SIGKILL from gunicorn: maste[400], as its master \
         had SIGTERM from systemd[1], with the request unanswered"
    );
    assert!(found.hint.expect("a hint").starts_with("systemd[1] told gunicorn: maste[400]"));
}

#[test]
fn a_crash_soon_after_a_reload_is_no_reload() {
    let name = |pid, comm: &str| Name { pid, comm: comm.into() };
    let reloaded = Fate { reload: Some((4_000_000, 1, name(1, "systemd"))), ..fate(None, None) };
    let said = |ending, own: Option<Fate>| {
        let worker = Actor { master: Some(name(400, "gunicorn: maste")), ..actor(ending) };
        let fates = |pid| if pid == 400 { Some(reloaded.clone()) } else { own.clone() };
        let close = Close::new(&worker, 30_000_000_000, None);
        root(&failure(Cause::ClosedBeforeResponse), &close, fates).expect("a reason").root.text
    };
    let by_master = Fate { signal: Some((29_000_000_000, 15, name(400, "gunicorn: maste"))), ..fate(None, None) };
    let ordered = "as its master had SIGHUP from systemd[1]";
    assert!(!said(killed(11), None).contains(ordered), "it crashed");
    assert!(!said(Ending::Exited(1), None).contains(ordered), "so it did");
    assert!(said(Ending::Exited(0), None).contains(ordered));
    assert!(said(killed(15), Some(by_master)).contains(ordered));
}

#[test]
fn a_list_of_threads_ends_nothing() {
    let java = Actor { name: Name { pid: 412, comm: "java".into() }, ..actor(Ending::Exited(3)) };
    let listed = fate(None, Some((900, 3, 399)));
    let found = |actor: &Actor| {
        let close = Close::new(actor, 1_000, None);
        root(&failure(Cause::ClosedBeforeResponse), &close, |_| Some(listed.clone())).expect("a reason").root.text
    };
    assert!(!found(&java).contains("SIGQUIT"), "{}", found(&java));
    assert!(found(&actor(Ending::Exited(3))).contains("after SIGQUIT"));
}
