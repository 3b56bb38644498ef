//! nginx reuses the memory of its requests: which complaints and error pages belong to one request.

use super::{
    link::connecting,
    script::{START_MS, Step, check, failures, play, refused, responses, retry, status, tick},
};
use crate::model::verdict::RequestKey;

fn refused_with(number: u64) -> Step {
    refused().on(connecting().failed(111).number(number))
}

fn keys(steps: impl IntoIterator<Item = Step>) -> Vec<RequestKey> {
    failures(&play(steps)).filter_map(|failure| failure.request_key).collect()
}

/// The same address, begun at another time.
#[test]
fn another_start_is_another_request() {
    check(
        [refused(), refused_with(2).started(START_MS + 1).attempt(2), status(502).started(START_MS + 1).attempt(2)],
        &["#1 connect_refused proven final", "#2 connect_refused proven unknown", "502 nginx connect_refused #1"],
    );
}

/// The same address within one millisecond: a first attempt cannot follow a first attempt.
#[test]
fn an_attempt_that_is_not_beyond_the_last_is_another_request() {
    check(
        [refused(), status(502), tick(20), refused_with(2), status(502)],
        &[
            "#1 connect_refused proven final",
            "502 nginx connect_refused #1",
            "#2 connect_refused proven final",
            "502 nginx connect_refused #2",
        ],
    );
    let keys = keys([refused(), status(502), refused_with(2), status(502)]);
    assert_eq!(keys.iter().map(|key| key.ordinal).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn another_client_connection_is_another_request() {
    let other = |step: Step| step.with(|request| request.connection = 8);
    let keys = keys([refused(), other(refused_with(2).attempt(2)), other(status(502).attempt(2))]);
    assert_eq!(keys.iter().map(|key| (key.connection, key.ordinal)).collect::<Vec<_>>(), [(8, 1), (7, 1)]);
}

#[test]
fn another_worker_is_another_request() {
    let verdicts = play([refused(), refused_with(2).worker(5000).attempt(2), status(502).worker(5000).attempt(2)]);
    let response = responses(&verdicts).next().expect("a response");
    assert_eq!((response.worker, response.failures.len()), (5000, 1));
}

/// The attempts of one request have one key, its response the same.
#[test]
fn attempts_share_their_request_key() {
    let verdicts = play([refused(), refused_with(2).attempt(2), status(502).attempt(2)]);
    let response = responses(&verdicts).next().expect("a response").request_key;
    assert!(failures(&verdicts).all(|failure| failure.request_key == Some(response)));
}

/// Where nginx's memory could not be read there is the client's connection, and what was answered.
#[test]
fn requests_are_told_apart_by_their_answers_at_least() {
    let blind = |step: Step| step.unread().with(|request| request.start_ms = None);
    check(
        [blind(refused()), blind(status(502)), tick(20), blind(refused_with(2)), blind(status(502))],
        &[
            "#1 connect_refused proven final",
            "502 nginx connect_refused #1",
            "#2 connect_refused proven final",
            "502 nginx connect_refused #2",
        ],
    );
}

/// A client that comes back for ever to a request slot that is never answered with an error.
#[test]
fn requests_that_cannot_be_told_apart_do_not_pile_up() {
    let blind = |step: Step| step.unread().with(|request| request.start_ms = None);
    let mut steps = Vec::new();
    for number in 1..1000 {
        steps.extend([blind(refused_with(number)), retry(), tick(30)]);
    }
    steps.push(blind(status(502)));
    let verdicts = play(steps);
    assert_eq!(failures(&verdicts).count(), 999);
    assert!(responses(&verdicts).all(|response| response.failures.len() <= 64));
}

/// A key names one request for the whole session, although old ones are forgotten.
#[test]
fn keys_are_not_given_twice() {
    let mut steps = vec![refused(), status(502)];
    // Another client's request takes the memory; half a minute later the first client comes back.
    steps.push(refused_with(2).with(|request| request.connection = 8).started(START_MS + 10));
    steps.push(tick(31_000));
    steps.push(refused_with(3).started(START_MS + 31_000));
    let mut keys = keys(steps);
    let count = keys.len();
    keys.sort_by_key(|key| (key.connection, key.ordinal));
    keys.dedup();
    assert_eq!((count, keys.len()), (3, 3), "{keys:?}");
}

/// A worker's requests die with it; a new worker may get its pid.
#[test]
fn a_new_worker_starts_anew() {
    use super::script::{Kind, step};
    let verdicts =
        play([refused(), step(Kind::Gone), step(Kind::Appeared), refused_with(2).attempt(2), status(502).attempt(2)]);
    let response = responses(&verdicts).next().expect("a response");
    assert_eq!(response.failures.len(), 1);
}

/// An hour of client connections through one keepalive request slot does not mix their failures.
#[test]
fn a_long_line_of_requests_in_one_place() {
    let mut steps = Vec::new();
    for number in 1..200 {
        let start = START_MS + number * 100;
        steps.extend([refused_with(number).started(start), status(502).started(start), tick(100)]);
    }
    let verdicts = play(steps);
    assert_eq!(responses(&verdicts).count(), 199);
    assert!(responses(&verdicts).all(|response| response.failures.len() == 1));
}

/// Two requests of one client at the same address within a millisecond: which of its connection's they are tells, or their line.
#[test]
fn requests_of_one_millisecond_are_told_apart() {
    let nth = |step: Step, requests: u64| {
        step.with(|request| (request.behind_number, request.requests_word) = ([9, requests], Some(1)))
    };
    check(
        [
            nth(status(502).no_upstream(), 1),
            nth(refused(), 2),
            nth(status(502), 2),
            nth(refused().on(connecting().failed(111).number(2)), 3),
            nth(status(502), 3),
        ],
        &[
            "#1 connect_refused proven final",
            "#2 connect_refused proven final",
            "502 config configured_status",
            "502 nginx connect_refused #1",
            "502 nginx connect_refused #2",
        ],
    );
    let other = |step: Step| step.with(|request| request.line = Some("GET /other HTTP/1.1".to_owned()));
    check(
        [status(502).no_upstream(), other(refused()), other(status(502))],
        &["#1 connect_refused proven final", "502 config configured_status", "502 nginx connect_refused #1"],
    );
}
