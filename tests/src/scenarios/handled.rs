//! Failures that nginx's configuration turns into something else for the client. Still one response record each.

use crate::scenario::{Attempt, BASE, Reply, Scenario, attempt, get};
use crate::script::HEALTHY;
use crate::upstream::{Listen, Place};

const REFUSED: Attempt = attempt(&["connect_refused"], "connect() failed (111 … while connecting to upstream");

/// A dead upstream and a healthy one.
const BOTH: Scenario = Scenario {
    upstreams: &[("down", Place::V4, Listen::Nobody), ("a", Place::V4, Listen::Accept(HEALTHY))],
    cases: &[get("/handled").fails(502, &[REFUSED])],
    ..BASE
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "handled/error_page",
        server: "error_page 502 /50x.html; location / { proxy_pass http://<down>; }\n\
                 location = /50x.html { return 200 sorry; }",
        ..BOTH
    },
    Scenario {
        name: "handled/error_page_as_200",
        server: "error_page 502 =200 /50x.html; location / { proxy_pass http://<down>; }\n\
                 location = /50x.html { return 200 sorry; }",
        cases: &[get("/handled").fails(200, &[REFUSED.outcome("final")]).reply(Reply::Is(
            "connect_refused",
            502,
            "nginx",
        ))],
        ..BOTH
    },
    Scenario {
        name: "handled/fallback",
        server: "error_page 502 = @other; location / { proxy_pass http://<down>; }\n\
                 location @other { proxy_pass http://<a>; }",
        cases: &[get("/handled").fails(200, &[REFUSED.outcome("final")]).reply(Reply::Is(
            "connect_refused",
            502,
            "nginx",
        ))],
        ..BOTH
    },
    Scenario {
        name: "handled/fallback_refused_too",
        server: "error_page 502 = @other; location / { proxy_pass http://<down>; }\n\
                 location @other { proxy_pass http://<down>; }",
        cases: &[get("/handled").fails(502, &[REFUSED, REFUSED])],
        ..BOTH
    },
    Scenario {
        name: "handled/auth_request",
        server: "location / { auth_request /auth; proxy_pass http://<a>; }\n\
                 location = /auth { proxy_pass http://<down>; }",
        cases: &[get("/handled")
            .fails(500, &[REFUSED])
            .says(&["auth request unexpected status: 502"])
            .reply(Reply::Is("connect_refused", 500, "nginx"))],
        ..BOTH
    },
];
