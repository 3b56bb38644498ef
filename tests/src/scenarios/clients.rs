//! Clients that do more than one thing on a connection: keepalive, pipelining, HTTP/2.

use std::io::Write;

use anyhow::{Context, Result, ensure};

use super::response::FAULTS;
use crate::h2;
use crate::scenario::{Amount, Attempt, BASE, Case, Drive, Need, Reply, Scenario, attempt, get};
use crate::script::Step::{Hold, Request, Send};
use crate::stage::Stage;
use crate::upstream::{Listen, Place};

const REFUSED: Attempt = attempt(&["connect_refused"], "connect() failed (111 … while connecting to upstream");
const CLOSED: Attempt = attempt(&["closed_before_response"], "upstream prematurely closed connection while reading");
const RESET: Attempt = attempt(&["reset_before_response"], "recv() failed (104 … while reading response header");
const SILENT: Attempt = attempt(&["response_timeout"], "upstream timed out (110 … while reading response header");

const UPSTREAMS: &[(&str, Place, Listen)] =
    &[("down", Place::V4, Listen::Nobody), ("a", Place::V4, Listen::Accept(FAULTS))];

/// The same locations for clients of either protocol.
const LOCATIONS: &str = "proxy_read_timeout 1s; location / { proxy_pass http://<a>; }\n\
     location /refused { proxy_pass http://<down>; } location /configured { return 502; }";
const OVER_H2: &str = "server { listen unix:<dir>/h2.sock http2; server_name lab;\n\
     proxy_read_timeout 1s; location / { proxy_pass http://<a>; }\n\
     location /refused { proxy_pass http://<down>; } location /configured { return 502; } }";

const FATES: &[Case] = &[
    get("/refused").fails(502, &[REFUSED]),
    get("/closed").fails(502, &[CLOSED]),
    get("/reset").fails(502, &[RESET]),
    get("/silent").fails(504, &[SILENT]).amount(Amount::AtMost(3)),
    get("/configured").status(502).reply(Reply::Is("configured_status", 502, "config")),
    get("/healthy"),
];

/// One client: what nginx reuses for its requests, it reuses at once.
const ONE: Scenario = Scenario { workers: Some(1), upstreams: UPSTREAMS, server: LOCATIONS, cases: FATES, ..BASE };

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "clients/one_connection_for_all",
        drive: Drive::Load(crate::scenario::Load { clients: 1, keepalive: true }),
        ..ONE
    },
    Scenario { name: "clients/pipelined", drive: Drive::By(pipelined), ..ONE },
    Scenario {
        name: "clients/http2",
        needs: &[Need::Http2],
        workers: None,
        http: OVER_H2,
        drive: Drive::By(many_streams),
        ..ONE
    },
    Scenario {
        name: "clients/http2_cancels",
        needs: &[Need::Http2],
        upstreams: &[("a", Place::V4, Listen::Accept(&[Request, Hold]))],
        http: "server { listen unix:<dir>/h2.sock http2; server_name lab; location / { proxy_pass http://<a>; } }",
        server: "location / { return 404; }",
        cases: &[get("/cancelled").status(499)],
        drive: Drive::By(cancelled),
        ..BASE
    },
    Scenario {
        name: "clients/body_never_comes",
        upstreams: UPSTREAMS,
        server: "client_body_timeout 1s; location / { proxy_pass http://<down>; }",
        cases: &[get("/slow").method("POST").status(408)],
        drive: Drive::By(half_a_body),
        ..BASE
    },
    Scenario {
        name: "clients/http09_from_upstream",
        // What is no HTTP is passed on as HTTP/0.9 (NGINX.md row 19): the access log has a status of 009.
        upstreams: &[("a", Place::V4, Listen::Accept(&[Request, Send("hello\n"), crate::script::Step::Close]))],
        server: "location / { proxy_pass http://<a>; }",
        cases: &[get("/hello").status(9).says(&["upstream sent no valid HTTP/1.0 header"])],
        drive: Drive::By(without_a_status),
        ..BASE
    },
];

/// All requests in runs of eight on one connection each, written at once, before any answer is read.
fn pipelined(stage: &Stage) -> Result<()> {
    let most = stage.cases().iter().map(|case| stage.count(case.amount)).max().unwrap_or(0);
    for round in 0..most {
        let mut client = stage.connect()?;
        let cases: Vec<&Case> = stage.cases().iter().filter(|case| round < stage.count(case.amount)).collect();
        let mut text = String::new();
        let mut uris = Vec::new();
        for case in &cases {
            let uri = stage.note(case);
            text.push_str(&format!("{} {uri} HTTP/1.1\r\nHost: lab\r\n\r\n", case.method));
            uris.push(uri);
        }
        client.stream().write_all(text.as_bytes()).context("sending")?;
        for (case, uri) in cases.iter().zip(uris) {
            stage.answered(&uri, client.receive(case.method).with_context(|| uri.clone())?.status);
        }
    }
    Ok(())
}

/// All requests over connections of up to 100 streams, which nginx serves side by side.
fn many_streams(stage: &Stage) -> Result<()> {
    let socket = stage.directory.path().join("h2.sock");
    let mut uris = Vec::new();
    let most = stage.cases().iter().map(|case| stage.count(case.amount)).max().unwrap_or(0);
    for round in 0..most {
        uris.extend(stage.cases().iter().filter(|case| round < stage.count(case.amount)).map(|case| stage.note(case)));
    }
    for uris in uris.chunks(100) {
        for (uri, status) in uris.iter().zip(h2::exchange_all(&socket, uris)?) {
            stage.answered(uri, status);
        }
    }
    Ok(())
}

fn cancelled(stage: &Stage) -> Result<()> {
    let upstream = stage.upstream("a")?;
    let case = stage.case("/cancelled")?;
    let uris: Vec<String> = (0..stage.count(Amount::AtMost(50))).map(|_| stage.note(case)).collect();
    let reached = |index: usize| upstream.requests() > index;
    h2::cancel_all(&stage.directory.path().join("h2.sock"), &uris, reached)
}

fn half_a_body(stage: &Stage) -> Result<()> {
    let case = stage.case("/slow")?;
    let mut clients = Vec::new();
    for _ in 0..stage.count(Amount::AtMost(20)) {
        let mut client = stage.connect()?;
        let uri = stage.note(case);
        let text = format!("POST {uri} HTTP/1.1\r\nHost: lab\r\nContent-Length: 10\r\n\r\nhalf");
        client.stream().write_all(text.as_bytes())?;
        clients.push(client);
    }
    for mut client in clients {
        // nginx closes with or without a 408.
        let _ = client.receive("POST");
    }
    Ok(())
}

fn without_a_status(stage: &Stage) -> Result<()> {
    use std::io::Read;
    let case = stage.case("/hello")?;
    for _ in 0..stage.count(case.amount) {
        let mut client = stage.connect()?;
        let uri = stage.note(case);
        client
            .stream()
            .write_all(format!("GET {uri} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n").as_bytes())?;
        let mut text = String::new();
        client.stream().read_to_string(&mut text).context("reading HTTP/0.9")?;
        ensure!(text.ends_with("hello\n") || text.contains("hello\n\r\n"), "{text:?}");
    }
    Ok(())
}
