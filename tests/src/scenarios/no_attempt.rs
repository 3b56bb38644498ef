//! A 502 without any connection tried.

use anyhow::Result;

use crate::scenario::{Amount, Attempt, BASE, Drive, Reply, Scenario, attempt, get};
use crate::stage::Stage;
use crate::upstream::{Listen, Place};

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
        drive: Drive::By(first_then_dead),
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
];

fn first_then_dead(stage: &Stage) -> Result<()> {
    stage.exchange(&mut stage.connect()?, stage.case("/first")?, false)?;
    let mut client = stage.connect()?;
    for _ in 0..stage.count(Amount::Requests) {
        stage.exchange(&mut client, stage.case("/dead")?, true)?;
    }
    Ok(())
}
