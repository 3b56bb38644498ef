//! Responses: one for each main request that nginx answered with an error because of an upstream, and what it names.

use super::{
    link::{connecting, connection},
    script::{
        CONNECTING, HEADER, Kind, LOCATION, START_MS, Step, acts, check, closed_early, complaint, memory, play,
        refused, responses, status, step, tell, tick,
    },
};
use crate::{
    diagnose::engine::{Engine, Facts, Visible},
    model::{event::RequestNow, verdict::Verdict},
};

#[test]
fn one_request_has_one_response() {
    check([refused(), status(502), status(502)], &["#1 connect_refused proven final", "502 nginx connect_refused #1"]);
}

/// `error_page 502 = @fallback`, and the fallback fails as well, at once.
#[test]
fn a_fallback_that_fails_has_its_say() {
    let fallback = refused().attempt(3).on(connecting().failed(113).number(2)).errno(113);
    check(
        [refused(), status(502), fallback.clone(), status(502).attempt(3)],
        &[
            "#1 connect_refused proven final",
            "#2 connect_unreachable proven final",
            "502 nginx connect_unreachable #1 #2 by fallback",
        ],
    );
    // Nothing is known of the request's end: it has been answered for.
    check(
        [refused(), status(502), tick(20), fallback, status(502).attempt(3)],
        &["#1 connect_refused proven final", "502 nginx connect_refused #1", "#2 connect_unreachable proven final"],
    );
}

/// `proxy_intercept_errors on; error_page 504 = @fallback`: the upstream's own 504 is not what is answered in the end.
#[test]
fn a_fallback_for_the_upstreams_own_status_that_fails_is_nginxs() {
    check(
        [status(504).accepted_header(), refused().attempt(3), status(502).attempt(3)],
        &["#1 connect_refused proven final", "502 nginx connect_refused #1 by fallback"],
    );
}

/// The fallback takes its time, and fails in the end.
#[test]
fn a_response_waits_for_what_handles_it() {
    let silent = complaint("upstream timed out", HEADER).errno(110).attempt(3).on(connection().number(2));
    check(
        [
            refused(),
            status(502),
            memory(3, 0, 0x21),
            tick(1000),
            silent.after(60_000),
            status(504).attempt(3),
            memory(3, 504, 0x21),
            tick(20),
        ],
        &[
            "#1 connect_refused proven final",
            "#2 response_timeout proven final",
            "502 nginx response_timeout as 504 #1 #2 by fallback",
        ],
    );
    // Looked at before the fallback had begun.
    check(
        [refused(), status(502), memory(1, 0, 0x21), tick(20), memory(3, 200, 0x21), tick(20)],
        &["#1 connect_refused proven final", "502 nginx connect_refused as 200 #1 by fallback"],
    );
    // It succeeds.
    check(
        [refused(), status(502), memory(3, 0, 0x21), tick(1000), memory(3, 200, 0x21), tick(10)],
        &["#1 connect_refused proven final", "502 nginx connect_refused as 200 #1 by fallback"],
    );
    // Nobody saw how it ended.
    check(
        [refused(), status(502), memory(3, 0, 0x21), tick(1000), step(Kind::Memory(RequestNow::Gone)), tick(10)],
        &["#1 connect_refused proven final", "502 nginx connect_refused #1 by fallback"],
    );
}

/// Its memory was given back before the end was read from the ring.
#[test]
fn what_is_still_in_the_ring_counts() {
    let mut engine = Engine::new(Facts { jiffy_us: 4000 });
    let visible = Visible { complaints: true, pages: true, lines: false };
    engine.listens(super::script::WORKER, visible);
    for act in acts([refused(), status(502), memory(3, 0, 0x21)]) {
        tell(&mut engine, act);
    }
    let later_ns = 2_000_000_000_000;
    for question in engine.questions(later_ns) {
        engine.answer(&question, later_ns + 1, RequestNow::Unreadable);
    }
    let is_told = |engine: &mut Engine| engine.take().any(|verdict| matches!(verdict, Verdict::Response(_)));
    engine.tick(later_ns);
    assert!(!is_told(&mut engine), "its next page may be there");
    engine.tick(later_ns + 1);
    assert!(is_told(&mut engine));
}

