//! nginx says less, or more, or elsewhere: other error logs than a file at level `error`.

use super::response::FAULTS;
use crate::scenario::{Attempt, BASE, Case, Drive, Load, Scenario, attempt, get, post};
use crate::upstream::{Listen, Place};

const UPSTREAMS: &[(&str, Place, Listen)] =
    &[("down", Place::V4, Listen::Nobody), ("a", Place::V4, Listen::Accept(FAULTS))];
const SERVER: &str = "proxy_read_timeout 1s; location / { proxy_pass http://<a>; }\n\
                      location /refused { proxy_pass http://<down>; }";
const CROWD: Drive = Drive::Load(Load { clients: 100, keepalive: true });

/// The log is silent about it: status and kernel alone.
const fn silent(path: &'static str, status: u16, attempts: &'static [Attempt]) -> Case {
    get(path).fails(status, attempts)
}

const SPOKEN: &[Case] = &[
    get("/refused").fails(502, &[attempt(&["connect_refused"], "connect() failed (111")]),
    post("/closed").fails(502, &[attempt(&["closed_before_response"], "upstream prematurely closed")]),
    get("/reset").fails(502, &[attempt(&["reset_before_response"], "recv() failed (104")]),
    get("/silent").fails(504, &[attempt(&["response_timeout"], "upstream timed out (110")]),
    get("/healthy"),
];

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "witness/log_level_crit",
        upstreams: UPSTREAMS,
        server: SERVER,
        error_level: "crit",
        cases: &[
            silent("/refused", 502, &[attempt(&["connect_refused"], "").likely()]),
            silent("/closed", 502, &[attempt(&["closed_before_response"], "").likely()]),
            silent("/reset", 502, &[attempt(&["reset_before_response"], "").likely()]),
            get("/healthy"),
        ],
        ..BASE
    },
    Scenario {
        name: "witness/log_level_info",
        upstreams: UPSTREAMS,
        server: SERVER,
        error_level: "info",
        cases: SPOKEN,
        drive: CROWD,
        ..BASE
    },
    Scenario {
        name: "witness/two_error_logs",
        upstreams: UPSTREAMS,
        http: "error_log <dir>/error.log error; error_log <dir>/second.log warn;",
        server: SERVER,
        cases: SPOKEN,
        drive: CROWD,
        ..BASE
    },
    Scenario {
        name: "witness/buffered_access_log",
        upstreams: UPSTREAMS,
        http: "access_log <dir>/buffered.log lab buffer=64k flush=1m;",
        server: SERVER,
        cases: SPOKEN,
        drive: CROWD,
        ..BASE
    },
];
