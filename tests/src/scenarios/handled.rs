//! Failures that nginx's configuration turns into something else for the client. Still one response record each, with
//! the status that nginx decided on first. What handled it may be over before anybody can look: then it is null, and
//! never something else. Where it takes its time, it is seen.

use crate::scenario::{Attempt, BASE, Case, Drive, Load, Reply, Scenario, attempt, get};
use crate::script::HEALTHY;
use crate::script::Step::{Close, Hold, Idle, Request, Respond, Send};
use crate::upstream::{Listen, Place};

const REFUSED: Attempt = attempt(&["connect_refused"], "connect() failed (111 … while connecting to upstream");
const SILENT: Attempt =
    attempt(&["response_timeout"], "upstream timed out (110 … while reading response header from upstream");

/// A dead upstream, a healthy one, one that never answers, and one that is busy.
const BOTH: Scenario = Scenario {
    upstreams: &[
        ("down", Place::V4, Listen::Nobody),
        ("a", Place::V4, Listen::Accept(HEALTHY)),
        ("silent", Place::V4, Listen::Accept(&[Hold])),
        ("slow", Place::V4, Listen::Accept(&[Request, Idle(500), Respond, Close])),
        (
            "busy",
            Place::V4,
            Listen::Accept(&[Request, Send("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"), Close]),
        ),
    ],
    cases: &[get("/handled").fails(502, &[REFUSED])],
    ..BASE
};

/// Refused: a 502 at first, and at last this status, by way of this.
const fn refused(status: u16, handled: &'static str) -> Case {
    get("/handled").fails(status, &[REFUSED]).reply(Reply::Is("connect_refused", 502, "nginx")).handled(handled)
}

