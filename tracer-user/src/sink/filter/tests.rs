//! Patterns and what they match.

use super::{Filter, PatternError, UpstreamPattern};
use crate::model::cause::Cause;
use crate::record::{Record, Response, samples};

fn check(pattern: &str, matching: &[&str], others: &[&str]) {
    let pattern: UpstreamPattern = pattern.parse().unwrap_or_else(|error| panic!("{pattern}: {error}"));
    for address in matching {
        assert!(pattern.matches(address), "{pattern:?} shall match {address}");
    }
    for address in others {
        assert!(!pattern.matches(address), "{pattern:?} shall not match {address}");
    }
}

#[test]
fn addresses() {
    check(
        "10.0.0.1",
        &["10.0.0.1:80", "10.0.0.1:1", "[::ffff:10.0.0.1]:80"],
        &["10.0.0.2:80", "unix:/10.0.0.1", "app"],
    );
    check("10.0.0.1:80", &["10.0.0.1:80"], &["10.0.0.1:81"]);
    check("::1", &["[::1]:80"], &["127.0.0.1:80"]);
    check("[::1]", &["[::1]:80"], &["[::2]:80"]);
    check("[::1]:80", &["[::1]:80"], &["[::1]:81"]);
    check("::ffff:10.0.0.1", &["10.0.0.1:80"], &[]);
}

#[test]
fn networks() {
    check("10.0.0.0/8", &["10.255.0.1:80"], &["11.0.0.1:80", "[::1]:80"]);
    check("10.1.2.3/32", &["10.1.2.3:80"], &["10.1.2.4:80"]);
    check("0.0.0.0/0", &["1.2.3.4:80"], &["[::1]:80", "unix:/a"]);
    check("fd00::/8", &["[fd12::1]:80"], &["[fe80::1]:80"]);
    check("::/0", &["[fd12::1]:80"], &["10.0.0.1:80"]);
}

#[test]
fn unix_sockets() {
    check("unix:/run/php.sock", &["unix:/run/php.sock"], &["unix:/run/php", "unix:@/run/php.sock"]);
    check("unix:@app", &["unix:@app"], &["unix:/app"]);
}

#[test]
fn errors_say_what_is_wrong() {
    let cases = [
        ("", PatternError::NotAnAddress),
        ("http://10.0.0.1", PatternError::NotAnAddress),
        ("backend", PatternError::HostName),
        ("localhost:80", PatternError::HostName),
        ("10.0.0.1:http", PatternError::Port),
        ("10.0.0.1:70000", PatternError::Port),
        ("[::1]:x", PatternError::Port),
        ("10.0.0.0/33", PatternError::Prefix(32)),
        ("10.0.0.0/", PatternError::Prefix(32)),
        ("::/129", PatternError::Prefix(128)),
        ("app/8", PatternError::NotAnAddress),
        ("unix:", PatternError::UnixPath),
        ("unix:run/a", PatternError::UnixPath),
        ("unix:@", PatternError::UnixPath),
        ("2001:db8:1:2:3:4:5:6:80", PatternError::Brackets),
    ];
    for (text, error) in cases {
        assert_eq!(text.parse::<UpstreamPattern>(), Err(error), "{text}");
    }
}

fn only(upstreams: &[&str], causes: &[Cause]) -> Filter {
    Filter::new(upstreams.iter().map(|text| text.parse().unwrap()).collect(), causes.to_vec())
}

fn response(change: impl FnOnce(&mut Response)) -> Record {
    let mut response = samples::response();
    change(&mut response);
    Record::Response(Box::new(response))
}

#[test]
fn numbers_and_the_session_always_pass() {
    let mut filter = only(&["10.9.9.9"], &[Cause::DnsFailed]);
    for record in samples::all() {
        let always = matches!(record.kind(), "session" | "worker" | "lost" | "stats" | "end");
        assert_eq!(filter.shows(&record), always, "{}", record.kind());
    }
}

#[test]
fn a_response_is_shown_with_its_last_failure() {
    for (filter, shown) in [
        (only(&["127.0.0.1:3001"], &[]), true),
        (only(&["127.0.0.1:3001"], &[Cause::ConnectRefused]), true),
        (only(&["127.0.0.1:3001"], &[Cause::ConnectTimeout]), false),
        (only(&["127.0.0.1:3002"], &[]), false),
        (only(&[], &[]), true),
    ] {
        let mut filter = filter;
        assert_eq!(filter.shows(&Record::Failure(Box::new(samples::failure()))), shown);
        assert_eq!(filter.shows(&response(|_| ())), shown);
    }
}

#[test]
fn a_response_that_its_last_failure_did_not_decide_is_shown_by_its_cause() {
    let none_left = || response(|response| response.cause = Cause::NoLiveUpstreams);
    assert!(only(&[], &[Cause::NoLiveUpstreams]).shows(&none_left()));
    let mut filter = only(&["127.0.0.1"], &[]);
    assert!(filter.shows(&Record::Failure(Box::new(samples::failure()))) && filter.shows(&none_left()));
}

#[test]
fn a_response_without_failures_is_shown_by_what_led_there() {
    let no_live = |related: Vec<u64>| {
        response(|response| {
            response.failures.clear();
            response.related = related;
            response.cause = Cause::NoLiveUpstreams;
        })
    };
    let mut filter = only(&["127.0.0.1"], &[]);
    assert!(filter.shows(&Record::Failure(Box::new(samples::failure()))));
    assert!(filter.shows(&no_live(vec![17])) && !filter.shows(&no_live(vec![])));
    assert!(filter.shows(&response(|response| {
        response.failures.clear();
        response.upstream = Some("http://127.0.0.1:80/x".to_owned());
    })));
    assert!(only(&[], &[Cause::NoLiveUpstreams]).shows(&no_live(vec![])));
    assert!(!only(&[], &[Cause::DnsFailed]).shows(&no_live(vec![])));
}
