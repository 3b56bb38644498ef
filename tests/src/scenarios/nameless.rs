//! An nginx whose functions have no names: no uprobe hears it, and its logs speak instead.

use super::response::FAULTS;
use crate::scenario::{Amount, Attempt, BASE, Confidence, Drive, Load, Scenario, attempt, get, post};
use crate::upstream::{Listen, Place};

const UPSTREAMS: &[(&str, Place, Listen)] = &[
    ("down", Place::V4, Listen::Nobody),
    ("off", Place::V4, Listen::Nobody),
    ("a", Place::V4, Listen::Accept(FAULTS)),
];

const fn read(cause: &'static [&'static str], says: &'static str) -> Attempt {
    attempt(cause, says).at_most(Confidence::Likely)
}

/// Its socket is found beside its line, too.
const fn bound(cause: &'static [&'static str], says: &'static str) -> Attempt {
    read(cause, says).reused(false)
}

/// One of each fault, its attempt as `$attempt` says.
macro_rules! faults {
    ($attempt:ident) => {
        &[
            get("/refused").fails(502, &[$attempt(&["connect_refused"], "connect() failed (111")]),
            post("/closed").fails(502, &[$attempt(&["closed_before_response"], "upstream prematurely closed")]),
            get("/reset").fails(502, &[$attempt(&["reset_before_response"], "recv() failed (104")]),
            get("/silent")
                .fails(504, &[$attempt(&["response_timeout"], "upstream timed out (110")])
                .amount(Amount::AtMost(5)),
            get("/healthy"),
        ]
    };
}

const ALONE: Scenario = Scenario {
    name: "nameless/one_after_the_other",
    nameless: true,
    upstreams: UPSTREAMS,
    http: "access_log <dir>/plain.log combined;",
    server: "proxy_read_timeout 1s; location / { proxy_pass http://<a>; }\n\
             location /refused { proxy_pass http://<down>; }",
    cases: faults!(bound),
    drive: Drive::Load(Load { clients: 1, keepalive: true }),
    ..BASE
};

pub(super) const SCENARIOS: &[Scenario] = &[
    ALONE,
    Scenario {
        name: "nameless/crowd",
        cases: faults!(read),
        drive: Drive::Load(Load { clients: 100, keepalive: true }),
        ..ALONE
    },
    Scenario {
        name: "nameless/retried",
        http: "access_log <dir>/plain.log combined;\n\
               upstream pair { server <down> max_fails=0 weight=1000000; server <a> max_fails=0 backup; }\n\
               upstream both { server <down> max_fails=0; server <off> max_fails=0; }",
        server: "location / { proxy_pass http://pair; } location /twice { proxy_pass http://both; }",
        cases: &[
            get("/saved").fails(200, &[read(&["connect_refused"], "connect() failed (111").outcome("unknown")]),
            get("/twice").fails(
                502,
                &[
                    read(&["connect_refused"], "connect() failed (111").retried(),
                    read(&["connect_refused"], "connect() failed (111"),
                ],
            ),
        ],
        ..ALONE
    },
];
