//! Addresses that are rewritten on the way, and docker-proxy: what container engines publish ports with.

use std::net::TcpStream;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Program;
use super::scene::{Scene, Server, because, besides, end_of, failure, sees_resets};
use crate::scenario::{BASE, Need, Net, Scenario};
use crate::stage::{Options, Stage};
use crate::tracer::of_type;
use crate::wait;

pub(super) const PROGRAMS: &[Program] = &[
    Program { name: "nat/published_port", needs: &[Need::Nat, Need::Python], run: published },
    Program { name: "nat/container", needs: &[Need::Python], run: container },
    Program { name: "nat/docker_proxy", needs: &[Need::Nat, Need::Python], run: docker_proxy },
];

/// The container is at 10.77.0.2; `/pPORT/…` goes to that port of nginx's host, `/loPORT/…` to that of its loopback, `/inPORT/…` to
/// the container's own.
const HOST: Scenario = Scenario {
    name: "nat/nginx",
    net: Net::Routed(&[("ipv4.conf.all.route_localnet", "1")]),
    workers: Some(1),
    server: "proxy_connect_timeout 1s; proxy_read_timeout 1s;\n\
             location ~ ^/p(?<port>[0-9]+)/ { proxy_pass http://10.77.0.1:$port; }\n\
             location ~ ^/lo(?<lo>[0-9]+)/ { proxy_pass http://127.0.0.1:$lo; }\n\
             location ~ ^/in(?<in>[0-9]+)/ { proxy_pass http://10.77.0.2:$in; }",
    ..BASE
};

/// Port 8000 + N of the host is port 9000 + N of the container.
const RULES: &str = "add table ip nat; \
     add chain ip nat output { type nat hook output priority -100; }; \
     add chain ip nat postrouting { type nat hook postrouting priority 100; }; \
     add rule ip nat output tcp dport 8001 dnat to 10.77.0.2:9001; \
     add rule ip nat output tcp dport 8002 dnat to 10.77.0.2:9002; \
     add rule ip nat output tcp dport 8003 dnat to 10.77.0.2:9003; \
     add rule ip nat postrouting ip saddr 127.0.0.1 oifname near masquerade";

const NONE: (&str, Value) = ("", Value::Null);

fn published(why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::set(&HOST, why502, options)?;
    scene.stage.near().context("near")?.nft(RULES)?;
    let mut server = Server::far(&scene.stage, 9001, 64)?;
    let pid = server.process.pid();
    // Nobody accepts there, and the queue holds one connection.
    let full = Server::far(&scene.stage, 9003, 0)?;
    let filler = scene.stage.inside(|| Ok(TcpStream::connect("10.77.0.2:9003")?))?;
    scene.answers("/p8003/full", 504)?;
    drop(filler);
    let slow = ["/p8001/hang/slow", "/lo8001/hang/slow"];
    for (uri, status) in [("/p8001/fine", 200), ("/lo8001/fine", 200), (slow[0], 504), (slow[1], 504)] {
        scene.answers(uri, status)?;
    }
    for _ in 0..4 {
        server.hears("request")?;
    }
    // While it is there to be looked at.
    let silent =
        || scene.tracer.lines().iter().filter(|line| line.contains("application_silent")).count() == slow.len();
    wait::until("who is slow to be told", wait::SOON, silent)?;
    for uri in ["/p8002/nobody", "/lo8002/nobody"] {
        scene.answers(uri, 502)?;
    }
    let killed = ["/p8001/hang/killed", "/lo8001/hang/killed"];
    let mut clients = Vec::new();
    for uri in killed {
        clients.push((uri, scene.begin(uri)?));
        server.hears("request")?;
    }
    server.process.signal(libc::SIGKILL)?;
    server.process.wait(wait::SOON)?;
    for (uri, mut client) in clients {
        client.answers(502).context(uri)?;
    }
    scene.answers("/p8001/gone", 502)?;
    let records = scene.records()?;
    for uri in slow {
        let words: &[&str] = &["has the connection and has not answered", "translated to 10.77.0.2:9001"];
        because(failure(&records, uri)?, "application_silent", Some(pid), &NONE, words)?;
    }
    let owner = format!("[{}] did not accept", full.process.pid());
    because(failure(&records, "/p8003/full")?, "accept_queue_full", None, &NONE, &["9003", &owner, "translated"])?;
    for uri in killed {
        let words: &[&str] = &["unanswered", "translated to 10.77.0.2:9001"];
        because(failure(&records, uri)?, "process_killed", Some(pid), &("signal", "SIGKILL".into()), words)?;
    }
    let (nobody, gone) = (["/p8002/nobody", "/lo8002/nobody"], "/p8001/gone");
    if !sees_resets(options)? {
        for uri in nobody.into_iter().chain([gone]) {
            let failure = failure(&records, uri)?;
            ensure!(failure["root"].is_null(), "nobody can know: {failure}");
        }
        return Ok(format!("pid {pid} killed; who refuses is not told here"));
    }
    for uri in nobody {
        because(failure(&records, uri)?, "not_listening", None, &NONE, &["9002", "10.77.0.2", "translated"])?;
    }
    let words: &[&str] = &["nothing listens on 10.77.0.2:9001", "the last that did"];
    // Seen to have no reason at all, once in some hundred runs on an emulated machine: what else was told then says why.
    because(failure(&records, gone)?, "process_killed", Some(pid), &("signal", "SIGKILL".into()), words)
        .with_context(|| besides(&records))?;
    Ok(format!("pid {pid} killed, nobody at 9002"))
}

