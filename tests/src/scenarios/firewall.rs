//! Real rules of a real firewall, and routes: at nginx's host, and at the upstream's.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Program;
use super::scene::{Scene, Server, failure, free_port, sees_resets};
use crate::namespace::Namespace;
use crate::scenario::{BASE, Need, Net, Scenario};
use crate::script::{HEALTHY, Step};
use crate::stage::Options;
use crate::tracer::of_type;
use crate::upstream::{Listen, Place};
use crate::wait;

pub(super) const PROGRAMS: &[Program] = &[
    Program { name: "firewall/rejected", needs: &[Need::Nft], run: rejected },
    Program { name: "firewall/for_the_first_time", needs: &[Need::Nft], run: first_time },
    Program { name: "firewall/dropped", needs: &[Need::Nft], run: dropped },
    Program { name: "firewall/given_up_by_a_timer", needs: &[Need::Nft, Need::Python], run: given_up },
    Program { name: "firewall/dropped_for_the_only_syn", needs: &[Need::Nft], run: only_syn },
];

/// `/pPORT/…` and `/tlsPORT/…` go to the upstream's host, `/lPORT/…` and `/sixPORT/…` to nginx's own, `/ip/ADDRESS/…` anywhere.
const HOST: Scenario = Scenario {
    name: "firewall/nginx",
    net: Net::Routed(&[("ipv4.tcp_retries2", "3")]),
    workers: Some(1),
    upstreams: &[
        ("healthy", Place::V4, Listen::Accept(HEALTHY)),
        ("hang", Place::V4, Listen::Accept(&[Step::Request, Step::Hold])),
    ],
    server: "proxy_connect_timeout 1s; proxy_read_timeout 1s; proxy_send_timeout 1s;\n\
             location ~ ^/p(?<port>[0-9]+)/ { proxy_pass http://10.77.0.2:$port; }\n\
             location ~ ^/l(?<own>[0-9]+)/ { proxy_pass http://127.0.0.1:$own; }\n\
             location ~ ^/tls(?<tls>[0-9]+)/ { proxy_pass https://10.77.0.2:$tls; }\n\
             location ~ ^/six(?<six>[0-9]+)/ { proxy_pass http://[::1]:$six; }\n\
             location ~ ^/bound(?<bound>[0-9]+)/ { proxy_bind 10.66.0.1; proxy_pass http://10.77.0.2:$bound; }\n\
             location ~ ^/ip/(?<ip>[0-9.]+)/ { proxy_pass http://$ip:80; }",
    ..BASE
};

/// Gives up before the kernel sends its SYN again, after a second.
const IMPATIENT: Scenario = Scenario {
    server: "proxy_connect_timeout 300ms;\n\
             location ~ ^/p(?<port>[0-9]+)/ { proxy_pass http://10.77.0.2:$port; }\n\
             location ~ ^/l(?<own>[0-9]+)/ { proxy_pass http://127.0.0.1:$own; }",
    ..HOST
};

/// Waits for an answer for as long as there can be one.
const PATIENT: Scenario = Scenario {
    server: "proxy_read_timeout 60s; location ~ ^/p(?<port>[0-9]+)/ { proxy_pass http://10.77.0.2:$port; }",
    ..HOST
};

/// Adds a rule for packets at this hook.
fn rule(namespace: &Namespace, hook: &str, rule: &str) -> Result<()> {
    namespace.nft(&format!(
        "add table inet lab; add chain inet lab {hook} {{ type filter hook {hook} priority 0; }}; \
         add rule inet lab {hook} {rule}"
    ))
}

/// Whoever rejects answers in the name of another: it is neither closed nor unreachable.
fn rejected(why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::set(&HOST, why502, options)?;
    let routed = scene.stage.routed().context("routed")?;
    let (own, six) =
        scene.stage.inside(|| Ok((TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("[::1]:0").ok())))?;
    let (own, six) = (own.local_addr()?.port(), six.map(|six| six.local_addr()).transpose()?);
    let healthy = scene.stage.upstream("healthy")?.port();
    let mut uris = vec![format!("/p{healthy}/upstream"), format!("/l{own}/own")];
    rule(&routed.far, "input", &format!("tcp dport {healthy} reject with tcp reset"))?;
    rule(&routed.near, "input", &format!("tcp dport {own} reject with tcp reset"))?;
    if let Some(six) = six {
        rule(&routed.near, "input", &format!("tcp dport {} reject with tcp reset", six.port()))?;
        uris.push(format!("/six{}/six", six.port()));
    }
    // Nothing listens there, but that is not why it was refused.
    let with = ["tcp reset", "icmpx port-unreachable", "icmpx admin-prohibited", "icmpx host-unreachable"];
    for (port, with) in (6001..).zip(with) {
        rule(&routed.near, "output", &format!("tcp dport {port} reject with {with}"))?;
        rule(&routed.far, "input", &format!("tcp dport {} reject with {with}", port + 1000))?;
        uris.extend([format!("/p{port}/output"), format!("/p{}/input", port + 1000)]);
    }
    scene.until_root(&uris, "firewall")?;
    let unruled = free_port()?;
    let closed = format!("/l{unruled}/closed/");
    scene.answers(&closed, 502)?;
    let records = scene.records()?;
    let root = &failure(&records, &closed)?["root"];
    ensure!(root["kind"] == "not_listening", "{root}: no rule is about that port");
    Ok(format!("{} rules, {} failures", uris.len(), of_type(&records, "failure").count()))
}

