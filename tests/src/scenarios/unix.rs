//! Unix sockets: php-fpm, gunicorn, uwsgi, puma.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use anyhow::Result;

use super::response::FAULTS;
use crate::scenario::{Amount, Attempt, BASE, Scenario, attempt, get, post};
use crate::script::HEALTHY;
use crate::upstream::{Listen, Place};

const fn socket(cause: &'static [&'static str], says: &'static str, errno: &'static str) -> Attempt {
    attempt(cause, says).errno(errno)
}

const MISSING: Attempt = socket(&["socket_missing"], "connect() to unix: … failed (2:", "ENOENT").root("socket_file");
const DENIED: Attempt = socket(&["socket_denied"], "connect() to unix: … failed (13:", "EACCES").root("socket_file");
const REFUSED: Attempt = socket(&["socket_refused"], "connect() to unix: … failed (111", "ECONNREFUSED");
const FULL: Attempt = socket(&["socket_backlog_full"], "connect() to unix: … failed (11:", "EAGAIN");
const CIRCLE: Attempt = socket(&["connect_failed"], "connect() to unix: … failed (40:", "ELOOP").root("socket_file");
const BELOW: Attempt = socket(&["connect_failed"], "connect() to unix: … failed (20:", "ENOTDIR").root("socket_file");
const DATAGRAM: Attempt =
    socket(&["connect_failed"], "connect() to unix: … failed (91:", "EPROTOTYPE").root("socket_file");

fn mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?)
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "unix/missing",
        server: "location / { proxy_pass http://unix:<dir>/nowhere.sock; }",
        cases: &[get("/missing").fails(502, &[MISSING]), post("/post").fails(502, &[MISSING])],
        ..BASE
    },
    Scenario {
        name: "unix/refused",
        upstreams: &[("a", Place::Unix, Listen::Nobody)],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/refused").fails(502, &[REFUSED.root("not_listening")])],
        ..BASE
    },
    Scenario {
        name: "unix/parts_of_the_path",
        server: "location /directory { proxy_pass http://unix:<dir>/nowhere/app.sock; }\n\
                 location /dangling { proxy_pass http://unix:<dir>/dangling.sock; }\n\
                 location /file { proxy_pass http://unix:<dir>/file.sock; }\n\
                 location /closed { proxy_pass http://unix:<dir>/closed/app.sock; }\n\
                 location /circle { proxy_pass http://unix:<dir>/circle.sock; }\n\
                 location /below { proxy_pass http://unix:<dir>/file.sock/app.sock; }\n\
                 location /datagram { proxy_pass http://unix:<dir>/datagram.sock; }",
        cases: &[
            get("/directory").fails(502, &[MISSING]).amount(Amount::AtMost(100)),
            get("/dangling").fails(502, &[MISSING]).amount(Amount::AtMost(100)),
            get("/file").fails(502, &[REFUSED.root("socket_file")]).amount(Amount::AtMost(100)),
            get("/closed").fails(502, &[DENIED]).amount(Amount::AtMost(100)),
            get("/circle").fails(502, &[CIRCLE]).amount(Amount::AtMost(20)),
            get("/below").fails(502, &[BELOW]).amount(Amount::AtMost(20)),
            get("/datagram").fails(502, &[DATAGRAM]).amount(Amount::AtMost(20)),
        ],
        before: Some(|stage| {
            let directory = stage.directory.path();
            std::os::unix::fs::symlink("gone/app.sock", directory.join("dangling.sock"))?;
            std::os::unix::fs::symlink("circle.sock", directory.join("circle.sock"))?;
            // Bound for as long as the lab runs.
            std::mem::forget(UnixDatagram::bind(directory.join("datagram.sock"))?);
            mode(&directory.join("datagram.sock"), 0o666)?;
            std::fs::write(directory.join("file.sock"), "")?;
            mode(&directory.join("file.sock"), 0o666)?;
            std::fs::create_dir(directory.join("closed"))?;
            mode(&directory.join("closed"), 0o700)
        }),
        ..BASE
    },
    Scenario {
        name: "unix/denied",
        upstreams: &[("a", Place::Unix, Listen::Accept(HEALTHY))],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/denied").fails(502, &[DENIED])],
        before: Some(|stage| mode(&stage.directory.path().join("a.sock"), 0o600)),
        ..BASE
    },
    Scenario {
        name: "unix/backlog_full",
        upstreams: &[("a", Place::Unix, Listen::Full)],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/full").fails(502, &[FULL.root("accept_queue_full")])],
        ..BASE
    },
    Scenario {
        name: "unix/missing_then_saved",
        upstreams: &[("b", Place::Unix, Listen::Accept(HEALTHY))],
        http: "upstream pair { server unix:<dir>/nowhere.sock max_fails=0 weight=1000000; server <b> backup; }",
        server: "location / { proxy_pass http://pair; }",
        cases: &[get("/saved")
            // No hook sees the connect to the second unix socket where there is no fentry.
            .fails(200, &[MISSING.outcome("retried|unknown")])],
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
