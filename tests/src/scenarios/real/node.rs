//! Node.js: one process, many threads.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{CLOSED, NGINX, NOBODY, Program, Real, Told, fails, records, told};
use crate::client::Request;
use crate::scenario::Need;
use crate::scenarios::scene::failure;
use crate::stage::{Options, Stage};
use crate::{child, sockets, wait};

const fn program(name: &'static str, run: fn(&Path, &Options) -> Result<String>) -> Program {
    Program { name, needs: &[Need::Program("node"), Need::Ipv6], run }
}

pub(super) const PROGRAMS: &[Program] =
    &[program("real/node_where_it_listens", where_it_listens), program("real/node_closes_idle_connections", idle)];

fn start(stage: &Stage, host: &str, port: u16) -> Result<Real> {
    let server = Real::start(stage, "node", &["app.js", host, &port.to_string()])?;
    server.listens(stage, port)?;
    Ok(server)
}

fn where_it_listens(why502: &Path, options: &Options) -> Result<String> {
    let stage = Stage::set(&NGINX, options)?;
    let six = start(&stage, "::1", 3005)?;
    let scene = six.watched(stage, why502)?;
    fails(&scene, 502, &["/p3005/six"])?;
    let at_six = format!("[::1]:3005 (node[{}])", six.pid());
    let mut server = start(&scene.stage, "127.0.0.1", 3000)?;
    let pid = server.pid();
    fails(&scene, 502, &["/p3001/wrong"])?;
    told(&scene, 2)?;
    let mut client = scene.begin("/p3000/hang")?;
    server.hears("hang")?;
    server.process.signal(libc::SIGTERM)?;
    client.answers(502)?;
    server.process.wait(wait::SOON)?;
    fails(&scene, 502, &["/p3000/gone"])?;
    let records = records(scene, 4, 4)?;
    let lab = format!("SIGTERM from lab[{}]", std::process::id());
    let (cause, refused) = (CLOSED, "connect_refused");
    let (kind, fate) = ("address_family", NOBODY);
    Told { uri: "/six", cause: refused, kind, pid: None, fate, words: &[&at_six], hint: "[::1]:3005" }
        .check(&records)?;
    let near = format!("node[{pid}] listens on 127.0.0.1:3000");
    let (kind, fate) = ("not_listening", NOBODY);
    Told { uri: "/wrong", cause: refused, kind, pid: None, fate, words: &[&near], hint: "127.0.0.1:3000" }
        .check(&records)?;
    let (kind, killed) = ("process_killed", || ("signal", "SIGTERM".into()));
    let hint = "on SIGTERM server.close()";
    Told { uri: "/hang", cause, kind, pid: Some(pid), fate: killed(), words: &[&lab], hint }.check(&records)?;
    Told { uri: "/gone", cause: refused, kind, pid: Some(pid), fate: killed(), words: &[&lab], hint }
        .check(&records)?;
    Ok(format!("node {pid}"))
}

/// keepAliveTimeout is 300 ms, to which newer versions add a second; nginx's keepalive_timeout is a minute.
fn idle(why502: &Path, options: &Options) -> Result<String> {
    let stage = Stage::set(&NGINX, options)?;
    let server = start(&stage, "127.0.0.1", 3000)?;
    let scene = server.watched(stage, why502)?;
    let established = || scene.stage.inside(|| Ok(sockets::towards(3000, sockets::ESTABLISHED))).unwrap_or(usize::MAX);
    // Three connections at once, which all lie idle then.
    let mut clients = [scene.begin("/kept/slow")?, scene.begin("/kept/slow")?, scene.begin("/kept/slow")?];
    for client in &mut clients {
        client.answers(200)?;
    }
    wait::until("node to close its idle connections", wait::SOON, || established() == 0)?;
    let mut client = scene.stage.connect()?;
    let kept = |uri| Request { method: "GET", uri, body: 0, headers: "", keepalive: true };
    ensure!(client.exchange(&kept("/kept/ok"))?.status == 200, "node did not answer");
    // The request is there before nginx hears of the close: in this order it wakes up to them.
    let worker = *scene.stage.nginx.workers().first().context("a worker")?;
    child::stop(worker)?;
    let closed = client
        .send(&kept("/kept/stale"))
        .and_then(|()| wait::until("node to close the idle connection", wait::SOON, || established() == 0));
    child::go_on(worker)?;
    closed?;
    client.answers(502)?;
    let records = records(scene, 1, 1)?;
    let root = &failure(&records, "/stale")?["root"]["text"];
    let measured = ["idle for 29", "idle for 3", "idle for 1.2 s", "idle for 1.3 s", "idle for 1.4 s"];
    ensure!(measured.iter().any(|time| root.as_str().is_some_and(|text| text.contains(time))), "{root}");
    let (cause, kind, fate) = ("stale_keepalive", "peer_idle_close", NOBODY);
    Told { uri: "/stale", cause, kind, pid: None, fate, words: &["closes seen"], hint: "keepalive_timeout" }
        .check(&records)?;
    Ok(format!("node {}: {root}", server.pid()))
}
