//! Listeners whose queues are full: upstreams', and nginx's own.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Program;
use super::roots::HOST;
use super::scene::{Scene, Server, because, failure, fill};
use crate::child::signal_pid;
use crate::elsewhere::Elsewhere;
use crate::filter::{self, Filter};
use crate::scenario::{Need, Net, Scenario};
use crate::stage::{Options, Stage};
use crate::tracer::{Tracer, of_type};
use crate::{listener, sockets, wait};

const fn program(name: &'static str, run: fn(&Path, &Options) -> Result<String>) -> Program {
    Program { name, needs: &[], run }
}

pub(super) const PROGRAMS: &[Program] = &[
    Program { name: "roots/accept_queue_full", needs: &[Need::Python], run: accept_queue_full },
    program("roots/full_for_the_only_syn", full_for_the_only_syn),
    program("roots/full_at_the_final_ack", full_at_the_final_ack),
    program("roots/full_before_it_was_let_in", full_before),
    program("roots/syn_queue_full", syn_queue_full),
    Program { name: "roots/syn_flood", needs: &[Need::Tun], run: syn_flood },
    program("roots/queue_of_nginx_itself", nginx_itself),
];

const PRIVATE: Scenario = Scenario { name: "roots/nginx-alone", net: Net::Private(&[]), ..HOST };
const ABORTING: Net = Net::Private(&[("ipv4.tcp_abort_on_overflow", "1")]);

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
        scene.answers(&uri, 504)?;
        scene.overflows(([127, 0, 0, 1], server.port).into())?;
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

/// Gives up before the kernel sends its SYN again, after a second.
const IMPATIENT: Scenario = Scenario {
    net: Net::Routed(&[]),
    server: "proxy_connect_timeout 300ms;\n\
             location ~ ^/p(?<port>[0-9]+)/ { proxy_pass http://127.0.0.1:$port; }\n\
             location ~ ^/far(?<far>[0-9]+)/ { proxy_pass http://10.77.0.2:$far; }",
    ..HOST
};

/// A listener alone, two that share a place, and one in another network namespace.
fn full_for_the_only_syn(why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::set(&IMPATIENT, why502, options)?;
    let routed = scene.stage.routed().context("no router")?;
    let inhabitant = routed.inhabited()?;
    let near = IpAddr::from(Ipv4Addr::LOCALHOST);
    let far = "10.77.0.2".parse()?;
    let alone = scene.stage.inside(|| listener::sharing(near, 0, 1))?;
    let two = scene.stage.inside(|| listener::sharing(near, 0, 2))?;
    let other = routed.far.enter(|| listener::sharing(far, 0, 1))?;
    let mut fillers = Vec::new();
    for listeners in [&alone, &two, &other] {
        let address = listeners[0].local_addr()?;
        // With two, whose turn it is is by chance: until neither takes any more.
        let full = || {
            let waiting = || Ok(sockets::waiting(address.port()));
            let waiting = if address.ip() == near { scene.stage.inside(waiting) } else { routed.far.enter(waiting) };
            waiting.is_ok_and(|waiting| waiting as usize == listeners.len())
        };
        wait::until("full queues", wait::SOON, || {
            fillers.extend(scene.stage.inside(|| Ok(TcpStream::connect_timeout(&address, LITTLE)?)));
            full()
        })?;
    }
    let mut uris = Vec::new();
    for (listeners, prefix) in [(&alone, "p"), (&two, "p"), (&other, "far")] {
        let uri = format!("/{prefix}{}/full", listeners[0].local_addr()?.port());
        scene.answers(&uri, 504)?;
        uris.push(uri);
    }
    let records = scene.records()?;
    drop((fillers, inhabitant));
    for (listeners, uri) in [&alone, &two, &other].into_iter().zip(&uris) {
        let address = listeners[0].local_addr()?.to_string();
        let failure = failure(&records, uri)?;
        because(failure, "accept_queue_full", None, &("", Value::Null), &[&address, &format!("[{}]", process::id())])?;
    }
    Ok(format!("{} reasons", uris.len()))
}

