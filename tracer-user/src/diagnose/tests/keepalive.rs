//! Reused connections: which died of having been idle, and which of the request.

use super::{
    link::{Link, connection, reused},
    script::{CONNECTING, HEADER, SENDING, Step, complaint, failures, play, told},
};
use crate::model::verdict::{Failure, RootKind};

/// nginx read an end of file from it.
fn closed_on(link: Link) -> Step {
    complaint("upstream prematurely closed connection", HEADER).cached(true).on(link)
}

fn reset_on(link: Link) -> Step {
    complaint("recv() failed", HEADER).errno(104).cached(true).on(link)
}

#[track_caller]
fn failure(step: Step) -> Failure {
    let verdicts = play([step]);
    failures(&verdicts).next().unwrap_or_else(|| panic!("a failure, not {:?}", told(&verdicts))).clone()
}

#[track_caller]
fn check(step: Step, expected: &str) {
    assert_eq!(told(&play([step])), [format!("#1 {expected} unknown")]);
}

#[test]
fn the_end_was_there_before_the_request() {
    check(closed_on(reused(5000).sent(100, 1).fin(40)), "stale_keepalive proven");
    check(reset_on(reused(5000).sent(100, 1).rst(40)), "stale_keepalive proven");
    check(
        complaint("writev() failed", SENDING).errno(32).cached(true).on(reused(5000).sent(100, 1).rst(40)),
        "stale_keepalive proven",
    );
    // The FIN was there, the RST answers what was written to the closed end.
    check(reset_on(reused(5000).sent(100, 3).fin(40).rst(2)), "stale_keepalive proven");
}

#[test]
fn the_end_answers_the_first_bytes() {
    check(closed_on(reused(5000).sent(100, 40).fin(2)), "stale_keepalive proven");
    check(reset_on(reused(5000).sent(100, 40).rst(2)), "stale_keepalive proven");
    // Who has the request may have died of it: a FIN acknowledges what came before it, of a RST it may be known whose close it was.
    let written = |step: Step| step.with(|request| request.sent = 100);
    check(written(closed_on(reused(5000).sent(100, 40).fin(2).acked(100))), "stale_keepalive likely");
    check(written(reset_on(reused(5000).sent(100, 40).rst(2))), "stale_keepalive proven");
    let by = |link: Link| written(reset_on(link.sent_by("TCP_STATE", Some((7, "app")))));
    check(by(reused(5000).sent(100, 40).rst(2)), "stale_keepalive likely");
    check(by(reused(5000).sent(100, 1).rst(40)), "stale_keepalive proven");
}

/// An upload that the upstream gave up after a while was no stale connection, however soon after the last piece of it.
#[test]
fn a_request_that_was_taken_in_is_not_stale() {
    let upload = |step: Step| step.with(|request| request.sent = 8 << 20);
    let given_up = |acked| reused(5000).sent(8 << 20, 3).rst(2).acked(acked);
    let sending = |link| upload(complaint("writev() failed", SENDING).errno(104).cached(true).on(link));
    check(sending(given_up(4 << 20)), "send_failed proven");
    check(upload(reset_on(given_up(4 << 20))), "reset_before_response proven");
    check(sending(given_up(0)), "stale_keepalive proven");
}

/// An application that worked on the request and then died is no keepalive race.
#[test]
fn a_request_that_was_worked_on_is_not_stale() {
    check(closed_on(reused(60_000).sent(100, 5002).fin(2)), "closed_before_response proven");
    check(reset_on(reused(60_000).sent(100, 5002).rst(2)), "reset_before_response proven");
    // It ended its side first, and then all.
    check(reset_on(reused(60_000).sent(100, 5002).fin(3).rst(2)), "reset_before_response proven");
}

/// In use until just now: it did not die of idling.
#[test]
fn a_busy_connection_is_not_stale() {
    check(closed_on(reused(0).sent(100, 40).fin(2)), "closed_before_response proven");
    check(reset_on(reused(4).sent(100, 40).rst(2)), "reset_before_response proven");
}