/// Where little is dropped, it is looked at before anything has failed. The host may be busy with others: then once more, by a why502 that
/// has seen nothing fail either.
fn first_time(why502: &Path, options: &Options) -> Result<String> {
    const ROUNDS: u64 = 6;
    let mut seen = Vec::new();
    for round in 0..ROUNDS {
        seen = each_once(why502, options)?;
        if seen.iter().all(|failure| failure["root"]["kind"] == "firewall") {
            return Ok(format!("{} rules, round {round}", seen.len()));
        }
    }
    anyhow::bail!("not a rule's at the first time, in {ROUNDS} rounds: {seen:?}")
}

/// The first failures because of some rules, as they are told at once.
fn each_once(why502: &Path, options: &Options) -> Result<Vec<Value>> {
    let scene = Scene::set(&IMPATIENT, why502, options)?;
    // Where the kernel gives no reasons the functions that drop are looked for first.
    wait::until("the kernel's functions", wait::SOON, || !scene.tracer.has_thread("look-at-symbols"))?;
    let routed = scene.stage.routed().context("routed")?;
    let _resident = routed.inhabited()?;
    let own = scene.stage.inside(|| Ok(TcpListener::bind("127.0.0.1:0")?))?;
    let port = own.local_addr()?.port();
    rule(&routed.near, "input", &format!("tcp dport {port} reject with tcp reset"))?;
    rule(&routed.near, "output", "tcp dport 6100 reject with tcp reset")?;
    rule(&routed.far, "input", "tcp dport 6101 reject with icmpx admin-prohibited")?;
    rule(&routed.near, "output", "tcp dport 6102 drop")?;
    rule(&routed.far, "input", "tcp dport 6103 drop")?;
    let own = format!("/l{port}");
    let once = |path: &str| {
        let uri = format!("{path}/once/");
        ensure!([502, 504].contains(&scene.get(&uri)?), "{uri} did not fail");
        Ok(serde_json::from_str(&scene.told(&uri)?)?)
    };
    [own.as_str(), "/p6100", "/p6101", "/p6102", "/p6103"].into_iter().map(once).collect()
}

