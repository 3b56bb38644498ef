//! Complaints whose socket could not be told: the worker's next close is about it, or nothing is. None is ever lost.

use super::{
    link::{connecting, connection},
    script::{
        CONNECTING, HEADER, Kind, Step, check, closed, closed_early, complaint, failures, play, refused, retry, status,
        step, tick,
    },
};

/// nginx's word about a socket that could not be told.
fn unbound() -> Step {
    complaint("upstream prematurely closed connection", HEADER)
}

fn other() -> Step {
    step(Kind::Other)
}

#[test]
fn the_next_close_of_the_worker_is_it() {
    check(
        [unbound(), closed(connection().fin(2)), status(502)],
        &["#1 closed_before_response proven final", "502 nginx closed_before_response #1"],
    );
    check(
        [unbound(), closed(connection().fin(2).settled()).worker(5000), closed(connection().rst(2).number(2))],
        &["#1 reset_before_response proven unknown"],
    );
}

#[test]
fn without_a_close_it_stands_alone() {
    check([unbound(), tick(50), tick(0)], &["#1 closed_before_response likely unknown"]);
    check([unbound(), tick(50), tick(0), closed(connection())], &["#1 closed_before_response likely unknown"]);
    check([unbound()], &["#1 closed_before_response likely unknown"]);
}

/// The close was missed: what the thread did next shows that it is over.
#[test]
fn what_follows_on_the_thread_ends_the_wait() {
    check([unbound(), status(502)], &["#1 closed_before_response likely final", "502 nginx closed_before_response #1"]);
    check([unbound(), retry()], &["#1 closed_before_response likely retried"]);
    check(
        [unbound(), refused().attempt(2), status(502).attempt(2)],
        &[
            "#1 closed_before_response likely retried",
            "#2 connect_refused proven final",
            "502 nginx connect_refused #1 #2",
        ],
    );
    check(
        [unbound(), complaint("no live upstreams", CONNECTING).attempt(2), status(502).attempt(2)],
        &["#1 closed_before_response likely retried", "502 nginx no_live_upstreams #1"],
    );
    check([unbound(), step(Kind::Gone)], &["#1 closed_before_response likely unknown"]);
}

#[test]
fn one_does_not_displace_another() {
    let second = unbound().at(0x9000);
    assert_eq!(failures(&play([unbound(), second, closed(connection().fin(2))])).count(), 2);
    assert_eq!(failures(&play([unbound(), other(), closed(connection().fin(2))])).count(), 1);
}

#[test]
fn a_close_of_what_was_told_already_is_not_it() {
    let verdicts = play([closed_early(), unbound().at(0x9000), closed(connection().fin(2))]);
    assert_eq!(failures(&verdicts).count(), 2);
}

/// stream, mail, the resolver: their closes are theirs.
#[test]
fn the_close_after_another_modules_complaint_is_not_http() {
    check([other(), closed(connecting().failed(111)), tick(20)], &[]);
    check([other(), closed(connecting().failed(111)), closed(connecting().failed(111)), tick(20)], &[]);
    // Its own only.
    check(
        [other(), closed(connecting().failed(111)), closed(connecting().failed(111).number(2)), tick(20)],
        &["#1 connect_refused likely unknown"],
    );
    check([other(), tick(50), closed(connecting().failed(111)), tick(20)], &["#1 connect_refused likely unknown"]);
}

#[test]
fn another_modules_complaint_leaves_http_alone() {
    check([other(), refused(), status(502)], &["#1 connect_refused proven final", "502 nginx connect_refused #1"]);
}

/// The kernel's event about the close may come twice, or before nginx's word.
#[test]
fn one_connection_fails_once() {
    let close = closed(connecting().failed(111));
    check([close.clone(), close.clone(), tick(20)], &["#1 connect_refused likely unknown"]);
    check([close.clone(), tick(20), close.clone(), tick(20)], &["#1 connect_refused likely unknown"]);
    check([close.clone(), refused(), tick(20)], &["#1 connect_refused proven unknown"]);
    check([refused(), close, refused(), tick(20)], &["#1 connect_refused proven unknown"]);
}