/// What the client got, and which page.
#[test]
fn what_the_client_got() {
    let told = |memory: Step| play([refused(), status(502), memory, tick(20)]);
    let line = |memory: Step| super::script::told(&told(memory)).pop().unwrap_or_default();
    assert_eq!(line(memory(1, 502, LOCATION)), "502 nginx connect_refused as 502 #1");
    assert_eq!(line(memory(1, 502, 0x21)), "502 nginx connect_refused as 502 #1 by errorpage");
    assert_eq!(line(memory(1, 200, LOCATION)), "502 nginx connect_refused as 200 #1 by errorpage");
    assert_eq!(line(step(Kind::Memory(RequestNow::Unreadable))), "502 nginx connect_refused #1");
    // Freed, and overwritten in parts.
    let ruin = RequestNow::There { attempts: None, status: None, ended: true, location_conf: 0x99, uri: 0 };
    assert_eq!(line(step(Kind::Memory(ruin))), "502 nginx connect_refused #1");
}

/// nginx answers with an error that it keeps in its cache.
#[test]
fn a_cached_error_is_the_caches() {
    check([status(502).unread().cacheable()], &["502 cache configured_status"]);
    // What nginx would have said of a failure is not heard.
    check([status(502).unread().cacheable().log_level(3)], &["502 nginx unexplained"]);
}

/// The failure of a subrequest in the fallback is held longer than the response.
#[test]
fn a_fallback_names_no_failure_before_it_is_told() {
    let inside = refused().attempt(3).subrequest(0x2000).on(connecting().failed(111).number(2)).after(15);
    let verdicts = play([refused(), status(502), inside, status(502).attempt(1), tick(6)]);
    let told = super::script::told(&verdicts);
    assert!(told.iter().all(|line| !line.contains("#?")), "{told:?}");
    let first = told.iter().position(|line| line.starts_with("502")).expect("a response");
    assert!(told.iter().skip(first).all(|line| !line.starts_with('#')), "{told:?}");
}

#[test]
fn return_502_is_the_configuration() {
    check([status(502).no_upstream()], &["502 config configured_status"]);
    // A second one on the same connection, at the same address, is a request of its own.
    check(
        [status(502).no_upstream(), status(502).no_upstream().started(START_MS + 50)],
        &["502 config configured_status", "502 config configured_status"],
    );
    check(
        [refused(), status(502), status(504).no_upstream().started(START_MS + 50)],
        &["#1 connect_refused proven final", "502 nginx connect_refused #1", "504 config configured_status"],
    );
}

#[test]
fn an_accepted_header_is_the_upstreams_own_status() {
    check([status(502).accepted_header()], &["502 upstream upstream_status"]);
    check([status(504).accepted_header()], &["504 upstream upstream_status"]);
    // X-Accel-Redirect, or an intercepted 404, to `return 502`.
    let elsewhere =
        status(502).with(|request| (request.header_accepted, request.upstream_status) = (Some(true), Some(404)));
    check([elsewhere], &["502 config configured_status"]);
}

#[test]
fn an_upstream_without_a_word_is_unexplained() {
    check([status(502)], &["502 nginx unexplained"]);
    check([status(504).unread()], &["504 nginx unexplained"]);
}

#[test]
fn a_500_without_an_upstream_failure_is_none_of_ours() {
    check([status(500)], &[]);
    check([status(500).no_upstream()], &[]);
    check([status(500).accepted_header()], &[]);
    check([refused(), status(500).attempt(2).accepted_header()], &["#1 connect_refused proven retried"]);
}

/// The subrequest's 502 is answered in the main request's name: nginx makes it a 500.
#[test]
fn auth_request_turns_its_failure_into_500() {
    check(
        [refused().subrequest(0x2000), status(502).subrequest(0x2000), status(500).no_upstream()],
        &["#1 connect_refused proven final", "500 nginx connect_refused #1 by authrequest"],
    );
}

#[test]
fn auth_request_without_any_upstream_up() {
    let none = complaint("no live upstreams", CONNECTING).subrequest(0x2000);
    check(
        [none, status(502).subrequest(0x2000), status(500).no_upstream()],
        &["500 nginx no_live_upstreams by authrequest"],
    );
}

/// The subrequest's own error page was lost.
#[test]
fn failures_are_told_before_their_response() {
    let verdicts = play([refused().subrequest(0x2000), status(500).no_upstream()]);
    let told = super::script::told(&verdicts);
    assert_eq!(told.last().map(String::as_str), Some("500 nginx connect_refused #1 by authrequest"));
}

