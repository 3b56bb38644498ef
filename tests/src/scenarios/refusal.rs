//! Connections that this host or the network forbids at once.

use std::net::TcpStream;

use anyhow::{Result, ensure};

use crate::drive;
use crate::scenario::{Amount, Attempt, BASE, Drive, Load, Net, Scenario, attempt, get};
use crate::script::Step;
use crate::stage::Stage;
use crate::upstream::{Listen, Place};

const fn at_once(cause: &'static [&'static str], says: &'static str, errno: &'static str) -> Attempt {
    attempt(cause, says).errno(errno)
}

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "connect/routes_of_this_host",
        net: Net::Routed(&[]),
        server: "location /prohibit { proxy_pass http://10.88.1.1:80; }\n\
                 location /unreachable { proxy_pass http://10.88.2.1:80; }\n\
                 location /blackhole { proxy_pass http://10.88.3.1:80; }\n\
                 location /none { proxy_pass http://192.0.2.1:80; }",
        cases: &[
            get("/prohibit")
                .fails(502, &[at_once(&["connect_denied"], "connect() to 10.88.1.1:80 failed (13", "EACCES")]),
            get("/unreachable").fails(
                502,
                &[at_once(&["connect_unreachable"], "connect() to 10.88.2.1:80 failed (113", "EHOSTUNREACH")],
            ),
            get("/blackhole")
                .fails(502, &[at_once(&["connect_failed"], "connect() to 10.88.3.1:80 failed (22", "EINVAL")]),
            get("/none").fails(
                502,
                &[at_once(&["connect_unreachable"], "connect() to 192.0.2.1:80 failed (101", "ENETUNREACH")],
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
            &[attempt(&["connect_refused"], "connect() failed (111 … while connecting to upstream")
                .errno("ECONNREFUSED")
                .root_never(&["not_listening", "process_exited", "address_family"])],
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
