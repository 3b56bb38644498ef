//! Bulk: nothing fails, and the kernel side stays silent however many requests go through.

use crate::scenario::{Amount, BASE, Scenario, get, post};
use crate::script::HEALTHY;
use crate::upstream::{Listen, Place};

/// One healthy upstream.
const ONE: Scenario = Scenario {
    upstreams: &[("a", Place::V4, Listen::Accept(HEALTHY))],
    cases: &[get("/ok").amount(Amount::Bulk), post("/post")],
    events_below: Some(100),
    ..BASE
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "healthy/a_connection_each", server: "location / { proxy_pass http://<a>; }", ..ONE },
    Scenario {
        name: "healthy/pool",
        http: "upstream pool { server <a> max_fails=0; keepalive 16; }",
        server: "location / { proxy_http_version 1.1; proxy_set_header Connection ''; proxy_pass http://pool; }",
        ..ONE
    },
];