const CROWD: Drive = Drive::Load(Load { clients: 200, keepalive: true });

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "handled/error_page",
        server: "error_page 502 /50x.html; location / { proxy_pass http://<down>; }\n\
                 location = /50x.html { return 200 sorry; }",
        cases: &[refused(502, "error_page|")],
        ..BOTH
    },
    Scenario {
        name: "handled/error_page_as_200",
        server: "error_page 502 =200 /50x.html; location / { proxy_pass http://<down>; }\n\
                 location = /50x.html { return 200 sorry; }",
        cases: &[refused(200, "error_page|")],
        ..BOTH
    },
    Scenario {
        name: "handled/error_page_missing",
        server: "error_page 502 /50x.html; location / { proxy_pass http://<down>; }\n\
                 location = /50x.html { root <dir>/nowhere; }",
        cases: &[refused(404, "error_page|").says(&["open() \" … failed (2"])],
        ..BOTH
    },
    Scenario {
        name: "handled/error_page_missing_unsaid",
        server: "error_page 502 /50x.html; location / { proxy_pass http://<down>; }\n\
                 location = /50x.html { log_not_found off; root <dir>/nowhere; }",
        cases: &[refused(404, "error_page|")],
        ..BOTH
    },
    Scenario {
        name: "handled/error_page_elsewhere",
        server: "error_page 502 http://lab.invalid/; location / { proxy_pass http://<down>; }",
        cases: &[refused(302, "error_page|")],
        ..BOTH
    },
    Scenario {
        name: "handled/error_page_from_an_upstream",
        server: "error_page 502 = /other; location / { proxy_pass http://<down>; }\n\
                 location = /other { proxy_pass http://<a>; }",
        cases: &[refused(200, "error_page|fallback|")],
        ..BOTH
    },
    Scenario {
        name: "handled/fallback",
        server: "error_page 502 = @other; location / { proxy_pass http://<down>; }\n\
                 location @other { proxy_pass http://<a>; }",
        cases: &[refused(200, "fallback|")],
        ..BOTH
    },
    Scenario {
        name: "handled/fallback_takes_its_time",
        server: "error_page 502 = @other; location / { proxy_pass http://<down>; }\n\
                 location @other { proxy_pass http://<slow>; }",
        cases: &[refused(200, "fallback")],
        drive: CROWD,
        ..BOTH
    },
    Scenario {
        name: "handled/fallback_static",
        server: "error_page 502 504 = @other; location / { proxy_pass http://<down>; }\n\
                 location @other { return 200 sorry; }",
        cases: &[refused(200, "fallback|error_page|")],
        ..BOTH
    },
    Scenario {
        name: "handled/fallback_by_configuration",
        server: "error_page 502 504 = @other; location / { proxy_pass http://<down>; }\n\
                 location @other { return 504; }",
        cases: &[refused(504, "fallback|error_page|")],
        ..BOTH
    },
    Scenario {
        name: "handled/fallback_refused_too",
        server: "error_page 502 = @other; location / { proxy_pass http://<down>; }\n\
                 location @other { proxy_pass http://<down>; }",
        cases: &[get("/handled").fails(502, &[REFUSED, REFUSED]).handled("fallback|")],
        ..BOTH
    },
    Scenario {
        name: "handled/fallback_times_out",
        server: "error_page 502 504 = @other; location / { proxy_pass http://<down>; }\n\
                 location @other { proxy_read_timeout 1s; proxy_pass http://<silent>; }",
        cases: &[get("/handled")
            .fails(504, &[REFUSED, SILENT])
            .reply(Reply::Is("response_timeout", 502, "nginx"))
            .handled("fallback")],
        drive: CROWD,
        ..BOTH
    },
    Scenario {
        name: "handled/fallback_refused_after_timeout",
        server: "error_page 502 504 = @other; location / { proxy_read_timeout 1s; proxy_pass http://<silent>; }\n\
                 location @other { proxy_pass http://<down>; }",
        cases: &[get("/handled")
            .fails(502, &[SILENT, REFUSED])
            .reply(Reply::Is("connect_refused", 504, "nginx"))
            .handled("fallback|")],
        drive: CROWD,
        ..BOTH
    },
    Scenario {
        name: "handled/fallback_after_a_retry",
        http: "upstream pair { server <down> max_fails=0; server <down> max_fails=0 backup; }",
        server: "error_page 502 = @other; location / { proxy_pass http://pair; }\n\
                 location @other { proxy_pass http://<a>; }",
        cases: &[get("/handled")
            .fails(200, &[REFUSED.retried(), REFUSED])
            .reply(Reply::Is("connect_refused", 502, "nginx"))
            .handled("fallback|")],
        ..BOTH
    },
    Scenario {
        name: "handled/recursive_error_pages",
        server: "recursive_error_pages on;\n\
                 location / { error_page 502 = @second; proxy_pass http://<down>; }\n\
                 location @second { error_page 502 = @third; proxy_pass http://<down>; }\n\
                 location @third { proxy_pass http://<a>; }",
        cases: &[get("/handled")
            .fails(200, &[REFUSED, REFUSED])
            .reply(Reply::Is("connect_refused", 502, "nginx"))
            .handled("fallback|")],
        ..BOTH
    },
    Scenario {
        name: "handled/fallback_of_intercepted_status",
        // nginx made no 502 of the upstream's 503; it does of what stands in for it.
        server: "proxy_intercept_errors on; error_page 503 = @other; location / { proxy_pass http://<busy>; }\n\
                 location @other { proxy_pass http://<down>; }",
        cases: &[refused(502, "fallback|error_page|")],
        ..BOTH
    },
    Scenario {
        name: "handled/auth_request",
        server: "location / { auth_request /auth; proxy_pass http://<a>; }\n\
                 location = /auth { proxy_pass http://<down>; }",
        cases: &[get("/handled")
            .fails(500, &[REFUSED])
            .says(&["auth request unexpected status: 502"])
            .reply(Reply::Is("connect_refused", 500, "nginx"))
            .handled("auth_request")],
        ..BOTH
    },
    Scenario {
        name: "handled/auth_request_times_out",
        server: "location / { auth_request /auth; proxy_pass http://<a>; }\n\
                 location = /auth { proxy_read_timeout 1s; proxy_pass http://<silent>; }",
        cases: &[get("/handled")
            .fails(500, &[SILENT])
            .says(&["auth request unexpected status: 504"])
            .reply(Reply::Is("response_timeout", 500, "nginx"))
            .handled("auth_request")],
        drive: CROWD,
        ..BOTH
    },
    Scenario {
        name: "handled/auth_request_then_refused",
        // Who may pass is known; where to is down.
        server: "location / { auth_request /auth; proxy_pass http://<down>; }\n\
                 location = /auth { proxy_pass http://<a>; }",
        ..BOTH
    },
];
