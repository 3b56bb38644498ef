//! nginx reloads: workers come and go while requests are on their way.

use crate::scenario::{Amount, Attempt, BASE, Drive, Scenario, attempt, get};
use crate::script::HEALTHY;
use crate::upstream::{Listen, Place};

const REFUSED: Attempt = attempt(&["connect_refused"], "connect() failed (111 … while connecting to upstream");

/// A healthy pool and a dead upstream.
const BOTH: Scenario = Scenario {
    upstreams: &[("a", Place::V4, Listen::Accept(HEALTHY)), ("down", Place::V4, Listen::Nobody)],
    http: "upstream pool { server <a> max_fails=0; keepalive 16; }",
    server: "location / { proxy_http_version 1.1; proxy_set_header Connection ''; proxy_pass http://pool; }\n\
             location /refused { proxy_pass http://<down>; }",
    ..BASE
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "reload/healthy",
        cases: &[get("/ok").amount(Amount::Bulk)],
        drive: Drive::By(super::traffic::through_reloads),
        ..BOTH
    },
    Scenario {
        name: "reload/failures_before_and_after",
        cases: &[get("/ok").amount(Amount::Bulk), get("/refused").fails(502, &[REFUSED])],
        drive: Drive::By(super::traffic::through_reloads),
        ..BOTH
    },
    Scenario {
        name: "reload/every_fate_through_reloads",
        upstreams: &[("a", Place::V4, Listen::Accept(super::response::FAULTS)), ("down", Place::V4, Listen::Nobody)],
        http: "",
        server: "proxy_read_timeout 1s; location / { proxy_pass http://<a>; }\n\
                 location /refused { proxy_pass http://<down>; }",
        cases: &[
            get("/ok").amount(Amount::Bulk),
            get("/refused").fails(502, &[REFUSED]),
            get("/closed").fails(502, &[attempt(&["closed_before_response"], "upstream prematurely closed")]),
            get("/reset").fails(502, &[attempt(&["reset_before_response"], "recv() failed (104")]),
            // A worker that is told to leave still waits for these.
            get("/silent")
                .fails(504, &[attempt(&["response_timeout"], "upstream timed out (110")])
                .amount(Amount::AtMost(30)),
        ],
        drive: Drive::By(super::traffic::through_reloads),
        ..BOTH
    },
    Scenario {
        name: "reload/workers_younger_than_the_tracer",
        cases: &[get("/refused").fails(502, &[REFUSED])],
        drive: Drive::By(super::traffic::after_a_reload),
        ..BOTH
    },
];
