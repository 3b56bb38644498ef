//! The reason behind a cause: real processes that die, listeners that are gone, queues that are full.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Program;
use super::scene::{Scene, Server, because, failure, fill};
use crate::check;
use crate::child::signal_pid;
use crate::filter::Filter;
use crate::listener;
use crate::scenario::{Amount, Attempt, BASE, Need, Net, Scenario, attempt, get};
use crate::script::HEALTHY;
use crate::sockets;
use crate::stage::Options;
use crate::tracer::of_type;
use crate::upstream::{Listen, Place};
use crate::wait;

const fn program(name: &'static str, run: fn(&Path, &Options) -> Result<String>) -> Program {
    Program { name, needs: &[Need::Python], run }
}

pub(super) const PROGRAMS: &[Program] = &[
    program("roots/processes_that_end", processes_that_end),
    program("roots/killed_for_memory", killed_for_memory),
    program("roots/killed_with_its_queue", killed_with_its_queue),
    program("roots/worker_killed_by_its_master", worker_killed),
    program("roots/nobody_listens_any_more", nobody_listens),
    program("roots/one_family_of_two", one_family),
    program("roots/stands_still", stands_still),
    program("roots/leaves_with_nginx", leaves_with_nginx),
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
     location ~ ^/p(?<eater>[0-9]+)/eat { proxy_read_timeout 60s; proxy_pass http://127.0.0.1:$eater; }\n\
     location ~ ^/p(?<port>[0-9]+)/ { proxy_pass http://127.0.0.1:$port; }\n\
     location ~ ^/six(?<port6>[0-9]+)/ { proxy_pass http://[::1]:$port6; }";

pub(super) const HOST: Scenario = Scenario { name: "roots/nginx", workers: Some(1), server: SERVER, ..BASE };

fn processes_that_end(why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::set(&HOST, why502, options)?;
    let mut pids = Vec::new();
    let fates = [("hang", libc::SIGKILL), ("exit", 0), ("crash", 0), ("half", libc::SIGTERM), ("close", 0), ("cut", 0)];
    for (what, signal) in fates {
        let mut server = Server::simple(&scene.stage)?;
        let uri = server.uri(what);
        let mut client = scene.begin(&uri)?;
        pids.push((uri, server.hears(if ["half", "cut"].contains(&what) { "half" } else { "request" })?));
        if signal != 0 {
            server.process.signal(signal)?;
        }
        let answer = client.receive("GET");
        ensure!(
            ["half", "cut"].contains(&what) || answer.is_ok_and(|answer| answer.status == 502),
            "{what} did not fail"
        );
        if !["close", "cut"].contains(&what) {
            server.process.wait(wait::SOON)?;
        }
    }
    let lab = std::process::id();
    let seen =
        || scene.tracer.lines().iter().filter(|line| line.contains("\"type\":\"failure\"")).count() == fates.len();
    wait::until("a failure for each", wait::SOON, seen)?;
    let records = scene.records()?;
    let by = format!("lab[{lab}]");
    let null = Value::Null;
    let expected: [(&str, (&str, Value), &[&str]); 6] = [
        ("process_killed", ("signal", "SIGKILL".into()), &[&by, "unanswered"]),
        ("process_exited", ("code", 3.into()), &["exited with code 3"]),
        ("process_killed", ("signal", "SIGSEGV".into()), &["SIGSEGV"]),
        ("process_killed", ("signal", "SIGTERM".into()), &[&by, "in the middle of the response"]),
        ("application_closed", ("signal", null.clone()), &["closed the connection without answering"]),
        ("application_closed", ("signal", null), &["closed the connection in the middle of the response"]),
    ];
    for ((uri, pid), (kind, fate, words)) in pids.iter().zip(expected) {
        because(failure(&records, uri)?, kind, Some(*pid), &fate, words)?;
    }
    // On a kernel whose tracepoints may be interrupted a run can be skipped (7.2): that of the exit, or of the listen before it. What
    // is lost is told, and the reasons stand.
    let lost = check::lost_at(&records, &["sched_process_exit", "inet_sock_set_state"]);
    for (_, pid) in &pids[..4] {
        let told = of_type(&records, "exit").any(|exit| exit["pid"] == *pid);
        ensure!(told || lost > 0, "no exit record of {pid} among {pids:?}, and nothing was lost");
    }
    Ok("SIGKILL, exit(3), SIGSEGV, SIGTERM, close with a FIN and with a RST".into())
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
    scene.answers(&uri, 502)?;
    let pid = server.process.pid();
    server.process.wait(wait::SOON)?;
    let records = scene.records()?;
    because(failure(&records, &uri)?, "oom_killed", Some(pid), &("oom", true.into()), &["memory"])?;
    let exit = of_type(&records, "exit").find(|exit| exit["pid"] == pid).context("no exit record")?;
    ensure!(exit["oom"] == true && exit["signal"] == "SIGKILL", "{exit}");
    Ok(format!("pid {pid}"))
}

/// What waits to be accepted is reset by the end of its listener: by the kernel, in the name of whoever closes it.
fn killed_with_its_queue(why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::set(&HOST, why502, options)?;
    // It accepts nothing, and its queue holds one connection.
    let mut server = Server::anywhere(&scene.stage, "127.0.0.1", 0, 0)?;
    let uri = server.uri("queued");
    let mut client = scene.begin(&uri)?;
    let port = server.port;
    wait::until("the request in the queue", wait::SOON, || sockets::has_unread(port))?;
    server.process.signal(libc::SIGKILL)?;
    client.answers(502)?;
    server.process.wait(wait::SOON)?;
    let pid = server.process.pid();
    let records = scene.records()?;
    let failure = failure(&records, &uri)?;
    ensure!(failure["cause"] == "reset_before_response", "{failure}");
    because(failure, "process_killed", Some(pid), &("signal", "SIGKILL".into()), &["SIGKILL"])?;
    Ok(format!("pid {pid}"))
}

fn worker_killed(why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::set(&HOST, why502, options)?;
    let mut server = Server::anywhere(&scene.stage, "127.0.0.1", 64, 1)?;
    let uri = server.uri("hang");
    let mut client = scene.begin(&uri)?;
    let worker = server.hears("request")?;
    let master = server.process.pid();
    ensure!(worker != master, "the master serves by itself");
    server.process.signal(libc::SIGUSR1)?;
    client.answers(502)?;
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
    scene.answers(&killed, 502)?;
    // A port with a wrong digit, while the right one is served.
    let other = Server::simple(&scene.stage)?;
    let near = if other.port % 10 == 9 { other.port - 1 } else { other.port + 1 };
    let typo = format!("/p{near}/typo");
    scene.answers(&typo, 502)?;
    // Only on ::1.
    let six = Server::anywhere(&scene.stage, "::1", 64, 0).ok();
    let family = six.as_ref().map(|six| six.uri("family"));
    if let Some(family) = &family {
        scene.answers(family, 502)?;
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

/// What `localhost` is to nginx: two addresses, of which the application serves one.
const LOCALHOST: Scenario = Scenario {
    name: "roots/nginx-localhost",
    net: Net::Private(&[]),
    http: "upstream zero { server 127.0.0.1:4000 max_fails=0; server [::1]:4000 max_fails=0; }\n\
           upstream one { server 127.0.0.1:4001 max_fails=0; server [::1]:4001 max_fails=0; }",
    server: "location /family0 { proxy_pass http://zero; } location /family1 { proxy_pass http://one; }",
    ..HOST
};

fn one_family(why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::set(&LOCALHOST, why502, options)?;
    let served = ["127.0.0.1", "::1"];
    for (index, address) in served.into_iter().enumerate() {
        // Ports of their own: that somebody listened there before would be another reason.
        let port = if index == 0 { 4000 } else { 4001 };
        let Ok(server) = Server::start(&scene.stage, address, port, 64, 0) else {
            ensure!(index == 1, "no listener on {address}");
            return Ok("no IPv6 here: nothing tried".into());
        };
        for round in 0..2 {
            let uri = format!("/family{index}{round}/");
            scene.answers(&uri, 200)?;
        }
        // The other one was tried first, in one round of two at least.
        let refused = if index == 0 { "[::1]:4000" } else { "127.0.0.1:4001" };
        let there = SocketAddr::new(address.parse()?, port).to_string();
        let line = scene.told(&format!("/family{index}"))?;
        let record: Value = serde_json::from_str(&line)?;
        ensure!(record["upstream"]["address"] == refused && record["outcome"] == "retried", "{record}");
        because(&record, "address_family", None, &("", Value::Null), &[&there, &server.process.pid().to_string()])?;
    }
    scene.records()?;
    Ok("::1 and 127.0.0.1 refused in turn".into())
}

/// A server that has the request, and one that has not accepted it, both stopped; and one that is stopped afterwards.
fn stands_still(why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::set(&HOST, why502, options)?;
    let (mut has, mut late) = (Server::simple(&scene.stage)?, Server::simple(&scene.stage)?);
    let never = Server::simple(&scene.stage)?;
    crate::child::stop(never.process.pid())?;
    let uris = [has.uri("hang"), late.uri("hang"), never.uri("hang")];
    let mut clients = Vec::new();
    for uri in &uris {
        clients.push(scene.begin(uri)?);
    }
    has.hears("request")?;
    late.hears("request")?;
    crate::child::stop(has.process.pid())?;
    for client in &mut clients {
        client.answers(504)?;
    }
    crate::child::stop(late.process.pid())?;
    let told = || scene.tracer.lines().iter().filter(|line| line.contains("process_stopped")).count() == 2;
    wait::until("two reasons", wait::SOON, told)?;
    let records = scene.records()?;
    let by = format!("is stopped: SIGSTOP from lab[{}]", std::process::id());
    for (uri, server, what) in [(&uris[0], &has, "has the connection"), (&uris[2], &never, "nobody has accepted")] {
        let mut failure = failure(&records, uri)?.clone();
        let update =
            of_type(&records, "update").find(|update| update["failure"] == failure["id"] && !update["root"].is_null());
        if let Some(update) = update {
            failure["root"] = update["root"].clone();
        }
        because(&failure, "process_stopped", Some(server.process.pid()), &("", Value::Null), &[what, &by])?;
    }
    ensure!(!failure(&records, &uris[1])?["root"].to_string().contains("stopped"), "it was stopped only afterwards");
    Ok(format!("{} and {}", has.process.pid(), never.process.pid()))
}

/// It does not answer, and closes as soon as nginx does, as servers with an event loop do: nobody has the connection when it is looked at.
fn leaves_with_nginx(why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::set(&HOST, why502, options)?;
    let server = Server::simple(&scene.stage)?;
    let pid = server.process.pid();
    let uri = server.uri("patient");
    scene.answers(&uri, 504)?;
    let records = scene.records()?;
    let said = ["had the connection and had not answered", "after nginx gave up"];
    because(failure(&records, &uri)?, "application_silent", Some(pid), &("", Value::Null), &said)?;
    Ok(format!("{pid}"))
}

/// Failures of one kind, while others die and overflow all the time: nobody of them may be named.
fn strangers(why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::set(&HOST, why502, options)?;
    let alive = Server::simple(&scene.stage)?;
    let full = Server::anywhere(&scene.stage, "127.0.0.1", 0, 0)?;
    let _fillers = fill(&scene.stage, full.port)?;
    // Taken, so that no stranger gets it; nobody listens there.
    let taken = listener::bound(std::net::Ipv4Addr::LOCALHOST.into())?;
    let refused = listener::port(&taken)?;
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
        let address = SocketAddr::from(([127, 0, 0, 1], full.port));
        waiting.push(std::thread::spawn(move || TcpStream::connect_timeout(&address, Duration::from_secs(3)).is_ok()));
        signal_pid(stranger.process.pid(), libc::SIGKILL)?;
        for _ in 0..options.requests.min(50) {
            scene.answers(&alive.uri("close"), 502)?;
            scene.answers(&format!("/p{refused}/refused{round}"), 502)?;
        }
        stranger.process.wait(wait::SOON)?;
    }
    scene.answers(&alive.uri("hang"), 504)?;
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
        // A port may happen to be one digit away from a stranger's: that he listens there is said, and true.
        let neighbour = root["kind"] == "not_listening" && line.contains(" listens on ");
        let named = |stranger: &&u32| !neighbour && line.contains(&format!("[{stranger}]"));
        let stranger = strangers.iter().find(named);
        ensure!(stranger.is_none(), "{stranger:?} is named: {failure}");
        let named = &root["process"]["pid"];
        ensure!(named.is_null() || *named == pid, "process {named} instead of {pid}: {failure}");
        let kinds: &[&str] = match failure["cause"].as_str() {
            Some("closed_before_response") => &["application_closed"],
            Some("connect_refused") => &["not_listening"],
            // It was looked at after a thousand others, if there was time.
            Some("response_timeout") => &["application_silent", ""],
            _ => &[""],
        };
        let kind = root["kind"].as_str().unwrap_or_default();
        ensure!(kinds.contains(&kind), "root {kind:?}: {failure}");
    }
    Ok(format!("{count} failures among {} strangers", strangers.len()))
}
