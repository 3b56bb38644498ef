//! What became of the request after a failed attempt: final, retried, truncated, or not known (yet).

use super::{
    link::{connecting, connection},
    script::{
        BODY, CONNECTING, HEADER, Kind, LOCATION, Step, check, closed_early, complaint, failures, memory, play,
        refused, retry, status, step, tick, told,
    },
};
use crate::model::event::{RequestNow, ResponseRead};

#[test]
fn an_error_page_makes_it_final() {
    check([refused(), status(502)], &["#1 connect_refused proven final", "502 nginx connect_refused #1"]);
}

#[test]
fn the_status_is_what_nginx_answered() {
    let verdicts = play([complaint("socket() failed", CONNECTING).errno(24), status(500)]);
    assert!(failures(&verdicts).all(|failure| failure.status == Some(500)));
}

#[test]
fn a_connect_for_the_same_request_makes_it_retried() {
    check([refused(), retry()], &["#1 connect_refused proven retried"]);
}

/// The next attempt took a cached connection, or a unix socket: no connect is seen, but nginx's attempt number.
#[test]
fn a_complaint_of_a_later_attempt_makes_it_retried() {
    let second = refused().attempt(2).on(connecting().failed(111).number(2));
    check(
        [refused(), second, status(502).attempt(2)],
        &["#1 connect_refused proven retried", "#2 connect_refused proven final", "502 nginx connect_refused #1 #2"],
    );
}

#[test]
fn a_complaint_without_an_attempt_makes_the_former_retried() {
    check(
        [refused(), complaint("no live upstreams", CONNECTING).attempt(2), status(502).attempt(2)],
        &["#1 connect_refused proven retried", "502 nginx no_live_upstreams #1"],
    );
}

/// The second attempt took a cached connection; its response, an error by itself, was replaced by nginx's page.
#[test]
fn an_error_page_of_a_later_attempt_makes_it_retried() {
    check(
        [refused(), status(502).attempt(2).accepted_header()],
        &["#1 connect_refused proven retried", "502 upstream upstream_status #1"],
    );
}

/// nginx's word about the second attempt was lost: the first is not what it answered for.
#[test]
fn a_later_attempt_that_is_not_seen_leaves_the_response_unexplained() {
    check([refused(), status(504).attempt(2)], &["#1 connect_refused proven retried", "504 nginx unexplained #1"]);
}

#[test]
fn it_is_unknown_when_nothing_follows() {
    check(
        [refused(), tick(19), refused().at(0x9000).on(connecting().failed(111).number(2))],
        &["#1 connect_refused proven unknown", "#2 connect_refused proven unknown"],
    );
}

/// Held for 20 ms, not longer.
#[test]
fn it_is_told_after_twenty_milliseconds() {
    let early = play([refused(), tick(19)]);
    let late = play([refused(), tick(20), status(502).after(5)]);
    assert_eq!(failures(&early).count(), 1, "at the end of the session at the latest");
    check([refused(), tick(19), status(502)], &["#1 connect_refused proven final", "502 nginx connect_refused #1"]);
    assert_eq!(told(&late).first().map(String::as_str), Some("#1 connect_refused proven unknown"));
}

#[test]
fn an_update_corrects_it() {
    check(
        [refused(), tick(20), status(502)],
        &["#1 connect_refused proven unknown", "#1 turns final", "502 nginx connect_refused #1"],
    );
    let second = refused().attempt(2).on(connecting().failed(111).number(2));
    check(
        [refused(), tick(20), second, retry()],
        &["#1 connect_refused proven unknown", "#1 turns retried", "#2 connect_refused proven retried"],
    );
    // A connect of so much later may be another request's at the same address.
    check([refused(), tick(20), retry()], &["#1 connect_refused proven unknown"]);
}

#[test]
fn it_is_corrected_once() {
    check(
        [refused(), tick(20), status(502), status(502)],
        &["#1 connect_refused proven unknown", "#1 turns final", "502 nginx connect_refused #1"],
    );
}

/// The client has its status: nothing is waited for, and an error page of later belongs to something else.
#[test]
fn a_body_that_breaks_off_is_truncated() {
    let cut = complaint("upstream prematurely closed connection", BODY)
        .accepted_header()
        .on(connection().received(4096, 5).fin(2));
    check([cut.clone()], &["#1 closed_mid_response proven truncated"]);
    check([cut.clone(), tick(0)], &["#1 closed_mid_response proven truncated"]);
    let verdicts = play([cut, retry()]);
    for failure in failures(&verdicts) {
        assert_eq!(failure.status, Some(200), "the client's, not an error of nginx");
        assert_eq!(told(&verdicts), ["#1 closed_mid_response proven truncated"]);
    }
}

