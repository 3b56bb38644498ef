//! Connections that this host or the network forbids at once.

use std::net::TcpStream;

use anyhow::{Result, ensure};

use crate::drive;
use crate::scenario::{Amount, Attempt, BASE, Drive, Load, Need, Net, Scenario, attempt, get};
use crate::script::Step;
use crate::stage::Stage;
use crate::upstream::{Listen, Place};

const fn at_once(cause: &'static [&'static str], says: &'static str, errno: &'static str) -> Attempt {
    attempt(cause, says).errno(errno)
}

const UNREACHABLE_PORT: Attempt = attempt(&["connect_refused"], "connect() failed (111 … while connecting to upstream");

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "connect/routes_of_this_host",
        net: Net::Routed(&[]),
        server: "location /prohibit { proxy_pass http://10.88.1.1:80; }\n\
                 location /unreachable { proxy_pass http://10.88.2.1:80; }\n\
                 location /blackhole { proxy_pass http://10.88.3.1:80; }\n\
                 location /none { proxy_pass http://192.0.2.1:80; }",
        cases: &[
            get("/prohibit").fails(
                502,
                &[at_once(&["connect_denied"], "connect() to 10.88.1.1:80 failed (13", "EACCES").root("route")],
            ),
            get("/unreachable").fails(
                502,
                &[at_once(&["connect_unreachable"], "connect() to 10.88.2.1:80 failed (113", "EHOSTUNREACH")
                    .root("route")],
            ),
            get("/blackhole").fails(
                502,
                &[at_once(&["connect_failed"], "connect() to 10.88.3.1:80 failed (22", "EINVAL").root("route")],
            ),
            get("/none").fails(
                502,
                &[at_once(&["connect_unreachable"], "connect() to 192.0.2.1:80 failed (101", "ENETUNREACH")
                    .root("route")],
            ),
        ],
        ..BASE
    },
    Scenario {
        name: "connect/rejected_by_icmp_port",
        net: Net::Routed(&[]),
        upstreams: &[("a", Place::V4, Listen::Icmp(3))],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/icmp").fails(
            502,
            &[UNREACHABLE_PORT.errno("ECONNREFUSED").root_never(&[
                "not_listening",
                "process_exited",
                "address_family",
            ])],
        )],
        ..BASE
    },
    Scenario {
        name: "connect/rejected_by_icmp_host",
        net: Net::Routed(&[]),
        upstreams: &[("a", Place::V4, Listen::Icmp(1))],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/icmp").fails(
            502,
            &[attempt(&["connect_unreachable"], "connect() failed (113 … while connecting to upstream")
                .errno("EHOSTUNREACH")],
        )],
        ..BASE
    },
    Scenario {
        name: "connect/icmp_with_its_sender",
        needs: &[Need::Observation("icmp")],
        net: Net::Routed(&[]),
        upstreams: &[("port", Place::V4, Listen::Icmp(3))],
        server: "location / { proxy_pass http://<port>; } location /arp { proxy_pass http://10.77.0.9:80; }",
        cases: &[
            get("/port").fails(502, &[UNREACHABLE_PORT.root("icmp")]),
            get("/arp").fails(
                502,
                &[attempt(&["connect_unreachable"], "connect() failed (113 … while connecting to upstream")
                    .root("route")],
            ),
        ],
        ..BASE
    },
    Scenario {
        name: "connect/icmp_of_a_firewall",
        needs: &[Need::Observation("icmp")],
        net: Net::Routed(&[]),
        upstreams: &[("a", Place::V4, Listen::Icmp(13))],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/prohibited").fails(
            502,
            &[attempt(&["connect_unreachable"], "connect() failed (113 … while connecting to upstream").root("icmp")],
        )],
        ..BASE
    },
    Scenario {
        name: "connect/ports_exhausted",
        net: Net::Private(&[("ipv4.ip_local_port_range", "40000 40015")]),
        upstreams: &[("a", Place::V4, Listen::Accept(&[Step::Hold]))],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/ports")
            .fails(
                502,
                &[attempt(
                    &["ports_exhausted"],
                    "connect() to 127.0.0.1 … failed (99 … while connecting to upstream | connect() to 127.0.0.1:",
                )
                .errno("EADDRNOTAVAIL")
                .root("ports")],
            )
            .amount(Amount::AtMost(50))],
        drive: Drive::By(take_all_ports),
        ..BASE
    },
];

/// Takes every local port towards the upstream, then lets nginx try.
fn take_all_ports(stage: &Stage) -> Result<()> {
    let address: std::net::SocketAddr = stage.upstream("a")?.address().parse()?;
    let taken = stage.inside(|| {
        let mut taken = Vec::new();
        while let Ok(stream) = TcpStream::connect(address) {
            taken.push(stream);
        }
        Ok(taken)
    })?;
    ensure!((8..=16).contains(&taken.len()), "{} ports taken", taken.len());
    drive::in_parallel(stage, Load { clients: 4, keepalive: true })
}
