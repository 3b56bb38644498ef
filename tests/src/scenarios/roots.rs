//! The reason behind a cause: real processes that die, listeners that are gone, queues that are full.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Program;
use super::scene::{Scene, Server, because, failure, free_port};
use crate::child::signal_pid;
use crate::filter::{self, Filter};
use crate::scenario::{Amount, Attempt, BASE, Need, Net, Scenario, attempt, get};
use crate::script::HEALTHY;
use crate::stage::{Options, Stage};
use crate::tracer::{Tracer, of_type};
use crate::upstream::{Listen, Place};
use crate::{listener, sockets, wait};

const fn program(name: &'static str, run: fn(&Path, &Options) -> Result<String>) -> Program {
    Program { name, needs: &[Need::Python], run }
}

pub(super) const PROGRAMS: &[Program] = &[
    program("roots/processes_that_end", processes_that_end),
    program("roots/killed_for_memory", killed_for_memory),
    program("roots/worker_killed_by_its_master", worker_killed),
    program("roots/nobody_listens_any_more", nobody_listens),
    program("roots/accept_queue_full", accept_queue_full),
    Program { name: "roots/full_at_the_final_ack", needs: &[], run: full_at_the_final_ack },
    Program { name: "roots/full_before_it_was_let_in", needs: &[], run: full_before },
    program("roots/strangers_are_not_named", strangers),
];

const TIMEOUT: Attempt = attempt(&["connect_timeout"], "upstream timed out (110 … while connecting to upstream");

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "roots/swallowed_by_a_filter",
    needs: &[Need::DropReasons],
    upstreams: &[("a", Place::V4, Listen::Filtered(Filter::Everything, HEALTHY))],
    server: "proxy_connect_timeout 4s; location / { proxy_pass http://<a>; }",
    cases: &[get("/filtered").fails(504, &[TIMEOUT.root("firewall")]).amount(Amount::AtMost(5))],
    ..BASE
}];

/// `/pPORT/…` and `/sixPORT/…` go to that port.
const SERVER: &str = "proxy_connect_timeout 3s; proxy_read_timeout 3s;\n\
     location ~ ^/p(?<port>[0-9]+)/ { proxy_pass http://127.0.0.1:$port; }\n\
     location ~ ^/six(?<port6>[0-9]+)/ { proxy_pass http://[::1]:$port6; }";

const HOST: Scenario = Scenario { name: "roots/nginx", workers: Some(1), server: SERVER, ..BASE };

fn processes_that_end(why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::set(&HOST, why502, options)?;
    let mut pids = Vec::new();
    for (what, signal) in [("hang", libc::SIGKILL), ("exit", 0), ("crash", 0), ("half", libc::SIGTERM), ("close", 0)] {
        let mut server = Server::simple(&scene.stage)?;
        let uri = server.uri(what);
        let mut client = scene.begin(&uri)?;
        pids.push((uri, server.hears(if what == "half" { "half" } else { "request" })?));
        if signal != 0 {
            server.process.signal(signal)?;
        }
        let answer = client.receive("GET");
        ensure!(what == "half" || answer.is_ok_and(|answer| answer.status == 502), "{what} did not fail");
        if what != "close" {
            server.process.wait(wait::SOON)?;
        }
    }
    let lab = std::process::id();
    let seen = || scene.tracer.lines().iter().filter(|line| line.contains("\"type\":\"failure\"")).count() == 5;
    wait::until("five failures", wait::SOON, seen)?;
    let records = scene.records()?;
    let by = format!("lab[{lab}]");
    let null = Value::Null;
    let expected: [(&str, (&str, Value), &[&str]); 5] = [
        ("process_killed", ("signal", "SIGKILL".into()), &[&by, "unanswered"]),
        ("process_exited", ("code", 3.into()), &["exited with code 3"]),
        ("process_killed", ("signal", "SIGSEGV".into()), &["SIGSEGV"]),
        ("process_killed", ("signal", "SIGTERM".into()), &[&by, "in the middle of the response"]),
        ("application_closed", ("signal", null), &["closed the connection without answering"]),
    ];
    for ((uri, pid), (kind, fate, words)) in pids.iter().zip(expected) {
        because(failure(&records, uri)?, kind, Some(*pid), &fate, words)?;
    }
    for (_, pid) in &pids[..4] {
        ensure!(of_type(&records, "exit").any(|exit| exit["pid"] == *pid), "no exit record of {pid}");
    }
    Ok("SIGKILL, exit(3), SIGSEGV, SIGTERM, close".into())
}

