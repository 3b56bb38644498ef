//! Whose 502 it is: nginx's, the upstream's, the configuration's, or a cache's.

use anyhow::{Context, Result};

use crate::scenario::{Amount, Attempt, BASE, Drive, Reply, Scenario, Turn, attempt, get};
use crate::script::Step::{self, Close, Request, Respond, Send, When};
use crate::stage::Stage;
use crate::upstream::{Listen, Place};

const REFUSED: Attempt = attempt(&["connect_refused"], "connect() failed (111 … while connecting to upstream");
const CLOSED: Attempt =
    attempt(&["closed_before_response"], "upstream prematurely closed connection while reading response header");

/// Answers 502 and 504 itself.
const OWN: &[Step] = &[
    When("/502", &[Request, Send("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\nmine"), Close]),
    When("/504", &[Request, Send("HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n"), Close]),
    When("/stale", &[Request, Close]),
    Request,
    Respond,
    Step::Repeat,
];

/// One that answers for itself, one that is down.
const TWO: Scenario =
    Scenario { upstreams: &[("a", Place::V4, Listen::Accept(OWN)), ("down", Place::V4, Listen::Nobody)], ..BASE };

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "origins/side_by_side",
        server: "location / { proxy_pass http://<a>; } location /refused { proxy_pass http://<down>; }\n\
                 location /return { return 502; } location /files { root <dir>; try_files /nowhere =504; }\n\
                 location /intercepted { proxy_intercept_errors on; error_page 502 /own.html;\n\
                 proxy_pass http://<a>/502; } location = /own.html { return 200 own; }",
        cases: &[
            get("/refused").fails(502, &[REFUSED]),
            get("/502").status(502).reply(Reply::Maybe("upstream")),
            get("/504").status(504).reply(Reply::Maybe("upstream")),
            get("/return").status(502).reply(Reply::Is("configured_status", 502, "config")),
            get("/files").status(504).reply(Reply::Is("configured_status", 504, "config")),
            get("/intercepted").status(502).reply(Reply::Is("upstream_status", 502, "upstream")).handled("error_page|"),
            get("/ok"),
        ],
        ..TWO
    },
    Scenario {
        name: "origins/cached_failure",
        http: "proxy_cache_path <dir>/cache keys_zone=cache:1m;",
        server: "location / { proxy_cache cache; proxy_cache_key lab; proxy_cache_valid 502 10m;\n\
                 proxy_pass http://<down>; }",
        cases: &[
            get("/first").fails(502, &[REFUSED]),
            get("/cached").status(502).reply(Reply::Is("configured_status", 502, "cache")),
        ],
        drive: Drive::By(first_then_the_rest),
        ..TWO
    },
    Scenario {
        name: "origins/cached_status_of_upstream",
        http: "proxy_cache_path <dir>/cache keys_zone=cache:1m;",
        server: "location / { proxy_cache cache; proxy_cache_key lab; proxy_cache_valid any 10m;\n\
                 proxy_pass http://<a>/502; }",
        cases: &[
            get("/first").status(502).reply(Reply::Maybe("upstream")),
            get("/cached").status(502).reply(Reply::Maybe("cache")),
        ],
        drive: Drive::By(first_then_the_rest),
        ..TWO
    },
    Scenario {
        name: "origins/stale_cache_saves",
        workers: Some(1),
        http: "proxy_cache_path <dir>/cache keys_zone=cache:1m;",
        server: "location / { proxy_cache cache; proxy_cache_key lab; proxy_cache_valid 200 1s;\n\
                 proxy_cache_use_stale error timeout; proxy_pass http://<a>; }",
        cases: &[
            // Never a 502: the client got what the cache had. What is right to say of the attempt is open.
            get("/stale")
                .fails(200, &[CLOSED.outcome("final|retried|unknown")])
                .reply(Reply::None)
                .amount(Amount::AtMost(2)),
            get("/warm"),
        ],
        drive: Drive::Turns(&[Turn::Go("/warm"), Turn::Idle(2100), Turn::Go("/stale"), Turn::Idle(1100)]),
        ..TWO
    },
    Scenario {
        name: "origins/limited",
        http: "limit_req_zone $server_name zone=one:64k rate=1r/m;",
        server: "location / { limit_req zone=one; proxy_pass http://<a>; }",
        cases: &[get("/first"), get("/limited").status(503).says(&["limiting requests, excess"])],
        drive: Drive::By(first_then_the_rest),
        ..TWO
    },
    Scenario {
        name: "origins/upstream_status_then_refused",
        http: "upstream pair { server <a> max_fails=0 weight=1000000; server <down> max_fails=0 backup; }",
        server: "location / { proxy_next_upstream error http_502 http_504; proxy_pass http://pair; }",
        cases: &[get("/502").fails(502, &[REFUSED])],
        optional: &["upstream_status"],
        ..TWO
    },
];

/// The first case once, then the second for the number of requests.
pub(super) fn first_then_the_rest(stage: &Stage) -> Result<()> {
    let [first, rest] = stage.cases() else { anyhow::bail!("not two cases") };
    stage.exchange(&mut stage.connect()?, first, false).context("the first")?;
    let mut client = stage.connect()?;
    for _ in 0..stage.count(Amount::Requests) {
        stage.exchange(&mut client, rest, true)?;
    }
    Ok(())
}
