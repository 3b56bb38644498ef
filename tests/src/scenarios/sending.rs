//! Failures while nginx sends the request.

use anyhow::{Context, Result};

use crate::child;
use crate::client::Request;
use crate::scenario::{Amount, BASE, Drive, Load, Scenario, attempt, post};
use crate::script::Step::{Gate, Hold, Read, Reset};
use crate::stage::Stage;
use crate::upstream::{Listen, Place};
use crate::{sockets, wait};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "sending/reset_during_big_body",
        upstreams: &[("a", Place::V4, Listen::Accept(&[Read(100), Reset]))],
        server: "location / { proxy_pass http://<a>; }",
        // Which system call meets the RST first is nginx's luck: a write, or a read of the socket that woke it.
        cases: &[post("/upload").body(8 << 20).amount(Amount::AtMost(50)).fails(
            502,
            &[attempt(
                &["send_failed", "reset_before_response"],
                "sendfile() failed ( | writev() failed ( | recv() failed (104",
            )],
        )],
        ..BASE
    },
    Scenario {
        name: "sending/reset_before_write",
        workers: Some(1),
        upstreams: &[("a", Place::V4, Listen::Accept(&[Read(100), Gate, Reset]))],
        server: "location / { proxy_request_buffering off; proxy_http_version 1.1; proxy_pass http://<a>; }",
        cases: &[post("/write").body(2000).fails(
            502,
            &[attempt(&["send_failed"], "writev() failed (104 … while sending request to upstream").reused(false)],
        )],
        drive: Drive::By(reset_while_the_client_sends),
        ..BASE
    },
    Scenario {
        name: "sending/timeout",
        upstreams: &[("a", Place::V4, Listen::Accept(&[Gate, Hold]))],
        server: "location / { proxy_send_timeout 1s; proxy_pass http://<a>; }",
        cases: &[post("/stuck").body(16 << 20).amount(Amount::AtMost(10)).fails(
            504,
            &[attempt(&["send_timeout"], "upstream timed out (110 … while sending request to upstream").errno("")],
        )],
        drive: Drive::Load(Load { clients: 10, keepalive: false }),
        ..BASE
    },
];

/// Half of a body arrives, the worker stops, the other half and then the upstream's RST arrive: it writes before it
/// looks at the upstream.
fn reset_while_the_client_sends(stage: &Stage) -> Result<()> {
    use std::io::Write;
    let upstream = stage.upstream("a")?;
    let worker = *stage.nginx.workers().first().context("a worker")?;
    let case = stage.case("/write")?;
    let uri = stage.note(case);
    let mut client = stage.connect()?;
    let headers = format!("Content-Length: {}\r\n", case.body);
    client.send(&Request { method: "POST", uri: &uri, body: 0, headers: &headers, keepalive: false })?;
    client.stream().write_all(&[b'b'; 1000])?;
    wait::until("the upstream to stand at the gate", wait::SOON, || upstream.waiting() == 1)?;
    child::stop(worker)?;
    let ordered = (|| {
        client.stream().write_all(&[b'b'; 1000])?;
        let port = stage.nginx.address().port();
        wait::until("the rest of the body to reach nginx", wait::SOON, || sockets::has_unread(port))?;
        upstream.open_gate();
        let gone = || sockets::towards(upstream.port(), sockets::ESTABLISHED) == 0;
        wait::until("the reset to reach nginx", wait::SOON, gone)
    })();
    child::go_on(worker)?;
    ordered?;
    client.receive("POST")?;
    Ok(())
}
