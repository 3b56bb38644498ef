//! Requests that get a second chance: each failed attempt is told, and only what the client got decides.

use super::response::FAULTS;
use crate::filter::Filter;
use crate::scenario::{Attempt, BASE, Drive, Load, Scenario, attempt, get, post};
use crate::script::HEALTHY;
use crate::upstream::{Listen, Place};

const REFUSED: Attempt = attempt(&["connect_refused"], "connect() failed (111");
const CLOSED: Attempt = attempt(&["closed_before_response"], "upstream prematurely closed connection");
const RESET: Attempt = attempt(&["reset_before_response"], "recv() failed (104");
const SILENT: Attempt = attempt(&["response_timeout"], "upstream timed out (110 … while reading response header");
const DROPPED: Attempt = attempt(&["connect_timeout"], "upstream timed out (110 … while connecting to upstream");

/// A server that fails as asked, and behind it one in reserve.
const RESERVE: Scenario = Scenario {
    upstreams: &[("a", Place::V4, Listen::Accept(FAULTS)), ("b", Place::V4, Listen::Accept(HEALTHY))],
    http: "upstream pair { server <a> max_fails=0 weight=1000000; server <b> max_fails=0 backup; }",
    server: "proxy_read_timeout 1s; location / { proxy_pass http://pair; }",
    drive: Drive::Load(Load { clients: 100, keepalive: true }),
    ..BASE
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "retry/saved_by_the_reserve",
        cases: &[
            get("/closed").fails(200, &[CLOSED.retried()]),
            get("/reset").fails(200, &[RESET.retried()]),
            get("/silent").fails(200, &[SILENT.retried()]),
            // Not idempotent, and sent: nginx does not try again.
            post("/closed/post").fails(502, &[CLOSED]),
        ],
        ..RESERVE
    },
    Scenario {
        name: "retry/two_different_causes",
        upstreams: &[("a", Place::V4, Listen::Accept(FAULTS)), ("b", Place::V4, Listen::Nobody)],
        cases: &[
            get("/closed").fails(502, &[CLOSED.retried(), REFUSED]),
            get("/silent").fails(502, &[SILENT.retried(), REFUSED]),
        ],
        ..RESERVE
    },
    Scenario {
        name: "retry/refused_then_timeout",
        upstreams: &[("a", Place::V4, Listen::Nobody), ("b", Place::V4, Listen::Filtered(Filter::Everything, HEALTHY))],
        server: "proxy_connect_timeout 1s; location / { proxy_pass http://pair; }",
        cases: &[get("/both").fails(504, &[REFUSED.retried(), DROPPED])],
        ..RESERVE
    },
    Scenario {
        name: "retry/tcp_then_unix",
        upstreams: &[("a", Place::V4, Listen::Nobody), ("b", Place::Unix, Listen::Nobody)],
        cases: &[get("/both")
            .fails(502, &[REFUSED.retried(), attempt(&["socket_refused"], "connect() to unix: … failed (111")])],
        ..RESERVE
    },
];
