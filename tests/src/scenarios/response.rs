//! Failures between the request and the complete response header.

use crate::filter::Filter;
use crate::scenario::{Amount, Attempt, BASE, Drive, Load, Need, Net, Scenario, attempt, get, post};
use crate::script::Step::{Close, Fill, Finish, Hold, Read, Request, Reset, Send, When};
use crate::script::{HEALTHY, Step};
use crate::upstream::{Listen, Place};

const CLOSED: Attempt = attempt(
    &["closed_before_response"],
    "upstream prematurely closed connection while reading response header from upstream",
)
.reused(false);
const RESET: Attempt =
    attempt(&["reset_before_response"], "recv() failed (104 … while reading response header from upstream")
        .reused(false)
        .errno("ECONNRESET");
const TIMEOUT: Attempt =
    attempt(&["response_timeout"], "upstream timed out (110 … while reading response header from upstream").errno("");

const INVALID: Attempt =
    attempt(&["header_invalid"], "upstream sent invalid header … while reading response header from upstream");

const CROWD: Drive = Drive::Load(Load { clients: 200, keepalive: false });

/// Fails as the path says, or is healthy.
pub(super) const FAULTS: &[Step] = &[
    When("/closed", &[Request, Close]),
    When("/reset", &[Request, Reset]),
    When("/unread", &[Read(10), Close]),
    When("/silent", &[Request, Hold]),
    When("/big", &[Request, Send("HTTP/1.1 200 OK\r\nX-Big: "), Fill(65536), Send("\r\n\r\n"), Hold]),
    // A NUL is what no version takes.
    When("/bad/name", &[Request, Send("HTTP/1.1 200 OK\r\nnot a header\x01\r\n\r\n"), Hold]),
    When("/bad", &[Request, Send("HTTP/1.1 200 OK\r\nHeader\0: bad\r\n\r\n"), Hold]),
    When("/half", &[Request, Send("HTTP/1.1 200 OK\r\nContent-Le"), Finish, Hold]),
    Request,
    Step::Respond,
    Step::Repeat,
];

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "response/closed",
        upstreams: &[("a", Place::V4, Listen::Accept(FAULTS))],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/closed").fails(502, &[CLOSED]), post("/closed/post").fails(502, &[CLOSED])],
        ..BASE
    },
    Scenario {
        name: "response/closed_fresh_with_keepalive",
        upstreams: &[("a", Place::V4, Listen::Accept(FAULTS))],
        http: "upstream block { server <a> max_fails=0; keepalive 8; }",
        server: "location / { proxy_http_version 1.1; proxy_set_header Connection ''; proxy_pass http://block; }",
        cases: &[get("/closed").fails(502, &[CLOSED]), post("/closed/post").fails(502, &[CLOSED])],
        ..BASE
    },
    Scenario {
        name: "response/reset",
        upstreams: &[("a", Place::V4, Listen::Accept(FAULTS))],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/reset").fails(502, &[RESET]), post("/reset/post").fails(502, &[RESET])],
        ..BASE
    },
    Scenario {
        name: "response/closed_with_unread_request",
        upstreams: &[("a", Place::V4, Listen::Accept(FAULTS))],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/unread").fails(502, &[RESET])],
        ..BASE
    },
    Scenario {
        name: "response/timeout",
        upstreams: &[("a", Place::V4, Listen::Accept(FAULTS))],
        server: "location / { proxy_read_timeout 1s; proxy_pass http://<a>; }",
        cases: &[get("/silent").fails(504, &[TIMEOUT]), post("/silent/post").fails(504, &[TIMEOUT])],
        drive: CROWD,
        ..BASE
    },
    Scenario {
        name: "response/timeout_kernel",
        net: Net::Private(&[("ipv4.tcp_retries2", "3")]),
        upstreams: &[("a", Place::V4, Listen::Filtered(Filter::Payload, HEALTHY))],
        server: "location / { proxy_read_timeout 60s; proxy_pass http://<a>; }",
        cases: &[get("/lost")
            .fails(
                502,
                &[attempt(
                    &["response_timeout_kernel"],
                    "recv() failed (110 … while reading response header from upstream",
                )
                .errno("ETIMEDOUT")],
            )
            .amount(Amount::AtMost(50))],
        drive: CROWD,
        ..BASE
    },
    Scenario {
        name: "response/header_too_big",
        upstreams: &[("a", Place::V4, Listen::Accept(FAULTS))],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/big").fails(
            502,
            &[attempt(&["header_too_big"], "upstream sent too big header while reading response header from upstream")],
        )],
        ..BASE
    },
    Scenario {
        name: "response/header_invalid",
        upstreams: &[("a", Place::V4, Listen::Accept(FAULTS))],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/bad").fails(502, &[INVALID])],
        ..BASE
    },
    Scenario {
        name: "response/header_invalid_name",
        // Before that a name with spaces in it was taken.
        needs: &[Need::Version(1, 21, 1)],
        upstreams: &[("a", Place::V4, Listen::Accept(FAULTS))],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/bad/name").fails(502, &[INVALID])],
        ..BASE
    },
    Scenario {
        name: "response/all_v6",
        needs: &[Need::Ipv6],
        upstreams: &[("a", Place::V6, Listen::Accept(FAULTS))],
        server: "location / { proxy_read_timeout 1s; proxy_pass http://<a>; }",
        cases: &[
            get("/closed").fails(502, &[CLOSED]),
            get("/reset").fails(502, &[RESET]),
            get("/silent").fails(504, &[TIMEOUT]),
            get("/healthy"),
        ],
        drive: CROWD,
        ..BASE
    },
    Scenario {
        name: "response/closed_in_header",
        upstreams: &[("a", Place::V4, Listen::Accept(FAULTS))],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/half").fails(502, &[CLOSED.likely()])],
        ..BASE
    },
    Scenario {
        name: "response/header_conflicts",
        needs: &[Need::Version(1, 23, 0)],
        upstreams: &[("a", Place::V4, Listen::Accept(CONFLICTS))],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[
            get("/both").fails(
                502,
                &[attempt(
                    &["header_invalid"],
                    "upstream sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time",
                )],
            ),
            get("/twice").fails(502, &[attempt(&["header_invalid"], "upstream sent duplicate header line")]),
            get("/coding").fails(502, &[attempt(&["header_invalid"], "upstream sent unknown \"Transfer-Encoding\"")]),
            get("/length")
                .fails(502, &[attempt(&["header_invalid"], "upstream sent invalid \"Content-Length\" header")]),
        ],
        ..BASE
    },
];

/// Says in two ways, or in none, how long the answer is.
const CONFLICTS: &[Step] = &[
    When("/both", &[Request, Send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"), Hold]),
    When("/twice", &[Request, Send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc"), Hold]),
    When("/coding", &[Request, Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: other\r\n\r\n"), Hold]),
    When("/length", &[Request, Send("HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n"), Hold]),
];
