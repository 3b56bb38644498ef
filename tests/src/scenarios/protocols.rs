//! Upstreams that are no HTTP servers, or should be and are not.

use crate::scenario::{Attempt, BASE, Case, Drive, Load, Scenario, attempt, get};
use crate::script::Step::{Await, Finish, Hold, Reset, Send};
use crate::upstream::{Listen, Place};

const REFUSED: Attempt = attempt(&["connect_refused"], "connect() failed (111 … while connecting to upstream");
const CLOSED: Attempt = attempt(
    &["closed_before_response"],
    "upstream prematurely closed connection while reading response header from upstream",
);
const RESET: Attempt =
    attempt(&["reset_before_response"], "recv() failed (104 … while reading response header from upstream");
const TIMEOUT: Attempt =
    attempt(&["response_timeout"], "upstream timed out (110 … while reading response header from upstream");

const fn wrong(says: &'static str) -> Attempt {
    attempt(&["header_invalid"], says)
}

const UPSTREAMS: &[(&str, Place, Listen)] = &[
    ("down", Place::V4, Listen::Nobody),
    ("closing", Place::V4, Listen::Accept(&[Await, Finish, Hold])),
    ("resetting", Place::V4, Listen::Accept(&[Await, Reset])),
    ("silent", Place::V4, Listen::Accept(&[Hold])),
    ("http", Place::V4, Listen::Accept(&[Await, Send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), Hold])),
];

/// Refused, closed, reset, silent: the same for every protocol.
const FATES: &[Case] = &[
    get("/refused").fails(502, &[REFUSED]),
    get("/closed").fails(502, &[CLOSED]),
    get("/reset").fails(502, &[RESET]),
    get("/silent").fails(504, &[TIMEOUT]),
];

const CROWD: Drive = Drive::Load(Load { clients: 100, keepalive: true });

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "protocols/fastcgi",
        upstreams: UPSTREAMS,
        server: "fastcgi_read_timeout 1s; location /refused { fastcgi_pass <down>; } location /closed { fastcgi_pass \
                 <closing>; } location /reset { fastcgi_pass <resetting>; } location /silent { fastcgi_pass <silent>; }",
        cases: FATES,
        drive: CROWD,
        ..BASE
    },
    Scenario {
        name: "protocols/uwsgi",
        upstreams: UPSTREAMS,
        server: "uwsgi_read_timeout 1s; location /refused { uwsgi_pass <down>; } location /closed { uwsgi_pass \
                 <closing>; } location /reset { uwsgi_pass <resetting>; } location /silent { uwsgi_pass <silent>; }",
        cases: FATES,
        drive: CROWD,
        ..BASE
    },
    Scenario {
        name: "protocols/scgi",
        upstreams: UPSTREAMS,
        server: "scgi_read_timeout 1s; location /refused { scgi_pass <down>; } location /closed { scgi_pass \
                 <closing>; } location /reset { scgi_pass <resetting>; } location /silent { scgi_pass <silent>; }",
        cases: FATES,
        drive: CROWD,
        ..BASE
    },
    Scenario {
        name: "protocols/grpc",
        upstreams: UPSTREAMS,
        server: "grpc_read_timeout 1s; location /refused { grpc_pass <down>; }\n\
                 location /closed { grpc_pass <closing>; }\n\
                 location /reset { grpc_pass <resetting>; } location /silent { grpc_pass <silent>; }",
        cases: FATES,
        drive: CROWD,
        ..BASE
    },
    Scenario {
        name: "protocols/http_behind_another_pass",
        upstreams: UPSTREAMS,
        server: "location /fastcgi { fastcgi_pass <http>; } location /grpc { grpc_pass <http>; }",
        cases: &[
            get("/fastcgi").fails(502, &[wrong("upstream sent unsupported FastCGI protocol version: 72")]),
            get("/grpc").fails(502, &[wrong("upstream sent too large http2 frame: 4740180")]),
        ],
        ..BASE
    },
];