fn dropped(why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::set(&HOST, why502, options)?;
    let routed = scene.stage.routed().context("routed")?;
    let (healthy, hang) = (scene.stage.upstream("healthy")?.port(), scene.stage.upstream("hang")?.port());
    let unruled = free_port()?;
    let _resident = routed.inhabited()?;
    // Packets of others are dropped all the time.
    rule(&routed.near, "output", "tcp dport 6666 drop")?;
    rule(&routed.near, "output", "tcp dport 6000 reject with tcp reset")?;
    rule(&routed.near, "output", "tcp dport 6001 drop")?;
    rule(&routed.near, "input", "tcp sport 6002 drop")?;
    rule(&routed.far, "input", "tcp dport 6003 drop")?;
    // The handshake passes, the request does not.
    rule(&routed.far, "input", &format!("tcp dport {healthy} tcp flags & psh != 0 drop"))?;
    // The way back to this address is another: rp_filter. It is for ARP, too, so that the neighbour must be known before.
    scene.answers(&format!("/p{unruled}/neighbour"), 502)?;
    routed.near.ip("address add 10.66.0.1/32 dev lo")?;
    for command in [
        "link add other type veth peer name end",
        "link set end up",
        "link set other up",
        "route add 10.66.0.0/24 dev other",
    ] {
        routed.far.ip(command)?;
    }
    routed.far.sysctl("ipv4.conf.far.rp_filter", "1")?;
    let reasons = crate::run::drop_reasons(options).is_ok();
    scene.until_root(&["/p6000/first".to_owned()], "firewall")?;
    let others = std::net::SocketAddr::from(([10, 77, 0, 2], 6666));
    let knock = || Ok(TcpStream::connect_timeout(&others, Duration::from_secs(1)).is_ok());
    // `|`: nobody, or who is silent, if that was seen.
    let cases: [(String, u16, &str); 10] = [
        (format!("/bound{healthy}/rp_filter"), 504, if reasons { "route" } else { "" }),
        ("/p6001/out".into(), 504, "firewall"),
        ("/p6002/back".into(), 504, "firewall"),
        ("/p6003/in".into(), 504, "firewall"),
        (format!("/p{healthy}/request"), 504, "firewall"),
        (format!("/tls{healthy}/hello"), 504, "firewall"),
        (format!("/p{hang}/hang"), 504, "|application_silent"),
        (format!("/l{unruled}/closed"), 502, "not_listening"),
        // Routes of the router.
        ("/ip/10.77.3.9/blackhole".into(), 504, "route"),
        ("/ip/10.77.1.9/unreachable".into(), 0, "route"),
    ];
    std::thread::scope(|scope| -> Result<()> {
        let stranger = scope.spawn(|| scene.stage.inside(knock));
        let requests: Vec<_> = cases.iter().map(|(uri, ..)| scope.spawn(|| scene.get(uri))).collect();
        for (request, (uri, status, _)) in requests.into_iter().zip(&cases) {
            let answered = request.join().map_err(|_| anyhow::anyhow!("{uri}"))??;
            ensure!(*status == 0 || answered == *status, "{uri}: {answered}");
        }
        let knocked = stranger.join().map_err(|_| anyhow::anyhow!("the stranger"))??;
        ensure!(!knocked, "the stranger was let through");
        Ok(())
    })?;
    let records = scene.records()?;
    for (uri, _, kind) in &cases {
        let failure = failure(&records, uri)?;
        let root = failure["root"]["kind"].as_str().unwrap_or_default();
        ensure!(kind.split('|').any(|kind| kind == root), "root {root:?} instead of {kind:?}: {failure}");
    }
    Ok(format!("{} causes", cases.len()))
}

/// The other end's kernel resets a connection whose keepalive probes are not answered, on whatever processor's time: no process did.
fn given_up(why502: &Path, options: &Options) -> Result<String> {
    const ROUNDS: usize = 3;
    let scene = Scene::set(&PATIENT, why502, options)?;
    let routed = scene.stage.routed().context("routed")?;
    let mut server = Server::far(&scene.stage, 9001, 64)?;
    let uris: Vec<String> = (0..ROUNDS).map(|round| format!("/p9001/probes/{round}/")).collect();
    for uri in &uris {
        let mut client = scene.begin(uri)?;
        server.hears("probes")?;
        rule(&routed.near, "output", "tcp dport 9001 drop")?;
        while_busy(|| client.answers(502))?;
        routed.near.nft("delete table inet lab")?;
    }
    let records = scene.records()?;
    let mut seen = 0;
    for uri in &uris {
        let failure = failure(&records, uri)?;
        ensure!(failure["cause"] == "reset_before_response", "{failure}");
        ensure!(failure["root"]["process"].is_null(), "no process has reset it: {failure}");
        let evidence = failure["evidence"].to_string();
        ensure!(!evidence.contains("closed the other end") && !evidence.contains("by the close of"), "{failure}");
        seen += usize::from(evidence.contains("sent by the kernel of this host"));
    }
    // On a machine that is short of processors one may be received before it is traced.
    ensure!(seen > 0 || !sees_resets(options)?, "none was seen to be sent");
    Ok(format!("{ROUNDS} resets, {seen} seen at their sender"))
}

struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Leaves no processor idle: timers interrupt whatever runs.
fn while_busy<T>(wait: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        // However it ends.
        let _done = Done(&done);
        wait()
    })
}

/// Nothing was sent again that would have made why502 look at drops on a busy host.
fn only_syn(why502: &Path, options: &Options) -> Result<String> {
    let scene = Scene::set(&IMPATIENT, why502, options)?;
    let routed = scene.stage.routed().context("routed")?;
    let _resident = routed.inhabited()?;
    rule(&routed.near, "output", "tcp dport 6001 drop")?;
    rule(&routed.near, "input", "tcp sport 6002 drop")?;
    rule(&routed.far, "input", "tcp dport 6003 drop")?;
    let uris = ["/p6001/out", "/l6001/loopback", "/p6002/back", "/p6003/in"].map(str::to_owned);
    scene.until_root(&uris, "firewall")?;
    let records = scene.records()?;
    let timeouts = of_type(&records, "failure").filter(|failure| failure["cause"] == "connect_timeout").count();
    ensure!(timeouts >= uris.len(), "{timeouts} timeouts");
    Ok(format!("{timeouts} timeouts"))
}
