//! Unix sockets, and calls that fail at once: what the kernel saw of them, with and without nginx's word.

use super::script::{
    CONNECTING, HEADER, Kind, SENDING, Step, WORKER, check, complaint, failures, play, refusal, status, step, tick,
    unix,
};
use crate::model::{
    address::Address,
    host::{Actor, Ending, Name},
    unix::{Call, Closing, OtherEnd, UnixConnection},
    verdict::RootKind,
};

const TIMED_OUT: &str = "upstream timed out";

fn closing(unread: u32, ending: Ending) -> Closing {
    let by = Actor { name: Name { pid: 412, comm: "php-fpm".to_owned() }, parent: 400, master: None, ending };
    Closing { time_ns: 1_000_500_000_500, source: "fentry/unix_release_sock", by, unread, embryo: false }
}

/// The other end was closed with so much of the request unread.
fn left(unread: u32, ending: Ending) -> UnixConnection {
    let closing = Some(closing(unread, ending));
    unix(|unix| {
        unix.other_end =
            Some(OtherEnd { closed: true, accepted: false, inode: None, unread: 0, listener: Some(77), closing });
    })
}

fn open(accepted: bool) -> UnixConnection {
    unix(|unix| {
        unix.ended = false;
        unix.other_end =
            Some(OtherEnd { closed: false, accepted, inode: None, unread: 1, listener: Some(77), closing: None });
    })
}

fn deaf(steps: Vec<Step>) -> Vec<Step> {
    [vec![step(Kind::Listens(false))], steps].concat()
}

#[test]
fn a_refused_call_is_evidence_of_what_nginx_says() {
    let steps = [
        refusal(Call::Connect, 2),
        complaint("connect() to %V failed", CONNECTING).errno(2).peer("unix:/run/app.sock"),
    ];
    let verdicts = play(steps);
    let failure = failures(&verdicts).next().expect("a failure");
    assert_eq!(failure.evidence[0].text, "connect(2) to unix:/run/app.sock = ENOENT");
    assert!(failure.started_ns.is_some() && failure.netns == Some(1));
    assert_eq!(failures(&verdicts).count(), 1, "it is told once");
}

/// The C library looks for nscd when nginx starts.
#[test]
fn a_refused_call_that_nginx_does_not_mind_is_no_failure() {
    check([refusal(Call::Connect, 2), tick(600)], &[]);
    let mut asks = refusal(Call::Connect, 2);
    if let Kind::Refused(refusal) = &mut asks.kind {
        refusal.remote = Some(Address::Unix("/var/run/nscd/socket".to_owned()));
    }
    check(deaf(vec![asks]), &[]);
}

/// The worker had to wait for a processor between the call and its complaint.
#[test]
fn a_late_complaint_is_still_about_the_call() {
    let said = complaint("connect() to %V failed", CONNECTING).errno(2).peer("unix:/run/app.sock").after(100);
    check([refusal(Call::Connect, 2), tick(50), said], &["#1 socket_missing proven unknown"]);
}

#[test]
fn without_nginxs_word_a_refused_call_is_likely() {
    check(deaf(vec![refusal(Call::Connect, 2)]), &["#1 socket_missing likely unknown"]);
    check(deaf(vec![refusal(Call::Connect, 11)]), &["#1 socket_backlog_full likely unknown"]);
    check(deaf(vec![refusal(Call::Socket, 24)]), &["#1 fds_exhausted likely unknown"]);
    // It may be about a listener of nginx.
    check(deaf(vec![refusal(Call::Bind, 98)]), &[]);
}

#[test]
fn an_error_page_right_after_it_makes_it_https() {
    let steps = [refusal(Call::Connect, 111), status(502).log_level(3)];
    check(steps, &["#1 socket_refused likely final", "502 nginx socket_refused #1"]);
    let steps = [refusal(Call::Bind, 99), status(500).log_level(3)];
    check(steps, &["#1 bind_failed likely final", "500 nginx bind_failed #1"]);
}

#[test]
fn a_refused_call_of_something_else_is_not_told() {
    check([refusal(Call::Connect, 111), step(Kind::Other)], &[]);
}

#[test]
fn another_errno_is_another_call() {
    let steps = [refusal(Call::Connect, 2), complaint("connect() to %V failed", CONNECTING).errno(13).on_unix()];
    check(steps, &["#1 socket_denied proven unknown"]);
}

#[test]
fn the_state_of_the_other_end_bears_nginx_out_or_does_not() {
    let eof = || complaint("upstream prematurely closed connection", HEADER);
    check([eof().on_unix()], &["#1 closed_before_response proven unknown"]);
    check([eof().on_unix_socket(open(true))], &["#1 closed_before_response likely unknown"]);
    let timeout = || complaint(TIMED_OUT, HEADER).errno(110);
    check([timeout().on_unix_socket(open(true))], &["#1 response_timeout proven unknown"]);
    check([timeout().on_unix()], &["#1 response_timeout likely unknown"]);
    let verdicts = play([timeout().on_unix_socket(open(false))]);
    let failure = failures(&verdicts).next().expect("a failure");
    assert!(failure.evidence.iter().any(|fact| fact.text.ends_with("open, and not accepted yet")), "{failure:?}");
}

#[test]
fn who_left_the_request_unread_is_named() {
    let reset = complaint("recv() failed", HEADER).errno(104).on_unix_socket(left(1, Ending::Alive));
    let verdicts = play([reset]);
    let failure = failures(&verdicts).next().expect("a failure");
    let root = failure.root.as_ref().expect("a reason");
    assert_eq!((root.kind, root.process.as_ref().expect("a process").0), (RootKind::UnreadData, 412));
    assert_eq!(failure.time_ns, 1_000_500_000_500, "the close is the end of the attempt");
}

#[test]
fn a_cached_unix_socket_that_was_closed_before_the_write_is_stale() {
    let write = complaint("writev() failed", SENDING).errno(32).on_unix();
    check([write.clone().cached(true)], &["#1 stale_keepalive likely unknown"]);
    check([write], &["#1 send_failed proven unknown"]);
}

#[test]
fn nginx_silent_about_a_unix_socket() {
    let closed = |unix| Step { worker: WORKER, ..step(Kind::UnixClosed(unix)) };
    // It may have answered before.
    check(deaf(vec![closed(left(1, Ending::Alive))]), &[]);
    check(deaf(vec![closed(left(0, Ending::Killed { signal: 9, core: false }))]), &[]);
    check([closed(left(1, Ending::Alive)), tick(600)], &[]);
    check(
        [closed(left(1, Ending::Alive)), status(502).log_level(3)],
        &["#1 reset_before_response likely final", "502 nginx reset_before_response #1"],
    );
    let died = || closed(left(0, Ending::Killed { signal: 11, core: true }));
    check(
        [died(), status(502).log_level(3)],
        &["#1 closed_before_response likely final", "502 nginx closed_before_response #1"],
    );
}

#[test]
fn a_close_after_the_complaint_is_the_same_failure() {
    let unix = || left(1, Ending::Alive);
    let reset = complaint("recv() failed", HEADER).errno(104).on_unix_socket(unix());
    check(
        [reset, step(Kind::UnixClosed(unix())), status(502)],
        &["#1 reset_before_response proven final", "502 nginx reset_before_response #1"],
    );
}
