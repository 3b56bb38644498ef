//! Two witnesses of one attempt: where they differ it is said, and who is believed; and the reason behind the cause.

use super::{
    link::{Link, connecting, connection},
    script::{BODY, CONNECTING, HANDSHAKING, HEADER, SENDING, Step, complaint, failures, play, told},
};
use crate::model::verdict::{Failure, Phase, RootKind};

#[track_caller]
fn failure(step: Step) -> Failure {
    let verdicts = play([step]);
    failures(&verdicts).next().unwrap_or_else(|| panic!("a failure, not {:?}", told(&verdicts))).clone()
}

/// Cause, confidence, and a part of the disagreement; "": there is none.
#[track_caller]
fn check(step: Step, cause: &str, confidence: &str, disagreement: &str) {
    let failure = failure(step);
    let found = (failure.cause.id(), format!("{:?}", failure.confidence).to_lowercase());
    assert_eq!(found, (cause, confidence.to_owned()), "{:?}", failure.disagreement);
    match failure.disagreement {
        Some(text) => assert!(!disagreement.is_empty() && text.contains(disagreement), "{text}"),
        None => assert_eq!(disagreement, "", "{cause}"),
    }
}

fn closed_on(link: Link) -> Step {
    complaint("upstream prematurely closed connection", HEADER).on(link)
}

fn reset_on(link: Link) -> Step {
    complaint("recv() failed", HEADER).errno(104).on(link)
}

fn timed_out(action: &'static str, link: Link) -> Step {
    complaint("upstream timed out", action).errno(110).on(link)
}

#[test]
fn an_end_of_file_under_tls_may_have_been_a_reset() {
    check(closed_on(connection().rst(2)), "reset_before_response", "proven", "received a RST");
    let body = complaint("upstream prematurely closed connection", BODY).accepted_header();
    check(body.on(connection().received(4096, 5).rst(2)), "reset_mid_response", "proven", "received a RST");
}

/// nginx met the error of the connect in a later call, and takes it for an answer.
#[test]
fn a_connect_that_was_never_made_is_no_reset() {
    let never = || connecting().failed(113);
    check(reset_on(never()).errno(113), "connect_unreachable", "proven", "never completed");
    check(closed_on(connecting().failed(111)), "connect_refused", "proven", "never completed");
    let written = complaint("writev() failed", SENDING).errno(32).on(never());
    check(written, "connect_unreachable", "proven", "never completed");
}

/// The RST answers what nginx wrote after the FIN: nginx read the end of file first.
#[test]
fn a_reset_after_the_fin_is_a_close() {
    check(closed_on(connection().fin(5).rst(2)), "closed_before_response", "proven", "");
}

/// A TLS session ends by what is received.
#[test]
fn an_end_of_file_may_be_ahead_of_the_fin() {
    check(closed_on(connection().received(31, 1)), "closed_before_response", "proven", "");
}

#[test]
fn words_that_the_kernel_did_not_see_come_true_are_likely() {
    check(closed_on(connection()), "closed_before_response", "likely", "no FIN");
    check(reset_on(connection()), "reset_before_response", "likely", "no RST");
    let refused = complaint("connect() failed", CONNECTING).errno(111);
    check(refused.on(connecting().failed(113)), "connect_refused", "likely", "EHOSTUNREACH");
}

#[test]
fn a_timer_that_fires_late_is_likely() {
    check(timed_out(CONNECTING, connection()), "connect_timeout", "likely", "completed the handshake");
    check(timed_out(CONNECTING, connecting().failed(113)), "connect_timeout", "likely", "with an error");
    check(timed_out(HEADER, connection().fin(2)), "response_timeout", "likely", "had closed");
    check(timed_out(HEADER, connection().rst(2)), "response_timeout", "likely", "had failed");
    check(timed_out(HANDSHAKING, connection()), "tls_timeout", "proven", "");
}

#[test]
fn nginx_alone_is_likely() {
    let alone = |literal, action, errno| complaint(literal, action).errno(errno);
    check(alone("connect() failed", CONNECTING, 111), "connect_refused", "likely", "");
    check(alone("upstream timed out", CONNECTING, 110), "connect_timeout", "likely", "");
    check(alone("upstream timed out", HEADER, 110), "response_timeout", "likely", "");
    check(alone("upstream prematurely closed connection", HEADER, 0), "closed_before_response", "likely", "");
    check(alone("recv() failed", HEADER, 104), "reset_before_response", "likely", "");
    check(alone("writev() failed", SENDING, 32), "send_failed", "likely", "");
    // connect(2) told nginx, and what came in was nginx's to judge.
    check(alone("connect() to %V failed", CONNECTING, 99), "ports_exhausted", "proven", "");
    check(alone("upstream sent too big header", HEADER, 0), "header_too_big", "proven", "");
}

#[test]
fn nothing_listens_where_the_kernel_had_no_socket() {
    let refused = complaint("connect() failed", CONNECTING).errno(111);
    let root = failure(refused.clone().on(connecting().failed(111).sent_by("NO_SOCKET", None))).root;
    assert_eq!(root.map(|root| root.kind), Some(RootKind::NotListening));
    // Elsewhere, or a firewall's: not to be told apart.
    assert_eq!(failure(refused.clone().on(connecting().failed(111))).root, None);
    assert_eq!(failure(refused.on(connecting().failed(111).sent_by("NOT_SPECIFIED", None))).root, None);
}

#[test]
fn the_process_that_reset_is_named() {
    let by = |reason| connection().rst(2).sent_by(reason, Some((77, "python3")));
    for step in [reset_on(by("TCP_ABORT_ON_CLOSE")), closed_on(by("TCP_ABORT_ON_CLOSE"))] {
        let root = failure(step).root.expect("a reason");
        assert_eq!((root.kind, root.process), (RootKind::UnreadData, Some((77, "python3".to_owned()))));
    }
    let root = failure(reset_on(by("TCP_ABORT_ON_LINGER"))).root.expect("a reason");
    assert_eq!(root.kind, RootKind::ApplicationClosed);
    assert_eq!(failure(reset_on(connection().rst(2).sent_by("NO_SOCKET", None))).root, None);
}

#[test]
fn the_phase_is_where_the_attempt_was() {
    for (step, phase) in [
        (complaint("connect() failed", CONNECTING).errno(111).on(connecting().failed(111)), Phase::Connect),
        (timed_out(HANDSHAKING, connection()), Phase::Tls),
        (timed_out(SENDING, connection()), Phase::Send),
        (closed_on(connection().fin(2)), Phase::Header),
        (timed_out(BODY, connection().received(4096, 5)).accepted_header(), Phase::Body),
    ] {
        assert_eq!(failure(step).phase, phase);
    }
}

/// The facts are in order, nginx's word last, and nothing happens before the attempt began.
#[test]
fn evidence_tells_the_story_in_order() {
    for step in [closed_on(connection().fin(2)), reset_on(connection().rst(2)), closed_on(connection().fin(5).rst(2))] {
        let failure = failure(step);
        let times: Vec<u64> = failure.evidence.iter().map(|fact| fact.time_ns).collect();
        assert!(times.is_sorted(), "{:?}", failure.evidence);
        assert!(failure.evidence.last().is_some_and(|fact| fact.source == "uprobe/ngx_log_error_core"));
        assert!(failure.started_ns.is_some_and(|start| start <= failure.time_ns));
        assert_eq!(failure.upstream.map(|upstream| upstream.to_string()).as_deref(), Some("127.0.0.1:8080"));
    }
}
