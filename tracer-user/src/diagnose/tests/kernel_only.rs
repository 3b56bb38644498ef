//! Without nginx's word: what the kernel alone proves, what its silence means, and what an error page adds.

use super::{
    link::{Link, connecting, connection, reused},
    script::{Kind, Step, WORKER, check, closed, failures, play, refused, responses, status, step, tick, told},
};
use crate::model::verdict::Purpose;

/// Nobody hears nginx's complaints.
fn deaf() -> Step {
    step(Kind::Listens(false))
}

#[track_caller]
fn alone(link: Link, expected: &[&str]) {
    check([deaf(), closed(link), tick(20)], expected);
}

/// nginx could have been heard, and said nothing.
#[track_caller]
fn heard(link: Link, expected: &[&str]) {
    check([closed(link), tick(20)], expected);
}

#[test]
fn a_connect_that_the_kernel_ended_is_likely() {
    for (errno, cause) in [
        (111, "connect_refused"),
        (113, "connect_unreachable"),
        (101, "connect_unreachable"),
        (110, "connect_timeout_kernel"),
        (90, "connect_failed"),
    ] {
        let expected = format!("#1 {cause} likely unknown");
        alone(connecting().failed(errno), &[&expected]);
        heard(connecting().failed(errno), &[&expected]);
    }
    assert!(failures(&play([closed(connecting().failed(111))])).all(|failure| failure.purpose == Purpose::Unknown));
}

#[test]
fn an_end_with_a_request_outstanding_is_likely() {
    alone(connection().fin(2), &["#1 closed_before_response likely unknown"]);
    alone(connection().rst(2), &["#1 reset_before_response likely unknown"]);
    alone(connection().fin(5).rst(2), &["#1 closed_before_response likely unknown"]);
    alone(connection().given_up(110), &["#1 response_timeout_kernel likely unknown"]);
    alone(connection().unsent().rst(2), &["#1 connect_reset likely unknown"]);
}

/// A timer of nginx, a client that left, a shutdown: nothing in the kernel tells.
#[test]
fn a_close_by_nginx_without_an_error_is_unexplained() {
    alone(connection(), &["#1 unexplained unknown unknown"]);
    alone(connecting(), &["#1 unexplained unknown unknown"]);
}

/// It would have said something, had it been an error.
#[test]
fn silence_of_a_worker_that_is_heard_means_that_all_is_well() {
    for link in [
        connection().fin(2),
        connection().rst(2),
        connection().given_up(110),
        connection().unsent().rst(2),
        connection(),
        connecting(),
        reused(5000).fin(2),
        reused(5000).rst(2),
    ] {
        heard(link, &[]);
    }
}

#[test]
fn what_proves_no_failure_is_none() {
    // A response, or a part of one, had come.
    alone(connection().received(500, 5).fin(2), &[]);
    alone(connection().received(500, 5).rst(2), &[]);
    // Of a former request: nothing can be claimed.
    alone(reused(5000).fin(2), &[]);
    // Nobody waited for anything.
    alone(connection().fin(2).settled(), &[]);
    alone(connection().unsent().fin(2), &[]);
    // Another process held the descriptor.
    alone(connection().closed_by_other(), &[]);
    alone(connection().received(500, 5), &[]);
}

/// Workers close what they have left when they are told to go.
#[test]
fn a_worker_that_goes_takes_its_silence_with_it() {
    for link in [connection(), connection().fin(2), connection().rst(2)] {
        check([closed(link), step(Kind::Gone), tick(20)], &[]);
    }
    check([closed(connecting().failed(111)), step(Kind::Gone), tick(20)], &["#1 connect_refused likely unknown"]);
}

