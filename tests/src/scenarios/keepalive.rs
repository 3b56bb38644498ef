//! Connections that nginx kept, and that had died meanwhile.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::child;
use crate::client::Connection;
use crate::scenario::{Amount, Attempt, BASE, Drive, Scenario, Turn, attempt, get, post};
use crate::script::Step::{self, Await, Close, Gate, Repeat, Request, Reset, Respond, When};
use crate::stage::Stage;
use crate::upstream::{Listen, Place};
use crate::{sockets, wait};

const POOL: &str = "upstream pool { server <a> max_fails=0; keepalive 8; }";
const LOCATION: &str = "location / { proxy_http_version 1.1; proxy_set_header Connection ''; proxy_pass http://pool; }";

/// Serves a first request, and on a second one to a stale path ends the connection without an answer.
const STALE: &[Step] = &[
    Request,
    Respond,
    When("/stale/fin", &[Request, Close]),
    When("/stale/rst", &[Await, Reset]),
    When("/stale/read_rst", &[Request, Reset]),
    When("/upload", &[Step::Read(1 << 20), Reset]),
    Repeat,
];

/// How long the pool lies idle before the request that finds it dead.
const IDLE_MS: u64 = 300;

const fn stale(says: &'static str) -> Attempt {
    attempt(&["stale_keepalive"], says).reused(true).likely().idle_us(IDLE_MS * 900)
}
const CLOSED: Attempt = stale("upstream prematurely closed connection while reading response header from upstream");
const RESET: Attempt = stale("recv() failed (104 … while reading response header from upstream");

/// Warms the pool up, leaves it idle, and sends what finds it dead.
const fn idle_then(path: &'static str) -> [Turn; 3] {
    [Turn::Go("/warm"), Turn::Idle(IDLE_MS), Turn::Go(path)]
}

