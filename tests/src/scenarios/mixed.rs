//! Everything at once, in random order, over several workers: each request must get its own cause.

use super::response::FAULTS;
use crate::filter::Filter;
use crate::scenario::{BASE, Drive, Load, Scenario, attempt, get, post};
use crate::script::HEALTHY;
use crate::upstream::{Listen, Place};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "mixed/eight_fates",
    upstreams: &[
        ("refused", Place::V4, Listen::Nobody),
        ("dropped", Place::V4, Listen::Filtered(Filter::Everything, HEALTHY)),
        ("a", Place::V4, Listen::Accept(FAULTS)),
        ("socket", Place::Unix, Listen::Nobody),
    ],
    http: "upstream saved { server <refused> max_fails=0 weight=1000000; server <a> backup; }",
    server: "proxy_connect_timeout 1s; proxy_read_timeout 2s;\n\
             location / { proxy_pass http://<a>; }\n\
             location /refused { proxy_pass http://<refused>; }\n\
             location /dropped { proxy_pass http://<dropped>; }\n\
             location /saved { proxy_pass http://saved; }\n\
             location /socket { proxy_pass http://<socket>; }",
    cases: &[
        get("/refused").fails(502, &[attempt(&["connect_refused"], "connect() failed (111")]),
        get("/dropped").fails(504, &[attempt(&["connect_timeout"], "upstream timed out (110 … while connecting")]),
        post("/closed").fails(502, &[attempt(&["closed_before_response"], "upstream prematurely closed")]),
        get("/reset").fails(502, &[attempt(&["reset_before_response"], "recv() failed (104")]),
        get("/silent")
            .fails(504, &[attempt(&["response_timeout"], "upstream timed out (110 … while reading response")]),
        get("/big").fails(502, &[attempt(&["header_too_big"], "upstream sent too big header")]),
        get("/socket").fails(502, &[attempt(&["socket_refused"], "connect() to unix: … failed (111")]),
        get("/saved").fails(200, &[attempt(&["connect_refused"], "connect() failed (111").retried()]),
        get("/healthy"),
    ],
    drive: Drive::Load(Load { clients: 64, keepalive: true }),
    ..BASE
}];
