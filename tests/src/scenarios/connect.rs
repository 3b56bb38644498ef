//! Failures before there is a connection.

use anyhow::{Context, Result};

use crate::child;
use crate::filter::Filter;
use crate::scenario::{Amount, Attempt, BASE, Case, Drive, Load, Need, Net, Scenario, attempt, get, post};
use crate::script::{HEALTHY, Step};
use crate::stage::Stage;
use crate::upstream::{Listen, Place};
use crate::{sockets, wait};

const REFUSED: Attempt = attempt(&["connect_refused"], "connect() failed (111 … while connecting to upstream")
    .errno("ECONNREFUSED")
    .reused(false)
    .root("not_listening");
const UNREACHABLE: Attempt =
    attempt(&["connect_unreachable"], "connect() failed (113 … while connecting to upstream").errno("EHOSTUNREACH");
const TIMEOUT: Attempt =
    attempt(&["connect_timeout"], "upstream timed out (110 … while connecting to upstream").reused(false).errno("");
const KERNEL_TIMEOUT: Attempt =
    attempt(&["connect_timeout_kernel"], "connect() failed (110 … while connecting to upstream").errno("ETIMEDOUT");
const RESET: Attempt = attempt(&["connect_reset"], "connect() failed (104 … while connecting to upstream")
    .errno("ECONNRESET")
    .reused(false)
    .root("application_closed");

/// Everybody at once: for faults that take their time.
const CROWD: Drive = Drive::Load(Load { clients: 200, keepalive: false });

/// One way of getting nowhere, under the same path.
const fn to(path: &'static str, status: u16, attempts: &'static [Attempt]) -> Case {
    get(path).fails(status, attempts)
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "connect/refused",
        upstreams: &[("a", Place::V4, Listen::Nobody)],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[to("/get", 502, &[REFUSED]), post("/post").fails(502, &[REFUSED])],
        ..BASE
    },
    Scenario {
        name: "connect/refused_v6",
        needs: &[Need::Ipv6],
        upstreams: &[("a", Place::V6, Listen::Nobody)],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[to("/v6", 502, &[REFUSED])],
        ..BASE
    },
    Scenario {
        name: "connect/refused_upstream_block",
        upstreams: &[("a", Place::V4, Listen::Nobody)],
        http: "upstream block { server <a> max_fails=0; keepalive 8; }",
        server: "location / { proxy_pass http://block; }",
        cases: &[to("/block", 502, &[REFUSED])],
        ..BASE
    },
    Scenario {
        name: "connect/refused_then_saved",
        upstreams: &[("a", Place::V4, Listen::Nobody), ("b", Place::V4, Listen::Accept(HEALTHY))],
        http: "upstream pair { server <a> max_fails=0 weight=1000000; server <b> backup; }",
        server: "location / { proxy_pass http://pair; }",
        cases: &[to("/saved", 200, &[REFUSED.retried()]), post("/post").fails(200, &[REFUSED.retried()])],
        ..BASE
    },
    Scenario {
        name: "connect/refused_twice",
        upstreams: &[("a", Place::V4, Listen::Nobody), ("b", Place::V4, Listen::Nobody)],
        http: "upstream pair { server <a> max_fails=0; server <b> max_fails=0; }",
        server: "location / { proxy_pass http://pair; }",
        cases: &[to("/twice", 502, &[REFUSED.retried(), REFUSED])],
        ..BASE
    },
    Scenario {
        name: "connect/unreachable_arp",
        net: Net::Routed(&[]),
        server: "location / { proxy_pass http://10.77.0.9:80; }",
        cases: &[to("/arp", 502, &[UNREACHABLE]).amount(Amount::AtMost(30))],
        drive: CROWD,
        ..BASE
    },
    Scenario {
        name: "connect/unreachable_icmp",
        net: Net::Routed(&[]),
        server: "location /host { proxy_pass http://10.77.1.1:80; }\n\
                 location /filtered { proxy_pass http://10.77.2.1:80; }",
        cases: &[
            // Linux routers send few such errors to one host: ip_error(), net/ipv4/route.c, error_burst.
            to("/host", 502, &[UNREACHABLE]).amount(Amount::AtMost(2)),
            to("/filtered", 502, &[UNREACHABLE]).amount(Amount::AtMost(2)),
        ],
        drive: Drive::Load(Load { clients: 1, keepalive: false }),
        ..BASE
    },
    Scenario {
        name: "connect/timeout_filtered",
        upstreams: &[("a", Place::V4, Listen::Filtered(Filter::Everything, HEALTHY))],
        server: "location / { proxy_connect_timeout 1s; proxy_pass http://<a>; }",
        cases: &[to("/drop", 504, &[TIMEOUT]), post("/post").fails(504, &[TIMEOUT])],
        drive: CROWD,
        ..BASE
    },
    Scenario {
        name: "connect/timeout_accept_queue_full",
        upstreams: &[("a", Place::V4, Listen::Full)],
        server: "location / { proxy_connect_timeout 1500ms; proxy_pass http://<a>; }",
        cases: &[to("/full", 504, &[TIMEOUT])],
        drive: CROWD,
        ..BASE
    },
    Scenario {
        name: "connect/timeout_blackhole",
        net: Net::Routed(&[]),
        server: "location / { proxy_connect_timeout 1s; proxy_pass http://10.77.3.1:80; }",
        cases: &[to("/hole", 504, &[TIMEOUT])],
        drive: CROWD,
        ..BASE
    },
    Scenario {
        name: "connect/timeout_kernel",
        net: Net::Private(&[("ipv4.tcp_syn_retries", "1")]),
        upstreams: &[("a", Place::V4, Listen::Full)],
        server: "location / { proxy_connect_timeout 60s; proxy_pass http://<a>; }",
        cases: &[to("/kernel", 502, &[KERNEL_TIMEOUT])],
        drive: CROWD,
        ..BASE
    },
    Scenario {
        name: "connect/reset",
        workers: Some(1),
        upstreams: &[("a", Place::V4, Listen::Filtered(Filter::Everything, &[Step::Reset]))],
        server: "location / { proxy_connect_timeout 60s; proxy_pass http://<a>; }",
        cases: &[to("/reset", 502, &[RESET]).amount(Amount::AtMost(50)), post("/post").fails(502, &[RESET])],
        drive: Drive::By(reset_before_the_first_write),
        ..BASE
    },
];

/// All SYNs are swallowed, then the worker is stopped; when their retransmissions get through, each connection is
/// accepted and reset. The worker finds handshake and RST together, and has written nothing.
fn reset_before_the_first_write(stage: &Stage) -> Result<()> {
    let upstream = stage.upstream("a")?;
    let worker = *stage.nginx.workers().first().context("a worker")?;
    let mut clients = Vec::new();
    for case in stage.cases() {
        for _ in 0..stage.count(Amount::AtMost(50)) {
            let mut client = stage.connect()?;
            stage.send(&mut client, case)?;
            clients.push((client, case.method));
        }
    }
    let connecting = || sockets::towards(upstream.port(), sockets::SYN_SENT) == clients.len();
    wait::until("nginx to connect", wait::SOON, connecting)?;
    child::stop(worker)?;
    upstream.unfilter()?;
    let reset = wait::until("every connection to be reset", wait::SOON, || {
        upstream.accepted() == clients.len()
            && sockets::towards(upstream.port(), sockets::SYN_SENT) == 0
            && sockets::open_towards(upstream.port()) == 0
    });
    child::go_on(worker)?;
    reset?;
    for (client, method) in &mut clients {
        client.receive(method)?;
    }
    Ok(())
}