/// Waits for long enough that nginx's kernel sends again after the queue was filled, on a slow machine, too.
const PATIENT: Scenario = Scenario {
    server: "proxy_read_timeout 7s; location ~ ^/p(?<port>[0-9]+)/ { proxy_pass http://127.0.0.1:$port; }",
    ..PRIVATE
};
const PATIENT_ABORTING: Scenario = Scenario { net: ABORTING, ..PATIENT };

/// The queue fills up between SYN and final ACK: nginx thinks that it is connected.
fn full_at_the_final_ack(why502: &Path, options: &Options) -> Result<String> {
    let seen = [
        final_ack(&PATIENT, 504, why502, options).context("silence")?,
        final_ack(&PATIENT_ABORTING, 502, why502, options).context("tcp_abort_on_overflow")?,
    ];
    ensure!(seen == ["response_timeout", "reset_before_response"], "{seen:?}");
    Ok(seen.join(", "))
}

fn final_ack(scenario: &Scenario, status: u16, why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::set(scenario, why502, options)?;
    let localhost = IpAddr::from(Ipv4Addr::LOCALHOST);
    let bound = || scene.stage.inside(|| listener::bound(localhost));
    // Two that fill the queue. What nginx sends after its SYN is lost until then: its connection is half open at this end.
    let (one, other) = (bound()?, bound()?);
    let listener = TcpListener::from(bound()?);
    filter::attach(&listener, Filter::SynAndFrom([listener::port(&one)?, listener::port(&other)?]))?;
    // Not 0: 5.10 keeps nothing half open then.
    listener::listen(&listener, 1)?;
    let address = listener.local_addr()?;
    let port = address.port();
    let first = listener::connect(one, address)?;
    let uri = format!("/p{port}/full");
    let mut client = scene.begin(&uri)?;
    let half_open = || scene.stage.inside(|| Ok(sockets::half_open(port))).unwrap_or(0) == 1;
    wait::until("a half-open connection", wait::SOON, half_open)?;
    // Else the RST may meet one that does not know yet that it is connected.
    let sent = || scene.stage.inside(|| Ok(sockets::sent_towards(port))).unwrap_or(false);
    wait::until("nginx's request to be sent", wait::SOON, sent)?;
    let second = listener::connect(other, address)?;
    let full = || scene.stage.inside(|| Ok(sockets::waiting(port))).unwrap_or(0) == 2;
    wait::until("the accept queue to be full", wait::SOON, full)?;
    filter::detach(&listener)?;
    client.answers(status)?;
    drop((first, second));
    let records = scene.records()?;
    let failure = failure(&records, &uri)?;
    let lab = format!("[{}]", process::id());
    because(failure, "accept_queue_full", None, &("", Value::Null), &[&lab, &port.to_string()])?;
    ensure!(failure["root"]["listener"]["limit"] == 1, "{}", failure["root"]);
    ensure!(of_type(&records, "overflow").any(|overflow| overflow["queue"] == "accept"), "no overflow record");
    Ok(failure["cause"].as_str().unwrap_or_default().to_owned())
}

/// The queue was full when nginx came; later it was let in, and then not answered: the queue is no reason for that.
fn full_before(why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::set(&PRIVATE, why502, options)?;
    let listener = scene.stage.inside(|| {
        let listener = TcpListener::from(listener::bound(Ipv4Addr::LOCALHOST.into())?);
        listener::listen(&listener, 0)?;
        Ok(listener)
    })?;
    let port = listener.local_addr()?.port();
    let fillers = fill(&scene.stage, port)?;
    let uri = format!("/p{port}/late");
    let mut client = scene.begin(&uri)?;
    let dropped = || scene.stage.inside(|| counter("ListenOverflows")).unwrap_or(0) > 0;
    wait::until("nginx's SYN to be dropped", wait::SOON, dropped)?;
    let accepted = [listener.accept()?, listener.accept()?];
    client.answers(504)?;
    drop((accepted, fillers));
    let records = scene.records()?;
    let failure = failure(&records, &uri)?;
    // This process closed it then, if that was seen.
    let other = failure["root"].is_null() || failure["root"]["kind"] == "application_silent";
    ensure!(failure["cause"] == "response_timeout" && other, "{failure}");
    Ok(format!("root {}", failure["root"]["kind"]))
}