/// The authorisation was retried and granted; then the content failed.
#[test]
fn a_subrequest_and_its_main_request_are_one_request() {
    let content = closed_early().on(connection().number(2).fin(2));
    let verdicts =
        play([refused().subrequest(0x2000), super::script::retry().subrequest(0x2000), content, status(502)]);
    assert_eq!(
        super::script::told(&verdicts),
        [
            "#1 connect_refused proven retried",
            "#2 closed_before_response proven final",
            "502 nginx closed_before_response #1 #2",
        ]
    );
    let keys: Vec<_> = super::script::failures(&verdicts).filter_map(|failure| failure.request_key).collect();
    assert_eq!(keys.first(), keys.get(1));
}

/// Each for a request of its own; then none is left to try.
#[test]
fn no_live_upstreams_names_who_went_before() {
    let first = refused();
    let second = closed_early().at(0x2000).on(connection().number(2).fin(2));
    let elsewhere = refused().worker(5000).on(connecting().failed(111).number(3));
    let none = complaint("no live upstreams", CONNECTING).at(0x3000).peer("backend");
    let verdicts =
        play([first, status(502), second, status(502).at(0x2000), elsewhere, tick(30), none, status(502).at(0x3000)]);
    let told = super::script::told(&verdicts);
    assert_eq!(told.last().map(String::as_str), Some("502 nginx no_live_upstreams related #2 #1"));
}

#[test]
fn what_explains_another_request_does_not_explain_this() {
    let none = complaint("no live upstreams", CONNECTING);
    // The client had gone: no error page. The memory serves the client's next request.
    check([none.clone(), status(502).no_upstream().started(START_MS + 50)], &["502 config configured_status"]);
    check([none.clone(), status(502).accepted_header().started(START_MS + 50)], &["502 upstream upstream_status"]);
    check([none.clone(), status(502).at(0x9000)], &["502 nginx unexplained"]);
    check([none, status(502).worker(5000)], &["502 nginx unexplained"]);
}

#[test]
fn dns_and_configuration_explain_the_response_alone() {
    let dns = complaint("%V could not be resolved (%i: %s)", "").unread().code(110);
    let verdicts = play([dns, status(502).unread()]);
    assert_eq!(super::script::told(&verdicts), ["502 nginx dns_timeout"]);
    assert!(responses(&verdicts).all(|response| response.message.is_some()), "in nginx's words");
}

/// What the response says of the request is what nginx said.
#[test]
fn a_response_names_its_request() {
    let post = |step: Step| step.with(|request| request.line = Some("POST /a HTTP/1.1".to_owned()));
    let verdicts = play([post(complaint("upstream timed out", HEADER).errno(110).on(connection())), post(status(504))]);
    let response = responses(&verdicts).next().expect("a response");
    assert_eq!(response.request.as_deref(), Some("POST /a HTTP/1.1"));
    assert_eq!(response.client.as_deref(), Some("127.0.0.1"));
    assert_eq!(response.upstream.as_deref(), Some("127.0.0.1:8080"));
    assert_eq!((response.worker, response.request_key.connection), (super::script::WORKER, 7));
    assert_eq!(
        super::script::failures(&verdicts).next().and_then(|failure| failure.request_key),
        Some(response.request_key)
    );
}

/// What nginx says is told as it is where nothing better is known.
#[test]
fn a_message_that_nobody_knows_is_kept() {
    let strange = || complaint("the balancer has the hiccups", CONNECTING).errno(5);
    let verdicts = play([strange(), status(502)]);
    let response = responses(&verdicts).next().expect("a response");
    assert_eq!(response.cause, crate::model::cause::Cause::Unexplained);
    let message = response.message.as_deref().unwrap_or_default();
    assert!(message.starts_with("the balancer has the hiccups (5: "), "{message}");
    // Something better is known.
    check([strange(), refused(), status(502)], &["#1 connect_refused proven final", "502 nginx connect_refused #1"]);
    let other = play([strange(), status(502).started(START_MS + 5)]);
    assert_eq!(responses(&other).next().expect("a response").message, None, "another request's");
}

/// nginx complains twice about one attempt over a unix socket.
#[test]
fn one_attempt_fails_once() {
    let first = || complaint("upstream prematurely closed FastCGI stdout", HEADER).on_unix();
    let second = || complaint("upstream sent unexpected FastCGI record: %d", HEADER).on_unix();
    check([first(), second(), status(502)], &["#1 header_invalid proven final", "502 nginx header_invalid #1"]);
    let verdicts = play([first(), second().attempt(2), status(502).attempt(2)]);
    assert_eq!(super::script::failures(&verdicts).count(), 2, "two attempts");
}
