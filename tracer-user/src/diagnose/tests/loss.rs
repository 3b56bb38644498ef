//! Losses: an attempt during which events were lost is `likely` at most.

use super::{
    link::{connecting, reused},
    script::{HEADER, Kind, Step, check, complaint, refused, status, step, tick},
};

fn lost() -> Step {
    step(Kind::Lost)
}

#[test]
fn a_loss_during_the_attempt_caps_it() {
    check([lost(), refused(), status(502)], &["#1 connect_refused likely final", "502 nginx connect_refused #1"]);
}

#[test]
fn a_gap_in_the_workers_sequence_is_a_loss() {
    let first = refused().on(connecting().failed(111).number(2)).at(0x9000);
    check(
        [first, refused().after_loss_of(1), status(502)],
        &["#1 connect_refused likely final", "#2 connect_refused proven unknown", "502 nginx connect_refused #1"],
    );
}

/// The first number that is seen of a worker is none.
#[test]
fn a_session_may_begin_anywhere() {
    check([refused().after_loss_of(1000)], &["#1 connect_refused proven unknown"]);
}

#[test]
fn a_worker_that_appears_counts_anew() {
    check([step(Kind::Appeared), refused().after_loss_of(7)], &["#1 connect_refused proven unknown"]);
}

#[test]
fn a_loss_before_the_attempt_does_not_touch_it() {
    check([lost(), refused().after(10_000)], &["#1 connect_refused proven unknown"]);
    // The connection was there, the attempt was not: it began with the request.
    let stale = complaint("upstream prematurely closed connection", HEADER)
        .cached(true)
        .on(reused(60_000).sent(100, 40).fin(2));
    check([lost(), stale.after(10_000)], &["#1 stale_keepalive proven unknown"]);
}

#[test]
fn what_is_decided_is_not_doubted_afterwards() {
    check(
        [refused(), tick(20), lost(), status(502)],
        &["#1 connect_refused proven unknown", "#1 turns final", "502 nginx connect_refused #1"],
    );
}