/// The complaint stood at the end of what nginx had to read anyway: nothing was cut.
#[test]
fn a_response_that_nginx_had_read_did_not_fail() {
    let link = connection().received(4096, 5).rst(2);
    let said = complaint("recv() failed", BODY).errno(104).accepted_header().on(link.clone());
    let ended = |response| step(Kind::Closed(link.clone(), response));
    check([said.clone(), ended(ResponseRead::Complete), tick(20)], &[]);
    check([said.clone(), ended(ResponseRead::Cut)], &["#1 reset_mid_response proven truncated"]);
    check([said.clone(), ended(ResponseRead::Unknown)], &["#1 reset_mid_response proven truncated"]);
    // Nor is it named by what the request is answered with.
    let after = refused().attempt(2).on(connecting().failed(111).number(2));
    check(
        [said, ended(ResponseRead::Complete), after, status(502).attempt(2)],
        &["#1 connect_refused proven final", "502 nginx connect_refused #1"],
    );
    // Before the header it does not matter.
    let close = step(Kind::Closed(connecting().failed(111), ResponseRead::Complete));
    check([refused(), close], &["#1 connect_refused proven unknown"]);
}

/// Before an outcome stays unknown, nginx's memory is asked.
#[test]
fn what_no_hook_saw_is_asked_for() {
    let asked = |memory: Step| [refused(), memory, tick(20)];
    check(asked(memory(1, 0, LOCATION)), &["#1 connect_refused proven unknown"]);
    check(asked(memory(2, 0, LOCATION)), &["#1 connect_refused proven retried"]);
    check(asked(step(Kind::Memory(RequestNow::Unreadable))), &["#1 connect_refused proven unknown"]);
}

/// nginx before 1.21.2 complains about the end of a connection whose answer it has.
#[test]
fn an_attempt_that_was_answered_did_not_fail() {
    let ended = || {
        complaint("%*s SSL_read() failed (SSL: error:0A000126:SSL routines::unexpected eof while reading", HEADER)
            .on(connection().received(300, 2).fin(2))
    };
    check([ended(), memory(1, 200, LOCATION), tick(20)], &[]);
    check([ended(), step(Kind::Memory(RequestNow::Gone)), tick(20)], &[]);
    let told = |then: Step| told(&play([ended(), then, tick(20)])).remove(0);
    assert_eq!(told(memory(2, 200, LOCATION)), "#1 closed_before_response proven retried");
    assert_eq!(told(memory(1, 499, LOCATION)), "#1 closed_before_response proven unknown");
    assert_eq!(told(status(502)), "#1 closed_before_response proven final");
}

/// A request that ended without an error page was saved by another attempt; where error pages are heard, and nothing was lost.
#[test]
fn a_request_that_ended_without_an_error_page_was_saved() {
    let gone = || step(Kind::Memory(RequestNow::Gone));
    check([refused(), gone(), tick(20)], &["#1 connect_refused proven retried"]);
    check([step(Kind::Listens(false)), refused(), gone(), tick(20)], &["#1 connect_refused proven unknown"]);
    check([refused(), step(Kind::Lost), gone(), tick(20)], &["#1 connect_refused proven unknown"]);
    check([refused().cacheable(), gone(), tick(20)], &["#1 connect_refused proven unknown"]);
    // A client that may have gone without its connection, and a subrequest whose page its module may have swallowed.
    let multiplexed = refused().with(|request| request.line = Some("GET / HTTP/2.0".to_owned()));
    check([multiplexed, gone(), tick(20)], &["#1 connect_refused proven unknown"]);
    check([refused().subrequest(0x2000), gone(), tick(20)], &["#1 connect_refused proven unknown"]);
    // Not before every event until then is here: the page may be among them.
    check(
        [refused(), tick(19), gone().after(2000), status(502).after(0)],
        &["#1 connect_refused proven final", "502 nginx connect_refused #1"],
    );
}

#[test]
fn a_retry_concerns_its_own_request_and_worker() {
    check([refused(), retry().at(0x9000)], &["#1 connect_refused proven unknown"]);
    check([refused(), retry().worker(5000)], &["#1 connect_refused proven unknown"]);
    check([refused(), status(502).worker(5000)], &["#1 connect_refused proven unknown", "502 nginx unexplained"]);
}

/// Three peers, each with a failure of its own.
#[test]
fn only_the_last_of_several_attempts_is_final() {
    let number = |number: u64| connecting().failed(111).number(number);
    let timed_out = complaint("upstream timed out", HEADER).errno(110).attempt(3).on(connection().number(3));
    check(
        [
            refused(),
            retry(),
            refused().attempt(2).on(number(2)),
            retry(),
            timed_out.after(60_000),
            status(504).attempt(3),
        ],
        &[
            "#1 connect_refused proven retried",
            "#2 connect_refused proven retried",
            "#3 response_timeout proven final",
            "504 nginx response_timeout #1 #2 #3",
        ],
    );
}

#[test]
fn a_worker_that_goes_releases_what_is_held() {
    check([refused(), step(Kind::Gone), tick(0)], &["#1 connect_refused proven unknown"]);
    let verdicts = play([refused(), closed_early().worker(5000).on(connection().number(2).fin(2)), step(Kind::Gone)]);
    assert_eq!(failures(&verdicts).count(), 2, "each worker's on its own");
}