/// Handshakes that others began fill the SYN queue, and there are no cookies: as far as the listener's limit allows, and the host's.
const NO_COOKIES: Scenario = Scenario { net: Net::Private(&[("ipv4.tcp_syncookies", "0")]), ..PRIVATE };
const FEW: Scenario =
    Scenario { net: Net::Private(&[("ipv4.tcp_syncookies", "0"), ("ipv4.tcp_max_syn_backlog", "4")]), ..PRIVATE };

fn syn_queue_full(why502: &Path, options: &Options) -> Result<String> {
    let mut seen = Vec::new();
    for (scenario, backlog, half_open, limit) in [(&NO_COOKIES, 1, 2, 1), (&FEW, 64, 4, 3)] {
        let scene = Scene::set(scenario, why502, options)?;
        let listener = scene.stage.inside(|| {
            let listener = TcpListener::from(listener::bound(Ipv4Addr::LOCALHOST.into())?);
            filter::attach(&listener, Filter::Syn)?;
            listener::listen(&listener, backlog)?;
            Ok(listener)
        })?;
        let address = listener.local_addr()?;
        // The last may not get in: some kernels take one less.
        let begin = || Ok((0..half_open).map(|_| TcpStream::connect_timeout(&address, LITTLE)).collect::<Vec<_>>());
        let others = scene.stage.inside(begin)?;
        let uri = format!("/p{}/full", address.port());
        scene.answers(&uri, 504)?;
        drop(others);
        let records = scene.records()?;
        let failure = failure(&records, &uri)?;
        let lab = format!("SYN queue of {address} was full");
        because(failure, "syn_queue_full", None, &("", Value::Null), &[&lab, &format!("its limit is {limit}")])?;
        ensure!(failure["root"]["listener"]["owner"]["pid"] == process::id(), "{}", failure["root"]);
        let overflow = of_type(&records, "overflow").next().context("no overflow record")?;
        ensure!(overflow["queue"] == "syn" && overflow["limit"] == limit, "{overflow}");
        seen.push(overflow["queued"].to_string());
    }
    Ok(format!("{} half open", seen.join(", ")))
}

/// SYNs of the flood.
const FLOOD: u32 = 20_000;

/// From addresses that nobody hears of again: the listener's queue is full of them, and nginx's own SYN finds no room.
fn syn_flood(why502: &Path, options: &Options) -> Result<String> {
    let stage = Stage::set(&NO_COOKIES, options)?;
    let elsewhere = Elsewhere::behind(stage.near().context("a namespace")?)?;
    let scene = Scene::watch(stage, why502)?;
    let listener = scene.stage.inside(|| {
        let listener = TcpListener::from(listener::bound(Ipv4Addr::UNSPECIFIED.into())?);
        listener::listen(&listener, 16)?;
        Ok(listener)
    })?;
    let port = listener.local_addr()?.port();
    elsewhere.flood(port, FLOOD)?;
    let full = || scene.stage.inside(|| counter("TCPReqQFullDrop")).unwrap_or(0) >= u64::from(FLOOD / 2);
    wait::until("the flood to be dropped", wait::SOON, full)?;
    let uri = format!("/p{port}/flooded");
    scene.answers(&uri, 504)?;
    scene.told(&uri)?;
    scene.overflows(([127, 0, 0, 1], port).into())?;
    let dropped = scene.stage.inside(|| counter("TCPReqQFullDrop"))?;
    let records = scene.records()?;
    let failure = failure(&records, &uri)?;
    let (full, lab) = (format!("SYN queue of 0.0.0.0:{port} was full"), process::id());
    because(failure, "syn_queue_full", None, &("", Value::Null), &[&full])?;
    ensure!(failure["root"]["listener"]["owner"]["pid"] == lab, "{}", failure["root"]);
    let overflows: Vec<&Value> = of_type(&records, "overflow").collect();
    ensure!(overflows.len() <= 20, "{} records flood whoever reads them", overflows.len());
    // Which SYNs a full SYN queue drops differs from one patch level of a kernel to the next: they are seen, not counted.
    let right = |overflow: &&Value| overflow["queue"] == "syn" && overflow["count"].is_null();
    ensure!(!overflows.is_empty() && overflows.iter().all(right), "{overflows:?}");
    Ok(format!("{dropped} SYNs dropped, {} records", overflows.len()))
}

