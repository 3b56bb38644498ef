//! A 502 without any connection tried.

use anyhow::Result;

use crate::dns::Dns;
use crate::scenario::{Amount, Attempt, BASE, Case, Drive, Reply, Scenario, attempt, get};
use crate::script::Step::{Gate, Request, Respond};
use crate::stage::Stage;
use crate::upstream::{Listen, Place};
use crate::wait;

const REFUSED: Attempt = attempt(&["connect_refused"], "connect() failed (111");

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "no_attempt/no_live_upstreams",
        workers: Some(1),
        upstreams: &[("a", Place::V4, Listen::Nobody), ("b", Place::V4, Listen::Nobody)],
        http: "upstream pair { server <a> fail_timeout=600s; server <b> fail_timeout=600s; }",
        server: "location / { proxy_pass http://pair; }",
        cases: &[
            get("/first").fails(502, &[REFUSED.retried(), REFUSED]),
            get("/dead").status(502).says(&["no live upstreams while connecting to upstream"]).reply(Reply::Is(
                "no_live_upstreams",
                502,
                "nginx",
            )),
        ],
        drive: Drive::By(super::origins::first_then_the_rest),
        ..BASE
    },
    Scenario {
        name: "no_attempt/no_resolver",
        server: "location / { set $name lab.invalid; proxy_pass http://$name; }",
        cases: &[get("/name").status(502).says(&["no resolver defined to resolve lab.invalid"]).reply(Reply::Is(
            "no_resolver",
            502,
            "nginx",
        ))],
        ..BASE
    },
    Scenario {
        name: "no_attempt/dns_timeout",
        // A UDP port that nobody listens on: the queries are refused, and nginx goes on until its time is up.
        upstreams: &[("a", Place::V4, Listen::Nobody)],
        http: "resolver <a>; resolver_timeout 1s;",
        server: "location / { set $name lab.invalid; proxy_pass http://$name; }",
        cases: &[get("/name")
            .status(502)
            .amount(Amount::AtMost(8))
            .says(&["lab.invalid could not be resolved (110"])
            .reply(Reply::Is("dns_timeout", 502, "nginx"))],
        ..BASE
    },
    Scenario {
        name: "no_attempt/all_marked_down",
        upstreams: &[("a", Place::V4, Listen::Nobody), ("b", Place::V4, Listen::Nobody)],
        http: "upstream pair { server <a> down; server <b> down; } upstream one { server <a> down; }",
        server: "location /pair { proxy_pass http://pair; } location /one { proxy_pass http://one; }",
        cases: &[
            get("/pair").status(502).says(NO_LIVE).reply(NOBODY),
            get("/one").status(502).says(NO_LIVE).reply(NOBODY),
        ],
        ..BASE
    },
    Scenario {
        name: "no_attempt/max_conns",
        workers: Some(1),
        upstreams: &[("a", Place::V4, Listen::Accept(&[Request, Gate, Respond]))],
        http: "upstream one { zone one 64k; server <a> max_conns=1; }",
        server: "location / { proxy_pass http://one; }",
        cases: &[get("/held"), get("/too_many").status(502).says(NO_LIVE).reply(NOBODY)],
        drive: Drive::By(one_held_then_too_many),
        ..BASE
    },
    Scenario {
        name: "no_attempt/dns_failed",
        upstreams: &[
            ("unknown", Place::V4, Listen::Dns(Dns::Code(4))),
            ("server", Place::V4, Listen::Dns(Dns::Code(2))),
            ("name", Place::V4, Listen::Dns(Dns::Code(3))),
            ("refused", Place::V4, Listen::Dns(Dns::Code(5))),
        ],
        server: "set $name lab.invalid; resolver_timeout 5s;\n\
                 location /unknown { resolver <unknown>; proxy_pass http://$name; }\n\
                 location /server { resolver <server>; proxy_pass http://$name; }\n\
                 location /name { resolver <name>; proxy_pass http://$name; }\n\
                 location /refused { resolver <refused>; proxy_pass http://$name; }",
        cases: &[
            unresolved("/unknown", &["lab.invalid could not be resolved (4:"]),
            unresolved("/server", &["lab.invalid could not be resolved (2:"]),
            unresolved("/name", &["lab.invalid could not be resolved (3:"]),
            unresolved("/refused", &["lab.invalid could not be resolved (5:"]),
        ],
        ..BASE
    },
    Scenario {
        name: "no_attempt/dns_silent_or_garbled",
        upstreams: &[
            ("silence", Place::V4, Listen::Dns(Dns::Silence)),
            ("garbage", Place::V4, Listen::Dns(Dns::Garbage)),
            // nginx does not take a format error for an answer.
            ("format", Place::V4, Listen::Dns(Dns::Code(1))),
        ],
        server: "set $name lab.invalid; resolver_timeout 1s;\n\
                 location /silence { resolver <silence>; proxy_pass http://$name; }\n\
                 location /garbage { resolver <garbage>; proxy_pass http://$name; }\n\
                 location /format { resolver <format>; proxy_pass http://$name; }",
        cases: &[
            late("/silence", &["lab.invalid could not be resolved (110"]),
            late("/format", &["lab.invalid could not be resolved (110"]),
            late("/garbage", &["lab.invalid could not be resolved (110"]),
        ],
        ..BASE
    },
    Scenario {
        name: "no_attempt/resolved_and_refused",
        // The name is known, and an attempt follows: a failure like any other.
        upstreams: &[("dns", Place::V4, Listen::Dns(Dns::Address)), ("a", Place::V4, Listen::Nobody)],
        server: "resolver <dns> ipv6=off; set $at <a>; if ($at ~ \":([0-9]+)$\") { set $port_of $1; }\n\
                 location / { proxy_pass http://lab.invalid:$port_of; }",
        cases: &[get("/named").fails(502, &[REFUSED])],
        ..BASE
    },
];

const NO_LIVE: &[&str] = &["no live upstreams while connecting to upstream"];
const NOBODY: Reply = Reply::Is("no_live_upstreams", 502, "nginx");

const fn unresolved(path: &'static str, says: &'static [&'static str]) -> Case {
    get(path).status(502).says(says).reply(Reply::Is("dns_failed", 502, "nginx"))
}

const fn late(path: &'static str, says: &'static [&'static str]) -> Case {
    get(path).status(502).amount(Amount::AtMost(8)).says(says).reply(Reply::Is("dns_timeout", 502, "nginx"))
}

/// The only connection that the upstream may have is taken.
fn one_held_then_too_many(stage: &Stage) -> Result<()> {
    let upstream = stage.upstream("a")?;
    let mut held = stage.connect()?;
    stage.send(&mut held, stage.case("/held")?)?;
    wait::until("the upstream to have the request", wait::SOON, || upstream.waiting() == 1)?;
    let mut client = stage.connect()?;
    for _ in 0..stage.count(Amount::Requests) {
        stage.exchange(&mut client, stage.case("/too_many")?, true)?;
    }
    upstream.open_gate();
    held.receive("GET")?;
    Ok(())
}
