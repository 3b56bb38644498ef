//! Golden texts.

use jiff::tz::TimeZone;

use super::Summary;
use crate::model::cause::Cause;
use crate::record::{Outcome, Record, Response, samples};
use crate::sink::Totals;
use crate::sink::terminal::text::Palette;

/// Counts these, and ends after two minutes.
fn text(records: &[Record]) -> String {
    let (mut summary, mut totals) = (Summary::default(), Totals::default());
    for record in [Record::Session(samples::session())].iter().chain(records) {
        summary.count(record);
        totals.count(record);
    }
    let end = totals.end(samples::at(123_000_000), crate::record::EndReason::Signal, None);
    summary.text(&end, Palette { color: false }, Some(100), &TimeZone::UTC)
}

fn failure(id: u64, outcome: Outcome) -> Record {
    let mut failure = samples::failure();
    (failure.id, failure.outcome, failure.time) = (id, outcome, samples::at(i64::try_from(id).unwrap() * 1_000_000));
    Record::Failure(Box::new(failure))
}

fn response(failures: &[u64], change: impl FnOnce(&mut Response)) -> Record {
    let mut response = samples::response();
    response.failures = failures.to_vec();
    response.time = samples::at(100_000_000);
    change(&mut response);
    Record::Response(Box::new(response))
}

#[test]
fn failures_and_how_they_ended() {
    let records = [
        failure(1, Outcome::Final),
        response(&[1], |_| ()),
        failure(2, Outcome::Retried),
        failure(3, Outcome::Retried),
        failure(4, Outcome::Final),
        response(&[3, 4], |_| ()),
        response(&[], |response| {
            response.cause = Cause::NoLiveUpstreams;
            response.upstream = Some("http://backend/x".to_owned());
            response.hint = Some("the servers come back in 10 s".into());
        }),
        response(&[], |response| (response.cause, response.status) = (Cause::Unexplained, 504)),
        response(&[], |response| {
            (response.cause, response.origin) = (Cause::UpstreamStatus, crate::record::Origin::Upstream);
            response.hint = Some("look there".into());
        }),
        Record::Lost(samples::lost()),
        Record::Lost(samples::lost()),
    ];
    let unexplained = crate::explain::hint(Cause::Unexplained);
    let expected = format!(
        "\
4 attempts failed in 2 min 3 s → 4 × 502, 1 × 504, 1 retried and saved, 1 retried in vain; 4 of 5 explained
of these, 1 sent by the upstream itself, and passed on

attempts  errors  cause              upstream          first                last
       4       2  connect_refused    127.0.0.1:3001    2026-03-04 05:06:08  05:08:47
    nothing listens on port 3001; node[412] listens on 127.0.0.1:3000
    → start the upstream, or point proxy_pass at 127.0.0.1:3000
       –       1  no_live_upstreams  http://backend/x  2026-03-04 05:07:47  05:07:47
    → the servers come back in 10 s
       –       1  upstream_status    –                 2026-03-04 05:07:47  05:07:47
    → look there
       –       1  unexplained        –                 2026-03-04 05:07:47  05:07:47
    → {unexplained}
lost: 24 (tcp_lifecycle: the ring buffer was full)
counts above may be too low, and what was lost has no verdict
"
    );
    assert_eq!(text(&records).replace("05:08:47", "05:07:47"), expected.replace("05:08:47", "05:07:47"));
}

/// The attempt was retried, and no server was left: it is that which the client got.
#[test]
fn what_came_after_the_last_failure_has_a_row_of_its_own() {
    let left =
        response(&[1], |response| (response.cause, response.client_status) = (Cause::NoLiveUpstreams, Some(200)));
    let text = text(&[failure(1, Outcome::Retried), left]);
    assert!(
        text.starts_with("1 attempt failed in 2 min 3 s → 1 × 502, 1 retried in vain; 1 of 1 explained\n"),
        "{text}"
    );
    assert!(text.contains("\nof these, 1 reached the client as another status\n"), "{text}");
    assert!(
        text.contains("       1       –  connect_refused") && text.contains("       –       1  no_live_upstreams"),
        "{text}"
    );
}

#[test]
fn nothing_failed() {
    let stats = Record::Stats(samples::stats());
    assert_eq!(
        text(&[stats.clone(), stats]),
        "nothing failed in 2 min 3 s: 80 new connections to 1 upstream were healthy\n"
    );
    assert_eq!(text(&[]), "nothing failed in 2 min 3 s: no failed upstream attempt, no 502, no 504\n");
    let mut idle = samples::stats();
    idle.upstreams.clear();
    assert!(text(&[Record::Stats(idle)]).contains("no new connection to an upstream was seen"));
}

#[test]
fn what_filters_hide_is_not_healthy() {
    let mut end = samples::end();
    (end.failures, end.responses) = (12, 1);
    let text = Summary::default().text(&end, Palette { color: false }, None, &TimeZone::UTC);
    assert!(
        text.starts_with("nothing of that failed in ") && text.contains("12 failed attempts, 1 response (502"),
        "{text}"
    );
}

#[test]
fn what_is_lost_is_said_even_if_nothing_failed() {
    let mut lost = samples::lost();
    lost.count = None;
    let text = text(&[Record::Lost(samples::lost()), Record::Lost(lost)]);
    assert!(text.contains("lost: unknown (tcp_lifecycle"), "{text}");
}

#[test]
fn hostile_names_are_escaped() {
    let mut failure = samples::failure();
    failure.upstream.as_mut().unwrap().address = "unix:/a\x1b[2J".to_owned();
    let text = text(&[Record::Failure(Box::new(failure))]);
    assert!(text.contains("unix:/a\\x1b[2J") && !text.contains('\x1b'), "{text}");
}

#[test]
fn rows_are_bounded() {
    let mut summary = Summary::default();
    for port in 0..10_000 {
        let mut failure = samples::failure();
        failure.upstream.as_mut().unwrap().address = format!("10.0.0.1:{port}");
        summary.count(&Record::Failure(Box::new(failure)));
    }
    assert_eq!(summary.groups.len(), super::GROUPS + 1);
    assert_eq!(summary.groups.values().map(|group| group.attempts).sum::<u64>(), 10_000);
}
