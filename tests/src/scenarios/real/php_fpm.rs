//! php-fpm: a master with a pool of processes, one request each.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{CLOSED, NGINX, NOBODY, Program, Real, Told, comm, fails, records};
use crate::child;
use crate::scenario::Need;
use crate::scenarios::scene::failure;
use crate::stage::{Options, Stage};

const fn program(name: &'static str, run: fn(&Path, &Options) -> Result<String>) -> Program {
    Program { name, needs: &[Need::Program("php-fpm")], run }
}

pub(super) const PROGRAMS: &[Program] = &[
    program("real/php_fpm_workers_that_end", workers_end),
    program("real/php_fpm_all_busy", busy),
    program("real/php_fpm_backlog_full", full),
];

/// With two processes.
pub(super) fn start(stage: &Stage, listen: &str, pool: &str) -> Result<Real> {
    let directory = stage.directory.path().display();
    let configuration = format!(
        "[global]\ndaemonize = no\nerror_log = {directory}/fpm.log\n[www]\nuser = root\ngroup = root\nlisten = {listen}\n\
         listen.mode = 0666\npm = static\npm.max_children = 2\n{pool}\n"
    );
    fs::write(stage.directory.path().join("fpm.conf"), configuration)?;
    let server = Real::start(stage, "php-fpm", &["-R", "-y", "<dir>/fpm.conf"])?;
    server.workers(2)?;
    Ok(server)
}

fn workers_end(why502: &Path, options: &Options) -> Result<String> {
    let stage = Stage::set(&NGINX, options)?;
    let server = start(&stage, "127.0.0.1:9000", "request_terminate_timeout = 1s")?;
    let scene = server.watched(stage, why502)?;
    let master = format!("{}[{}]", comm(server.pid())?, server.pid());
    let mut pids = Vec::new();
    for what in ["kill_hang", "crash", "slow_hang", "usr2_hang"] {
        let mut client = scene.begin(&format!("/php/{what}"))?;
        pids.push(server.hears(what)?);
        match what {
            "kill_hang" => child::signal_pid(pids[0], libc::SIGKILL)?,
            "usr2_hang" => server.process.signal(libc::SIGUSR2)?,
            _ => {}
        }
        client.answers(502).context(what)?;
    }
    let records = records(scene, 4, 4)?;
    let lab = format!("lab[{}]", std::process::id());
    let (by_lab, by_master) = (format!("SIGKILL from {lab}"), format!("SIGTERM from {master}"));
    let (worker, order) = (format!("a worker of {master}"), format!("as its master had SIGUSR2 from {lab}"));
    let told = |uri: &str, index: usize, signal: &'static str, words: &[&str], hint: &str| {
        let (pid, fate) = (Some(pids[index]), ("signal", signal.into()));
        Told { uri, cause: CLOSED, kind: "process_killed", pid, fate, words, hint }.check(&records)
    };
    told("/kill_hang", 0, "SIGKILL", &[&worker, &by_lab], "find out why")?;
    told("/crash", 1, "SIGSEGV", &[&worker], "SIGSEGV")?;
    told("/slow_hang", 2, "SIGTERM", &[&worker, &by_master], "request_terminate_timeout")?;
    told("/usr2_hang", 3, "SIGTERM", &[&worker, &by_master, &order], "process_control_timeout")?;
    Ok(format!("workers {pids:?} of {master}"))
}

/// All children are at other requests: over a unix socket, and over TCP.
fn busy(why502: &Path, options: &Options) -> Result<String> {
    for (listen, place) in [("<dir>/php.sock", "/phpunix"), ("127.0.0.1:9000", "/php1")] {
        let stage = Stage::set(&NGINX, options)?;
        let listen = listen.replace("<dir>", &stage.directory.path().display().to_string());
        let server = start(&stage, &listen, "")?;
        let scene = server.watched(stage, why502)?;
        let (one, two) = (format!("{place}/one_hang"), format!("{place}/two_hang"));
        let mut clients = [scene.begin(&one)?, scene.begin(&two)?];
        let pids = [server.hears("one_hang")?, server.hears("two_hang")?];
        fails(&scene, 504, &[&format!("{place}/third")])?;
        for client in &mut clients {
            client.answers(504)?;
        }
        let name = comm(server.pid())?;
        let records = records(scene, 3, 3)?;
        let (cause, fate) = ("response_timeout", || NOBODY);
        for (uri, pid) in [("/one_hang", pids[0]), ("/two_hang", pids[1])] {
            let words = format!("{name}[{pid}], a worker of {name}[{}], has the connection", server.pid());
            let (kind, hint) = ("application_silent", "slowlog");
            Told { uri, cause, kind, pid: Some(pid), fate: fate(), words: &[&words], hint }.check(&records)?;
        }
        let words = format!("all 2 workers of {name}[{}] are at other connections", server.pid());
        let (kind, hint, pid) = ("not_accepted", "pm.max_children", None);
        Told { uri: "/third", cause, kind, pid, fate: fate(), words: &[&words, &listen], hint }.check(&records)?;
        let listener = &failure(&records, "/third")?["root"]["listener"];
        ensure!(listener["owner"]["pid"] == server.pid(), "{listener}");
    }
    Ok("over a unix socket and TCP".into())
}

/// The same, and no room is left in the queue.
fn full(why502: &Path, options: &Options) -> Result<String> {
    let stage = Stage::set(&NGINX, options)?;
    let socket = stage.directory.path().join("php.sock");
    let server = start(&stage, &socket.display().to_string(), "listen.backlog = 0")?;
    let scene = server.watched(stage, why502)?;
    // One after the other: there is room for one.
    let mut clients = Vec::new();
    for what in ["one_hang", "two_hang"] {
        clients.push(scene.begin(&format!("/phpunix/{what}"))?);
        server.hears(what)?;
    }
    let _filler = std::os::unix::net::UnixStream::connect(&socket)?;
    fails(&scene, 502, &["/phpunix/third"])?;
    let records = records(scene, 1, 1)?;
    let words = format!("php-fpm8.2[{}]", server.pid()).replace("php-fpm8.2", &comm(server.pid())?);
    Told {
        uri: "/third",
        cause: "socket_backlog_full",
        kind: "accept_queue_full",
        pid: None,
        fate: NOBODY,
        words: &[&words, "its limit is 0"],
        hint: "pm.max_children",
    }
    .check(&records)?;
    Ok(words)
}