fn killed_for_memory(why502: &Path, options: &Options) -> Result<String> {
    let unified = fs::read_to_string("/sys/fs/cgroup/cgroup.subtree_control").unwrap_or_default().contains("memory");
    let (parent, limit) =
        if unified { ("/sys/fs/cgroup", "memory.max") } else { ("/sys/fs/cgroup/memory", "memory.limit_in_bytes") };
    let group = Path::new(parent).join(format!("why502-lab-{}", std::process::id()));
    if !Path::new(parent).join("cgroup.procs").exists() || fs::create_dir(&group).is_err() {
        return Ok("no memory control group here: nothing tried".into());
    }
    let ran = eat(&group, limit, why502, options);
    wait::until("the control group to be empty", wait::SOON, || fs::remove_dir(&group).is_ok())?;
    ran
}

fn eat(group: &Path, limit: &str, why502: &Path, options: &Options) -> Result<String> {
    fs::write(group.join(limit), "64M")?;
    // Without swap there is no such file.
    let _ = fs::write(group.join("memory.swap.max"), "0");
    let scene = Scene::set(&HOST, why502, options)?;
    let mut server = Server::simple(&scene.stage)?;
    fs::write(group.join("cgroup.procs"), server.process.pid().to_string())?;
    let uri = server.uri("eat");
    ensure!(scene.get(&uri)? == 502, "it did not fail");
    let pid = server.process.pid();
    server.process.wait(wait::SOON)?;
    let records = scene.records()?;
    because(failure(&records, &uri)?, "oom_killed", Some(pid), &("oom", true.into()), &["memory"])?;
    let exit = of_type(&records, "exit").find(|exit| exit["pid"] == pid).context("no exit record")?;
    ensure!(exit["oom"] == true && exit["signal"] == "SIGKILL", "{exit}");
    Ok(format!("pid {pid}"))
}

fn worker_killed(why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::set(&HOST, why502, options)?;
    let mut server = Server::start(&scene.stage, "127.0.0.1", free_port()?, 64, 1)?;
    let uri = server.uri("hang");
    let mut client = scene.begin(&uri)?;
    let worker = server.hears("request")?;
    let master = server.process.pid();
    ensure!(worker != master, "the master serves by itself");
    server.process.signal(libc::SIGUSR1)?;
    ensure!(client.receive("GET")?.status == 502, "it did not fail");
    let records = scene.records()?;
    let failure = failure(&records, &uri)?;
    let both = format!("a worker of python3[{master}]");
    let comm = fs::read_to_string(format!("/proc/{master}/comm"))?;
    let both = both.replace("python3", comm.trim());
    because(failure, "process_killed", Some(worker), &("signal", "SIGABRT".into()), &[&both, "SIGABRT from"])?;
    let hint = failure["hint"].as_str().unwrap_or_default();
    ensure!(hint.contains("killed its own worker"), "the hint is {hint:?}");
    Ok(format!("worker {worker} of {master}"))
}

fn nobody_listens(why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::set(&HOST, why502, options)?;
    // Killed: the last owner is named.
    let mut server = Server::simple(&scene.stage)?;
    let pid = server.process.pid();
    server.process.signal(libc::SIGKILL)?;
    server.process.wait(wait::SOON)?;
    let killed = server.uri("killed");
    ensure!(scene.get(&killed)? == 502, "it was not refused");
    // A port with a wrong digit, while the right one is served.
    let other = Server::simple(&scene.stage)?;
    let near = if other.port % 10 == 9 { other.port - 1 } else { other.port + 1 };
    let typo = format!("/p{near}/typo");
    ensure!(scene.get(&typo)? == 502, "it was not refused");
    // Only on ::1.
    let six = Server::start(&scene.stage, "::1", free_port()?, 64, 0).ok();
    let family = six.as_ref().map(|six| six.uri("family"));
    if let Some(family) = &family {
        ensure!(scene.get(family)? == 502, "it was not refused");
    }
    let records = scene.records()?;
    because(
        failure(&records, &killed)?,
        "process_killed",
        Some(pid),
        &("signal", "SIGKILL".into()),
        &["nothing listens on", "the last that did"],
    )?;
    let text = failure(&records, &typo)?["root"]["text"].as_str().unwrap_or_default().to_owned();
    // Another listener of this machine may be one digit away as well: then none is named.
    let named = text.contains(&format!("[{}] listens on 127.0.0.1:{}", other.process.pid(), other.port));
    because(failure(&records, &typo)?, "not_listening", None, &("", Value::Null), &["nothing listens on port"])?;
    if let (Some(family), Some(six)) = (&family, &six) {
        let there = format!("[::1]:{}", six.port);
        because(failure(&records, family)?, "address_family", None, &("", Value::Null), &[&there])?;
    }
    Ok(format!("killed {pid}; neighbour named: {named}; ::1: {}", family.is_some()))
}