/// A stale connection, with one worker, which has one pool.
const ONE: Scenario = Scenario {
    workers: Some(1),
    upstreams: &[("a", Place::V4, Listen::Accept(STALE))],
    http: POOL,
    server: LOCATION,
    ..BASE
};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "keepalive/preexisting_connection",
        cases: &[post("/stale/fin").fails(502, &[CLOSED.preexisting()]), get("/warm")],
        before: Some(|stage| warm(stage).map(drop)),
        drive: Drive::By(|stage| {
            wait::let_pass(Duration::from_millis(IDLE_MS))?;
            stage.exchange(&mut stage.connect()?, stage.case("/stale/fin")?, false).map(drop)
        }),
        ..ONE
    },
    Scenario {
        // Three connections show after how long the upstream closes them.
        name: "keepalive/stale_after_measured_closes",
        upstreams: &[(
            "a",
            Place::V4,
            Listen::Accept(&[
                When("/stale/fin", &[Request, Close]),
                When("/warm/long", &[Request, Respond, Step::Idle(IDLE_MS), Close]),
                Request,
                Respond,
                Repeat,
            ]),
        )],
        cases: &[
            post("/stale/fin").fails(502, &[CLOSED.root("peer_idle_close")]).amount(Amount::AtMost(2)),
            get("/warm/long"),
            get("/warm/short"),
        ],
        drive: Drive::Turns(&[
            Turn::Go("/warm/long"),
            Turn::Gone("a"),
            Turn::Go("/warm/long"),
            Turn::Gone("a"),
            Turn::Go("/warm/long"),
            Turn::Gone("a"),
            Turn::Go("/warm/short"),
            Turn::Idle(IDLE_MS),
            Turn::Go("/stale/fin"),
        ]),
        ..ONE
    },
    Scenario {
        name: "keepalive/stale_fin_post",
        cases: &[post("/stale/fin").fails(502, &[CLOSED]).amount(Amount::AtMost(10)), get("/warm")],
        drive: Drive::Turns(&idle_then("/stale/fin")),
        ..ONE
    },
    Scenario {
        name: "keepalive/stale_rst_post",
        cases: &[post("/stale/rst").fails(502, &[RESET]).amount(Amount::AtMost(10)), get("/warm")],
        drive: Drive::Turns(&idle_then("/stale/rst")),
        ..ONE
    },
    Scenario {
        name: "keepalive/stale_read_rst_post",
        cases: &[post("/stale/read_rst").fails(502, &[RESET]).amount(Amount::AtMost(10)), get("/warm")],
        drive: Drive::Turns(&idle_then("/stale/read_rst")),
        ..ONE
    },
    Scenario {
        // Most of the upload was taken in: nobody had given that connection up. Which system call meets the RST is nginx's luck.
        name: "keepalive/reset_during_big_body",
        cases: &[
            post("/upload").body(8 << 20).amount(Amount::AtMost(5)).fails(
                502,
                &[attempt(
                    &["send_failed", "reset_before_response"],
                    "sendfile() failed ( | writev() failed ( | recv() failed (104",
                )
                .reused(true)
                .root_never(&["peer_idle_close"])],
            ),
            get("/warm"),
        ],
        drive: Drive::Turns(&idle_then("/upload")),
        ..ONE
    },
    Scenario {
        name: "keepalive/stale_fin_get_retried",
        cases: &[get("/stale/fin").fails(200, &[CLOSED.retried()]).amount(Amount::AtMost(10)), get("/warm")],
        drive: Drive::Turns(&idle_then("/stale/fin")),
        ..ONE
    },
    Scenario {
        name: "keepalive/stale_rst_get_retried",
        cases: &[get("/stale/rst").fails(200, &[RESET.retried()]).amount(Amount::AtMost(10)), get("/warm")],
        drive: Drive::Turns(&idle_then("/stale/rst")),
        ..ONE
    },
    Scenario {
        name: "keepalive/rst_before_pick_up_retried",
        upstreams: &[("a", Place::V4, Listen::Accept(RESET_LATER))],
        cases: &[post("/misleading").fails(200, &[MISLEADING.retried()]), get("/warm")],
        drive: Drive::By(reset_while_the_worker_stands_still),
        ..ONE
    },
    Scenario {
        name: "keepalive/rst_before_pick_up",
        upstreams: &[("a", Place::V4, Listen::Accept(RESET_LATER))],
        server: "location / { proxy_http_version 1.1; proxy_set_header Connection ''; proxy_pass http://pool; \
                 proxy_next_upstream off; }",
        cases: &[post("/misleading").fails(502, &[MISLEADING]), get("/warm")],
        drive: Drive::By(reset_while_the_worker_stands_still),
        ..ONE
    },
];

/// Serves one request and resets the connection when told to.
const RESET_LATER: &[Step] = &[When("/misleading", &[Request, Respond, Repeat]), Request, Respond, Gate, Reset];
/// nginx finds the error of a cached connection before it writes, and blames a connect that never was.
const MISLEADING: Attempt = stale("connect() failed (104 … while connecting to upstream");

/// Fills the pool with a connection.
fn warm(stage: &Stage) -> Result<Connection> {
    let mut client = stage.connect()?;
    let answer = stage.exchange(&mut client, stage.case("/warm")?, true)?;
    ensure!(answer.reusable, "nginx did not keep the client's connection");
    Ok(client)
}

/// The client's request reaches the stopped worker before the upstream's RST does: in this order it wakes up to them.
fn reset_while_the_worker_stands_still(stage: &Stage) -> Result<()> {
    let upstream = stage.upstream("a")?;
    let worker = *stage.nginx.workers().first().context("a worker")?;
    let mut client = warm(stage)?;
    wait::until("the upstream to stand at the gate", wait::SOON, || upstream.waiting() == 1)?;
    wait::let_pass(Duration::from_millis(IDLE_MS))?;
    child::stop(worker)?;
    let ordered = (|| {
        stage.send(&mut client, stage.case("/misleading")?)?;
        let port = stage.nginx.address().port();
        wait::until("the request to reach nginx", wait::SOON, || sockets::has_unread(port))?;
        upstream.open_gate();
        let gone = || sockets::towards(upstream.port(), sockets::ESTABLISHED) == 0;
        wait::until("the reset to reach nginx", wait::SOON, gone)
    })();
    child::go_on(worker)?;
    ordered?;
    client.receive("POST")?;
    Ok(())
}