/// What listens in a container, some of it for longer than it is watched.
fn container(why502: &Path, options: &Options) -> Result<String> {
    let stage = Stage::set(&HOST, options)?;
    let mut old = Server::far(&stage, 9001, 64)?;
    let full = Server::far(&stage, 9003, 0)?;
    let scene = Scene::watch(stage, why502)?;
    let mut new = Server::far(&scene.stage, 9002, 64)?;
    for uri in ["/in9001/fine", "/in9002/fine"] {
        scene.answers(uri, 200)?;
    }
    let pids = [old.process.pid(), new.process.pid(), full.process.pid()];
    scene.meets(&pids)?;
    // Who closes after a part of an answer is not remembered; nginx passes the part on.
    drop(scene.get("/in9002/part"));
    let filler = scene.stage.inside(|| Ok(TcpStream::connect("10.77.0.2:9003")?))?;
    scene.overflows("10.77.0.2:9003".parse()?)?;
    drop(filler);
    // Who listens at its address here, on the same port, has served nothing.
    let mut same_port = Server::start(&scene.stage, "10.77.0.1", 9001, 64, 0)?;
    for server in [&mut same_port, &mut old, &mut new] {
        server.process.signal(libc::SIGKILL)?;
        server.process.wait(wait::SOON)?;
    }
    scene.answers("/in9001/gone", 502)?;
    let records = scene.records()?;
    for (pid, port) in pids.into_iter().zip([9001, 9002]) {
        let Some(exit) = end_of(&records, pid)? else { continue };
        let upstreams = &exit["upstreams"];
        ensure!(exit["signal"] == "SIGKILL" && *upstreams == json!([format!("10.77.0.2:{port}")]), "{exit}");
    }
    let mut ends = of_type(&records, "exit");
    ensure!(ends.all(|exit| pids[..2].iter().any(|pid| exit["pid"] == *pid)), "somebody else served");
    ensure!(of_type(&records, "exit").count() <= 2, "an end was told twice");
    let overflow = of_type(&records, "overflow").find(|overflow| overflow["address"] == "10.77.0.2:9003");
    let overflow = overflow.context("no overflow record of the container")?;
    ensure!(overflow["owner"]["pid"] == pids[2] && overflow["queue"] == "accept", "{overflow}");
    let listens = format!("[{}], which listens on 10.77.0.2:9002 in another network namespace", pids[1]);
    because(failure(&records, "/in9002/part")?, "application_closed", None, &NONE, &[&listens])?;
    let words: &[&str] = &["nothing listens on 10.77.0.2:9001", "the last that did"];
    if sees_resets(options)? {
        let gone = failure(&records, "/in9001/gone")?;
        because(gone, "process_killed", Some(pids[0]), &("signal", "SIGKILL".into()), words)?;
    }
    Ok(format!("{} and {} killed, {} full", pids[0], pids[1], pids[2]))
}

fn docker_proxy(why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::set(&HOST, why502, options)?;
    let proxy = |port: u16| {
        let (host, container) = (port.to_string(), (port + 1000).to_string());
        let arguments = [
            "-proto",
            "tcp",
            "-host-ip",
            "0.0.0.0",
            "-host-port",
            &host,
            "-container-ip",
            "10.77.0.2",
            "-container-port",
            &container,
        ];
        Server::script(&scene.stage, "docker-proxy", include_str!("docker-proxy.py"), &arguments)
    };
    let (_proxy, _empty) = (proxy(8001)?, proxy(8002)?);
    let mut server = Server::far(&scene.stage, 9001, 64)?;
    scene.answers("/lo8001/fine", 200)?;
    server.hears("request")?;
    scene.answers("/lo8001/hang/slow", 504)?;
    server.hears("request")?;
    scene.answers("/lo8001/close", 502)?;
    let closed = server.hears("request")?;
    scene.answers("/lo8002/nobody", 502)?;
    // While somebody lives in the container.
    scene.told("/lo8002/nobody")?;
    let mut client = scene.begin("/lo8001/hang/killed")?;
    let pid = server.hears("request")?;
    server.process.signal(libc::SIGKILL)?;
    client.answers(502)?;
    server.process.wait(wait::SOON)?;
    let records = scene.records()?;
    let slow = failure(&records, "/lo8001/hang/slow")?;
    because(slow, "application_silent", None, &NONE, &["docker-proxy[", "only passes it on", "10.77.0.2:9001"])?;
    ensure!(slow["root"]["process"].is_null(), "it is not the messenger: {slow}");
    let passes = "passes connections on to 10.77.0.2:900";
    because(
        failure(&records, "/lo8001/close")?,
        "application_closed",
        Some(closed),
        &NONE,
        &["without answering", passes],
    )?;
    because(
        failure(&records, "/lo8002/nobody")?,
        "not_listening",
        None,
        &NONE,
        &["nothing listens on port 9002", passes],
    )?;
    let words: &[&str] = &["SIGKILL", passes];
    because(
        failure(&records, "/lo8001/hang/killed")?,
        "process_killed",
        Some(pid),
        &("signal", "SIGKILL".into()),
        words,
    )?;
    Ok(format!("pid {pid} behind it"))
}
