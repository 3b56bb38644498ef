//! `lab demo`: a private nginx whose upstreams fail in turn, watched by `why502` on the terminal.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::child::{self, Guarded};
use crate::filter::Filter;
use crate::program::Program;
use crate::scenario::{BASE, Case, Scenario, get, post};
use crate::script::Step::{Close, Finish, Hold, Repeat, Request, Reset, Respond, Send, When};
use crate::script::{HEALTHY, Step};
use crate::stage::{Options, Stage};
use crate::upstream::{Listen, Place};
use crate::wait;

const APPLICATION: &[Step] = &[
    When("/closed", &[Request, Close]),
    When("/reset", &[Request, Reset]),
    When("/slow", &[Request, Hold]),
    When("/half", &[Request, Send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf a page"), Finish, Hold]),
    Request,
    Respond,
    Repeat,
];

/// Keeps connections, and ends each at the second request.
const FORGETFUL: &[Step] = &[Request, Respond, Request, Close];

const DEMO: Scenario = Scenario {
    name: "demo/all",
    workers: Some(1),
    upstreams: &[
        ("down", Place::V4, Listen::Nobody),
        ("application", Place::V4, Listen::Accept(APPLICATION)),
        ("forgetful", Place::V4, Listen::Accept(FORGETFUL)),
        ("firewalled", Place::V4, Listen::Filtered(Filter::Everything, HEALTHY)),
        ("busy", Place::V4, Listen::Full),
    ],
    http: "upstream pool { server <forgetful> max_fails=0; keepalive 8; }",
    server: "proxy_connect_timeout 1500ms; proxy_read_timeout 1500ms;\n\
             location / { proxy_pass http://<application>; }\n\
             location /refused { proxy_pass http://<down>; }\n\
             location /pool { proxy_http_version 1.1; proxy_set_header Connection ''; proxy_pass http://pool; }\n\
             location /firewalled { proxy_pass http://<firewalled>; }\n\
             location /busy { proxy_pass http://<busy>; }",
    ..BASE
};

/// What fails in turn; `None` is a pause in which a kept connection grows stale.
const TURNS: &[&[Option<Case>]] = &[
    &[Some(get("/refused"))],
    &[Some(get("/closed"))],
    &[Some(get("/reset"))],
    &[Some(get("/pool")), None, Some(post("/pool/order"))],
    &[Some(get("/busy"))],
    &[Some(get("/firewalled"))],
    &[Some(get("/slow"))],
    &[Some(get("/half"))],
];

/// Shows it, for about `duration`.
pub fn show(why502: &Path, nginx: Program, duration: Duration) -> Result<ExitCode> {
    let options = Options {
        nginx,
        why502: Some(why502.to_owned()),
        requests: 1,
        seconds: 1,
        workers: 1,
        keep: false,
        vm: false,
        of_nginx: false,
        until: None,
        hooks: None,
        doctor: OnceLock::new(),
        schema: None,
    };
    let stage = Stage::set(&DEMO, &options)?;
    eprintln!(
        "A private nginx on {} gets healthy requests for {} s, and others to upstreams that fail in turn:\n\
         nobody listens, closes early, resets, forgets a kept connection, full queue, firewall, too slow, half a page.\n\
         What follows is why502 watching it, until the time is up or ctrl-c; nothing is left behind.\n",
        stage.nginx.address(),
        duration.as_secs()
    );
    let mut tracer = watch(why502, &stage)?;
    let end = Instant::now() + duration;
    let over = || Instant::now() >= end || wait::interrupted();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over() {
                request(&stage, &get("/healthy"));
                pause(Duration::from_millis(20));
            }
        });
        for turn in TURNS.iter().cycle() {
            if over() || tracer.ended().is_some() {
                break;
            }
            for case in *turn {
                match case {
                    Some(case) => request(&stage, case),
                    None => pause(Duration::from_millis(400)),
                }
            }
            pause(Duration::from_millis(100));
        }
    });
    if tracer.ended().is_none() {
        tracer.signal(libc::SIGINT)?;
    }
    let deadline = Instant::now() + wait::SOON;
    let status = loop {
        // Not `wait::until`: after ctrl-c the summary is still to come.
        match tracer.ended() {
            Some(status) => break status,
            None if Instant::now() > deadline => anyhow::bail!("why502 did not end"),
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    ensure!(status.success(), "why502 ended with {status}");
    Ok(ExitCode::SUCCESS)
}

/// Starts the tracer on this terminal. It writes a capture too: its first line says that the hooks are attached.
fn watch(why502: &Path, stage: &Stage) -> Result<Guarded> {
    let log = stage.directory.path().join("demo.jsonl");
    let mut command = Command::new(why502);
    command.args(["trace", "--pid", &stage.nginx.pid().to_string(), "--log"]).arg(&log);
    // A ctrl-c is for the lab, which passes it on once.
    command.process_group(0);
    let mut tracer = child::start("why502", &mut command, None)?;
    let attached = || std::fs::read_to_string(&log).is_ok_and(|log| log.contains("\"session\""));
    wait::until("why502 to attach", Duration::from_secs(30), || attached() || tracer.ended().is_some())?;
    ensure!(tracer.ended().is_none(), "why502 ended at once");
    Ok(tracer)
}

/// Sends a request on a connection of its own. How it ends is for why502 to tell.
fn request(stage: &Stage, case: &Case) {
    let sent = stage.connect().context("connecting").and_then(|mut client| stage.exchange(&mut client, case, false));
    drop(sent);
}

fn pause(time: Duration) {
    // An error is ctrl-c, which the loops notice.
    let _ = wait::let_pass(time);
}
