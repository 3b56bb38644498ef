//! nginx's own host has nothing left, or its configuration leads nowhere: 500, which people look for as a 502.

use anyhow::{Context, Result};

use crate::client::Connection;
use crate::scenario::{Amount, BASE, Case, Drive, Reply, Scenario, attempt, get};
use crate::script::HEALTHY;
use crate::script::Step::{Hold, Request};
use crate::stage::Stage;
use crate::upstream::{Listen, Place};
use crate::wait;

/// No address, so no attempt.
const fn broken(path: &'static str, says: &'static [&'static str], cause: &'static str) -> Case {
    get(path).status(500).says(says).reply(Reply::Is(cause, 500, "nginx"))
}

/// How many descriptors one worker may hold.
const FILES: usize = 40;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "exhausted/file_descriptors",
        workers: Some(1),
        upstreams: &[("a", Place::V4, Listen::Accept(HEALTHY))],
        main: "worker_rlimit_nofile 40;",
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/files")
            .fails(500, &[attempt(&["fds_exhausted"], "socket() failed (24 … while connecting to upstream")])
            .amount(Amount::AtMost(20))],
        drive: Drive::By(with_every_file_open),
        ..BASE
    },
    Scenario {
        name: "exhausted/worker_connections",
        workers: Some(1),
        upstreams: &[("a", Place::V4, Listen::Accept(&[Request, Hold]))],
        main: "events { worker_connections 21; }",
        server: "location / { proxy_pass http://<a>; }",
        cases: &[
            get("/connections")
                .fails(
                    500,
                    &[attempt(
                        &["worker_connections"],
                        "21 worker_connections are not enough while connecting to upstream",
                    )],
                )
                .amount(Amount::AtMost(1)),
            get("/held").status(499),
        ],
        drive: Drive::By(with_every_connection_held),
        ..BASE
    },
    Scenario {
        name: "exhausted/bind",
        upstreams: &[("a", Place::V4, Listen::Accept(HEALTHY))],
        server: "location / { proxy_bind 192.0.2.7; proxy_pass http://<a>; }",
        cases: &[get("/bind")
            .fails(500, &[attempt(&["bind_failed"], "bind(192.0.2.7) failed (99 … while connecting to upstream")])],
        ..BASE
    },
    Scenario {
        name: "exhausted/bad_address_from_variables",
        server: "set $nowhere nonsense; set $no_port http://127.0.0.1:port/;\n\
                 location /prefix { proxy_pass $nowhere; } location /port { proxy_pass $no_port; }",
        cases: &[
            broken("/prefix", &["invalid URL prefix in \"nonsense\""], "upstream_misconfigured"),
            broken("/port", &["invalid port in upstream \"127.0.0.1:port/\""], "upstream_misconfigured"),
        ],
        ..BASE
    },
];

/// Idle clients take what the worker may still open; then each socket() fails.
pub(super) fn with_every_file_open(stage: &Stage) -> Result<()> {
    let worker = *stage.nginx.workers().first().context("a worker")?;
    // Descriptors above the limit are older than it and do not count.
    let counts = |entry: &std::fs::DirEntry| {
        entry.file_name().to_str().and_then(|name| name.parse().ok()).is_some_and(|fd: usize| fd < FILES)
    };
    let open = || {
        let entries = std::fs::read_dir(format!("/proc/{worker}/fd")).into_iter().flatten().flatten();
        entries.filter(counts).count()
    };
    let [case] = stage.cases() else { anyhow::bail!("not one case") };
    let mut idle: Vec<Connection> = Vec::new();
    for _ in 0..stage.count(case.amount) {
        while open() < FILES {
            let before = open();
            idle.push(stage.connect()?);
            wait::until("nginx to accept", wait::SOON, || open() > before)?;
        }
        stage.exchange(&mut idle.pop().context("a client")?, case, false)?;
        wait::until("nginx to close", wait::SOON, || open() < FILES)?;
    }
    Ok(())
}

/// Requests that are held take two connections each, until one is left: the client has it, and its upstream gets none.
fn with_every_connection_held(stage: &Stage) -> Result<()> {
    let upstream = stage.upstream("a")?;
    let mut held = Vec::new();
    // The listener and the channel to the master are connections as well.
    for count in 1..=9 {
        let mut client = stage.connect()?;
        stage.send(&mut client, stage.case("/held")?)?;
        held.push(client);
        wait::until("the upstream to have the request", wait::SOON, || upstream.requests() == count)?;
    }
    stage.exchange(&mut stage.connect()?, stage.case("/connections")?, false)?;
    drop(held);
    Ok(())
}