const PRIVATE: Scenario = Scenario { name: "roots/nginx-alone", net: Net::Private(&[]), ..HOST };
const ABORTING: Scenario = Scenario { net: Net::Private(&[("ipv4.tcp_abort_on_overflow", "1")]), ..PRIVATE };

fn accept_queue_full(why502: &Path, options: &Options) -> Result<String> {
    let (mut seen, mut kinds) = (Vec::new(), Vec::new());
    // The listener is there before the tracer, and after it.
    for before in [true, false] {
        let stage = Stage::set(&PRIVATE, options)?;
        let attach = |stage: &Stage| Tracer::attach(why502, stage.nginx.pid(), &[], stage.directory.path());
        let mut early = None;
        if before {
            early = Some(Server::start(&stage, "127.0.0.1", 4000, 0, 0)?);
        }
        let scene = Scene { tracer: attach(&stage)?, stage };
        let server = early.map_or_else(|| Server::start(&scene.stage, "127.0.0.1", 4000, 0, 0), Ok)?;
        let fillers = fill(&scene.stage, server.port)?;
        let uri = server.uri("full");
        ensure!(scene.get(&uri)? == 504, "it did not time out");
        let dropped = || scene.tracer.lines().iter().any(|line| line.contains("\"type\":\"overflow\""));
        wait::until("an overflow record", wait::SOON, dropped)?;
        let pid = server.process.pid();
        drop(fillers);
        let records = scene.records()?;
        let failure = failure(&records, &uri)?;
        because(failure, "accept_queue_full", None, &("", Value::Null), &["127.0.0.1:4000", &pid.to_string()])?;
        let listener = &failure["root"]["listener"];
        ensure!(listener["limit"] == 0 && listener["queued"] == 1 && listener["owner"]["pid"] == pid, "{listener}");
        let overflow = of_type(&records, "overflow").next().context("no overflow record")?;
        ensure!(overflow["queue"] == "accept" && overflow["owner"]["pid"] == pid, "{overflow}");
        seen.push(failure["cause"].to_string());
        kinds.push(failure["root"]["kind"].to_string());
    }
    Ok(format!("{} before, {} after", seen[0], seen[1]))
}

/// The queue fills up between SYN and final ACK: nginx thinks that it is connected.
fn full_at_the_final_ack(why502: &Path, options: &Options) -> Result<String> {
    let mut seen = Vec::new();
    for (scenario, status) in [(&PRIVATE, 504), (&ABORTING, 502)] {
        let mut tries = 0;
        seen.push(loop {
            tries += 1;
            match final_ack(scenario, status, why502, options)? {
                Some(cause) => break cause,
                None => ensure!(tries < TRIES, "nginx's retransmission came first, {tries} times"),
            }
        });
    }
    ensure!(seen == ["response_timeout", "reset_before_response"], "{seen:?}");
    Ok(seen.join(", "))
}

/// How often the fault is injected at most: nginx's kernel may send again before the queue is filled.
const TRIES: u32 = 3;

/// The cause; None: nginx's connection was let in before the queue was full.
fn final_ack(scenario: &Scenario, status: u16, why502: &Path, options: &Options) -> Result<Option<String>> {
    let scene = Scene::set(scenario, why502, options)?;
    let listener = scene.stage.inside(|| {
        let listener = std::net::TcpListener::from(listener::bound(std::net::Ipv4Addr::LOCALHOST.into())?);
        filter::attach(&listener, Filter::Syn)?;
        // Not 0: 5.10 keeps nothing half open then.
        listener::listen(&listener, 1)?;
        Ok(listener)
    })?;
    let port = listener.local_addr()?.port();
    let uri = format!("/p{port}/full");
    let mut client = scene.begin(&uri)?;
    // nginx's connection is half open at this end: its ACK was lost.
    let half_open = || scene.stage.inside(|| Ok(sockets::half_open(port))).unwrap_or(0) == 1;
    wait::until("a half-open connection", wait::SOON, half_open)?;
    filter::detach(&listener)?;
    let (Ok(first), Ok(second)) = (fill(&scene.stage, port), fill(&scene.stage, port)) else { return Ok(None) };
    ensure!(client.receive("GET")?.status == status, "it did not fail as meant");
    drop((first, second));
    let records = scene.records()?;
    let failure = failure(&records, &uri)?;
    let lab = format!("[{}]", std::process::id());
    because(failure, "accept_queue_full", None, &("", Value::Null), &[&lab, &port.to_string()])?;
    ensure!(failure["root"]["listener"]["limit"] == 1, "{}", failure["root"]);
    ensure!(of_type(&records, "overflow").any(|overflow| overflow["queue"] == "accept"), "no overflow record");
    Ok(Some(failure["cause"].as_str().unwrap_or_default().to_owned()))
}