const LITTLE: Duration = Duration::from_millis(300);

/// nginx does not accept: its clients wait, and nginx never says a word about it.
const SHORT: Scenario =
    Scenario { http: "server { listen 127.0.0.1:4001 backlog=1; location / { return 204; } }", ..PRIVATE };

fn nginx_itself(why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::set(&SHORT, why502, options)?;
    let workers = scene.stage.nginx.workers();
    workers.iter().try_for_each(|pid| signal_pid(*pid, libc::SIGSTOP))?;
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 4001));
    // Two fit in; the SYNs of the others are dropped.
    let clients = scene.stage.inside(|| Ok([TcpStream::connect(address)?, TcpStream::connect(address)?]))?;
    let others = scene.stage.inside(|| {
        let connect = || TcpStream::connect_timeout(&address, LITTLE).is_err();
        Ok((0..3).filter(|_| connect()).count())
    })?;
    ensure!(others == 3, "{others} of 3 did not get in");
    scene.overflows(address)?;
    let dropped = scene.stage.inside(|| counter("ListenOverflows"))?;
    workers.iter().try_for_each(|pid| signal_pid(*pid, libc::SIGCONT))?;
    drop(clients);
    let nginx: Vec<u32> = workers.iter().copied().chain([scene.stage.nginx.pid()]).collect();
    let records = scene.records()?;
    let session = of_type(&records, "session").next().context("no session")?;
    let observed = session["observations"].as_array().into_iter().flatten();
    let exact = observed.filter(|one| one["name"] == "accept_queue").any(|one| one["state"] == "full");
    let mut counted = 0;
    for overflow in of_type(&records, "overflow") {
        ensure!(overflow["address"] == "127.0.0.1:4001" && overflow["queue"] == "accept", "{overflow}");
        ensure!(overflow["limit"] == 1 && overflow["queued"] == 2, "{overflow}");
        ensure!(nginx.iter().any(|pid| overflow["owner"]["pid"] == *pid), "{overflow}");
        ensure!(overflow["count"].is_u64() == exact, "{overflow}");
        counted += overflow["count"].as_u64().unwrap_or(0);
    }
    ensure!(!exact || counted == dropped, "{counted} counted, {dropped} dropped");
    ensure!(of_type(&records, "failure").next().is_none(), "nginx failed nobody");
    Ok(if exact { format!("{counted} of {dropped} dropped") } else { format!("{dropped} dropped, seen") })
}

/// A counter of the thread's network namespace: /proc/net/netstat has a line of names above one of numbers.
fn counter(wanted: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/thread-self/net/netstat")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, numbers) = (lines.next().context("no names")?, lines.next().context("no numbers")?);
    let mut found = names.split(' ').zip(numbers.split(' ')).filter(|(name, _)| *name == wanted);
    Ok(found.next().with_context(|| format!("no {wanted}"))?.1.parse()?)
}