/// do_exit() (kernel/exit.c) tells of the exit before it closes the files: no decision of nginx.
#[test]
fn what_the_kernel_closes_for_a_worker_that_is_gone_is_no_failure() {
    for link in [connection(), connecting(), connection().fin(2), connection().rst(2)] {
        check([step(Kind::Gone), closed(link.clone()), tick(20)], &[]);
        check([deaf(), step(Kind::Gone), closed(link), tick(20)], &[]);
    }
    let verdicts = play([deaf(), step(Kind::Gone), step(Kind::Appeared), closed(connection().fin(2)), tick(20)]);
    assert_eq!(failures(&verdicts).count(), 1, "of a new worker with its pid");
}

#[test]
fn it_is_told_after_twenty_milliseconds() {
    let verdicts = play([deaf(), closed(connection().fin(2)), tick(19)]);
    assert_eq!(failures(&verdicts).count(), 1, "at the end of the session at the latest");
    let number = |number| closed(connection().fin(2).number(number));
    let verdicts = play([deaf(), number(1), tick(20), number(2)]);
    assert_eq!(failures(&verdicts).count(), 2);
}

#[test]
fn a_close_after_the_complaint_is_not_told_again() {
    let close = closed(connecting().failed(111));
    check(
        [refused(), close.clone(), status(502)],
        &["#1 connect_refused proven final", "502 nginx connect_refused #1"],
    );
    check([deaf(), refused(), close.clone(), close], &["#1 connect_refused proven unknown"]);
}

/// `error_log … crit`: the error page is nginx's only word.
#[test]
fn an_error_page_explains_the_close_before_it() {
    let page = |code| status(code).log_level(2);
    for (link, code, cause) in [
        (connecting().failed(111), 502, "connect_refused"),
        (connecting(), 504, "connect_timeout"),
        (connection(), 504, "response_timeout"),
        (connection().fin(2), 502, "closed_before_response"),
        (connection().rst(2), 502, "reset_before_response"),
        (connection().unsent().rst(2), 502, "connect_reset"),
        (connection().given_up(110), 502, "response_timeout_kernel"),
    ] {
        check(
            [closed(link), page(code), tick(20)],
            &[&format!("#1 {cause} likely final"), &format!("{code} nginx {cause} #1")],
        );
    }
}

#[test]
fn the_failure_behind_a_silent_error_page_is_the_requests() {
    let verdicts = play([closed(connection().fin(2)), status(502).log_level(2)]);
    let failure = failures(&verdicts).next().expect("a failure");
    let response = responses(&verdicts).next().expect("a response");
    assert_eq!(failure.request_key, Some(response.request_key));
    assert_eq!((failure.purpose, failure.status), (Purpose::Http, Some(502)));
}

/// nginx uses the memory again within the millisecond.
#[test]
fn each_silent_error_page_has_its_own_close() {
    let close = |number| closed(connection().fin(2).number(number));
    let page = || status(502).log_level(2);
    check(
        [close(1), page(), tick(20), close(2), page()],
        &[
            "#1 closed_before_response likely final",
            "502 nginx closed_before_response #1",
            "#2 closed_before_response likely final",
            "502 nginx closed_before_response #2",
        ],
    );
    assert_eq!(responses(&play([close(1), page(), close(2), page()])).count(), 2);
}

#[test]
fn an_error_page_explains_nothing_else() {
    let unexplained = &["502 nginx unexplained"];
    // Too long ago, another worker's, or not what makes a 502.
    check([closed(connection().fin(2)), status(502).log_level(2).after(21)], unexplained);
    check([closed(connection().fin(2)), status(502).log_level(2).worker(WORKER + 1)], unexplained);
    check([closed(connection()), status(502).log_level(2)], unexplained);
    // nginx says what it has to say at its usual level.
    check([closed(connection().fin(2)), status(502)], unexplained);
}

#[test]
fn an_upstreams_own_error_is_not_blamed_on_the_close_before_it() {
    let verdicts = play([closed(connection().fin(2)), status(502).log_level(2).accepted_header()]);
    assert_eq!(told(&verdicts), ["502 upstream upstream_status"]);
}
