//! Unix sockets: php-fpm, gunicorn, uwsgi, puma.

use super::response::FAULTS;
use crate::scenario::{Attempt, BASE, Scenario, attempt, get, post};
use crate::script::HEALTHY;
use crate::upstream::{Listen, Place};

const fn socket(cause: &'static [&'static str], says: &'static str, errno: &'static str) -> Attempt {
    attempt(cause, says).errno(errno)
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "unix/missing",
        server: "location / { proxy_pass http://unix:<dir>/nowhere.sock; }",
        cases: &[
            get("/missing").fails(502, &[socket(&["socket_missing"], "connect() to unix: … failed (2:", "ENOENT")]),
            post("/post").fails(502, &[socket(&["socket_missing"], "connect() to unix: … failed (2:", "ENOENT")]),
        ],
        ..BASE
    },
    Scenario {
        name: "unix/refused",
        upstreams: &[("a", Place::Unix, Listen::Nobody)],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/refused")
            .fails(502, &[socket(&["socket_refused"], "connect() to unix: … failed (111", "ECONNREFUSED")])],
        ..BASE
    },
    Scenario {
        name: "unix/denied",
        upstreams: &[("a", Place::Unix, Listen::Accept(HEALTHY))],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/denied").fails(502, &[socket(&["socket_denied"], "connect() to unix: … failed (13:", "EACCES")])],
        before: Some(|stage| {
            use std::os::unix::fs::PermissionsExt;
            let nobodys = std::fs::Permissions::from_mode(0o600);
            Ok(std::fs::set_permissions(stage.directory.path().join("a.sock"), nobodys)?)
        }),
        ..BASE
    },
    Scenario {
        name: "unix/backlog_full",
        upstreams: &[("a", Place::Unix, Listen::Full)],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[
            get("/full").fails(502, &[socket(&["socket_backlog_full"], "connect() to unix: … failed (11:", "EAGAIN")])
        ],
        ..BASE
    },
    Scenario {
        name: "unix/missing_then_saved",
        upstreams: &[("b", Place::Unix, Listen::Accept(HEALTHY))],
        http: "upstream pair { server unix:<dir>/nowhere.sock max_fails=0 weight=1000000; server <b> backup; }",
        server: "location / { proxy_pass http://pair; }",
        cases: &[get("/saved")
            // No hook sees the connect to the second unix socket where there is no fentry.
            .fails(
                200,
                &[socket(&["socket_missing"], "connect() to unix: … failed (2:", "ENOENT").outcome("retried|unknown")],
            )],
        ..BASE
    },
    Scenario {
        name: "unix/closed",
        upstreams: &[("a", Place::Unix, Listen::Accept(FAULTS))],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/closed").fails(
            502,
            &[attempt(
                &["closed_before_response"],
                "upstream prematurely closed connection while reading response header from upstream",
            )
            .likely()],
        )],
        ..BASE
    },
    Scenario {
        name: "unix/reset_with_unread_request",
        upstreams: &[("a", Place::Unix, Listen::Accept(FAULTS))],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/unread").fails(
            502,
            &[attempt(&["reset_before_response"], "recv() failed (104 … while reading response header from upstream")
                .likely()],
        )],
        ..BASE
    },
    Scenario {
        name: "unix/healthy",
        upstreams: &[("a", Place::Unix, Listen::Accept(HEALTHY))],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/ok")],
        ..BASE
    },
];
