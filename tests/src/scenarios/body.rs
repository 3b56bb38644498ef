//! Failures after the response header: the client has its status already, and gets half a body.

use crate::scenario::{Attempt, BASE, Drive, Load, Scenario, attempt, get};
use crate::script::Step::{self, Close, Fill, Hold, Request, Reset, Send, When};
use crate::upstream::{Listen, Place};

const HEADER: Step = Send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");

/// Answers begin well.
const HALF: &[Step] = &[
    When("/closed", &[Request, HEADER, Fill(50_000), Close]),
    When("/reset", &[Request, HEADER, Fill(50_000), Reset]),
    When("/stalled", &[Request, HEADER, Fill(50_000), Hold]),
    When(
        "/chunked",
        &[Request, Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"), Hold],
    ),
    Request,
    Step::Respond,
    Step::Repeat,
];

const fn cut(cause: &'static [&'static str], says: &'static str) -> Attempt {
    attempt(cause, says).truncated()
}

// Without buffering nginx may still speak of what it did last.
const CLOSED_SAYS: &str = "upstream prematurely closed connection while reading upstream | \
                           upstream prematurely closed connection while sending to client";
const RESET_SAYS: &str = "recv() failed (104 … while reading upstream | recv() failed (104 … while sending to client";
const STALLED_SAYS: &str =
    "upstream timed out (110 … while reading upstream | upstream timed out (110 … while sending to client";

/// One server that plays [`HALF`].
const HALVES: Scenario = Scenario {
    upstreams: &[("a", Place::V4, Listen::Accept(HALF))],
    server: "proxy_http_version 1.1; proxy_read_timeout 1s; location / { proxy_pass http://<a>; }\n\
             location /unbuffered { rewrite ^/unbuffered(.*) $1 break; proxy_buffering off; proxy_pass http://<a>; }",
    ..BASE
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "body/closed",
        cases: &[
            get("/closed").fails(
                200,
                &[cut(&["closed_mid_response"], "upstream prematurely closed connection while reading upstream")],
            ),
            get("/unbuffered/closed").fails(200, &[cut(&["closed_mid_response"], CLOSED_SAYS)]),
        ],
        ..HALVES
    },
    Scenario {
        name: "body/reset",
        cases: &[
            get("/reset").fails(200, &[cut(&["reset_mid_response"], "readv() failed (104 … while reading upstream")]),
            get("/unbuffered/reset").fails(200, &[cut(&["reset_mid_response"], RESET_SAYS)]),
        ],
        ..HALVES
    },
    Scenario {
        name: "body/stalled",
        cases: &[
            get("/stalled").fails(200, &[cut(&["response_stalled"], STALLED_SAYS)]),
            get("/unbuffered/stalled").fails(200, &[cut(&["response_stalled"], STALLED_SAYS)]),
        ],
        drive: Drive::Load(Load { clients: 200, keepalive: false }),
        ..HALVES
    },
    Scenario {
        name: "body/invalid_chunk",
        cases: &[get("/chunked").fails(
            200,
            &[cut(&["response_invalid"], "upstream sent invalid chunked response while reading upstream")],
        )],
        ..HALVES
    },
];