#[test]
fn bytes_of_a_response_exclude_staleness() {
    check(closed_on(reused(5000).sent(100, 40).received(17, 20).fin(2)), "closed_before_response proven");
    // What nginx itself has read counts: TLS gives notice of the end in bytes that are none of a response.
    let told_end =
        |read| closed_on(reused(5000).sent(100, 40).received(31, 2).fin(2)).with(|it| it.received = Some(read));
    check(told_end(0), "stale_keepalive proven");
    check(told_end(17), "closed_before_response proven");
}

#[test]
fn a_new_connection_is_never_stale() {
    check(closed_on(connection().fin(2)).cached(false), "closed_before_response proven");
    check(reset_on(connection().rst(2)).cached(false), "reset_before_response proven");
}

/// `peer.cached` could not be read: the counters tell.
#[test]
fn counters_tell_reuse_where_nginx_does_not() {
    let silent = |step: Step| step.with(|request| request.cached = None);
    check(silent(closed_on(reused(5000).sent(100, 40).fin(2))), "stale_keepalive proven");
    check(silent(closed_on(connection().fin(2))), "closed_before_response proven");
}

/// SO_ERROR of a cached connection, asked before the first write, reads like a connect.
#[test]
fn a_connect_that_never_was() {
    let said = complaint("connect() failed", CONNECTING).errno(104);
    let failure = failure(said.clone().cached(true).on(reused(5000).unsent().rst(40)));
    assert_eq!(
        told(&play([said.clone().cached(true).on(reused(5000).unsent().rst(40))])),
        ["#1 stale_keepalive proven unknown"]
    );
    assert!(failure.disagreement.is_some_and(|text| text.contains("no connect")));
    check(said.cached(false).on(connection().unsent().rst(1)), "connect_reset proven");
}

/// Older than the tracing: how it ended was not seen.
#[test]
fn a_preexisting_connection_is_likely_at_most() {
    check(closed_on(reused(5000).sent(100, 3).fin(2).preexisting()), "stale_keepalive likely");
    check(
        closed_on(reused(5000).sent(100, 3).fin(2).preexisting()).with(|request| request.cached = None),
        "stale_keepalive likely",
    );
    let connect = complaint("connect() failed", CONNECTING).errno(104).with(|request| request.cached = None);
    check(connect.on(connection().rst(2).preexisting()), "stale_keepalive likely");
}

#[test]
fn the_failure_says_how_long_it_had_idled() {
    let stale = failure(closed_on(reused(5000).sent(100, 40).fin(2)));
    assert_eq!((stale.connection.reused, stale.connection.idle_us), (Some(true), Some(5_000_000)));
    // Of the request, not of the connection.
    assert!(stale.started_ns.is_some_and(|start| stale.time_ns - start < 50_000_000));
    let fresh = failure(closed_on(connection().fin(2)).cached(false));
    assert_eq!((fresh.connection.reused, fresh.connection.idle_us), (Some(false), None));
    assert_eq!(fresh.connection.requests, Some(1));
}

#[test]
fn the_reason_is_the_idle_time() {
    let connect = complaint("connect() failed", CONNECTING).errno(104).cached(true);
    for (step, idle) in [
        (closed_on(reused(5000).sent(100, 40).fin(2)), "5.0 s"),
        (reset_on(reused(500).sent(100, 40).rst(2)), "500 ms"),
        (connect.on(reused(5000).unsent().rst(40)), "5.0 s"),
    ] {
        let root = failure(step).root.expect("a reason");
        assert_eq!(root.kind, RootKind::PeerIdleClose);
        assert!(root.text.contains(idle), "{}", root.text);
    }
}

/// No kernel witness counts a unix socket's bytes: whether it idled is not known.
#[test]
fn a_reused_unix_socket_is_not_proven() {
    let said = complaint("upstream prematurely closed connection", HEADER).on_unix();
    check(said.clone().cached(true), "closed_before_response likely");
    check(said.cached(false), "closed_before_response proven");
}

/// The kernel skipped the program that should have seen the end: the socket's state tells that there was one.
#[test]
fn an_end_that_was_missed_shows_in_the_state() {
    check(closed_on(reused(5000).sent(100, 1).fin(40).missed()), "stale_keepalive likely");
    let closed = complaint("upstream prematurely closed connection", HEADER).on(connection().fin(2).missed());
    check(closed, "closed_before_response proven");
}