/// Fills the accept queue of a listener with a backlog of 0: it holds one connection.
fn fill(stage: &Stage, port: u16) -> Result<Vec<TcpStream>> {
    let address = (std::net::Ipv4Addr::LOCALHOST, port).into();
    let connect = || TcpStream::connect_timeout(&address, wait::SOON).context("filling the accept queue");
    stage.inside(|| Ok(vec![connect()?]))
}

/// The queue was full when nginx came; later it was let in, and then not answered: the queue is no reason for that.
fn full_before(why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::set(&PRIVATE, why502, options)?;
    let listener = scene.stage.inside(|| {
        let listener = std::net::TcpListener::from(listener::bound(std::net::Ipv4Addr::LOCALHOST.into())?);
        listener::listen(&listener, 0)?;
        Ok(listener)
    })?;
    let port = listener.local_addr()?.port();
    let fillers = fill(&scene.stage, port)?;
    let uri = format!("/p{port}/late");
    let mut client = scene.begin(&uri)?;
    let dropped = || scene.tracer.lines().iter().any(|line| line.contains("\"type\":\"overflow\""));
    wait::until("an overflow record", wait::SOON, dropped)?;
    let accepted = [listener.accept()?, listener.accept()?];
    ensure!(client.receive("GET")?.status == 504, "it did not time out");
    drop((accepted, fillers));
    let records = scene.records()?;
    let failure = failure(&records, &uri)?;
    ensure!(failure["cause"] == "response_timeout" && failure["root"].is_null(), "{failure}");
    Ok("no root".into())
}

/// Failures of one kind, while others die and overflow all the time: nobody of them may be named.
fn strangers(why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::set(&HOST, why502, options)?;
    let alive = Server::simple(&scene.stage)?;
    let full = Server::start(&scene.stage, "127.0.0.1", free_port()?, 0, 0)?;
    let _fillers = fill(&scene.stage, full.port)?;
    let refused = free_port()?;
    let mut strangers = vec![full.process.pid()];
    let rounds = if options.vm { 2 } else { 10 };
    let mut waiting = Vec::new();
    for round in 0..rounds {
        let mut stranger = Server::simple(&scene.stage)?;
        strangers.push(stranger.process.pid());
        // An unanswered client of the stranger's own, and one more that does not fit into the full queue.
        let mut other = TcpStream::connect(("127.0.0.1", stranger.port))?;
        std::io::Write::write_all(&mut other, b"GET /hang HTTP/1.1\r\n\r\n")?;
        stranger.hears("request")?;
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], full.port));
        waiting.push(std::thread::spawn(move || TcpStream::connect_timeout(&address, Duration::from_secs(3)).is_ok()));
        signal_pid(stranger.process.pid(), libc::SIGKILL)?;
        for _ in 0..options.requests.min(50) {
            ensure!(scene.get(&alive.uri("close"))? == 502, "it did not fail");
            ensure!(scene.get(&format!("/p{refused}/refused{round}"))? == 502, "it was not refused");
        }
        stranger.process.wait(wait::SOON)?;
    }
    ensure!(scene.get(&alive.uri("hang"))? == 504, "it did not time out");
    for one in waiting {
        let _ = one.join();
    }
    let pid = alive.process.pid();
    let records = scene.records()?;
    let mut count = 0;
    for failure in of_type(&records, "failure") {
        count += 1;
        let root = &failure["root"];
        let line = failure.to_string();
        let stranger = strangers.iter().find(|stranger| line.contains(&format!("[{stranger}]")));
        ensure!(stranger.is_none(), "{stranger:?} is named: {failure}");
        let named = &root["process"]["pid"];
        ensure!(named.is_null() || *named == pid, "process {named} instead of {pid}: {failure}");
        let kinds: &[&str] = match failure["cause"].as_str() {
            Some("closed_before_response") => &["application_closed"],
            Some("connect_refused") => &["not_listening"],
            _ => &[],
        };
        let kind = root["kind"].as_str();
        ensure!(kind.map_or(kinds.is_empty(), |kind| kinds.contains(&kind)), "root {kind:?}: {failure}");
    }
    Ok(format!("{count} failures among {} strangers", strangers.len()))
}
