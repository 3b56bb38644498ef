//! nginx replaces its binary while requests fail: USR2, WINCH, QUIT. Still exactly one record each.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};

use super::Program;
use crate::client::{Connection, Request};
use crate::nginx::{self, worker_pids};
use crate::scenario::{Attempt, BASE, Case, Scenario, attempt, get};
use crate::script::HEALTHY;
use crate::stage::{Options, Stage};
use crate::tracer::{Tracer, records};
use crate::upstream::{Listen, Place};
use crate::{bench, check, child, oracle, wait};

pub(super) const PROGRAMS: &[Program] = &[
    Program {
        name: "reload/binary_upgrade",
        needs: &[],
        run: |why502, options| upgrade(why502, options, Named::Program),
    },
    Program {
        name: "reload/binary_upgrade_by_pid",
        needs: &[],
        run: |why502, options| upgrade(why502, options, Named::Pid),
    },
];

/// How the tracer is told which nginx it is.
#[derive(Clone, Copy, Debug)]
enum Named {
    /// By the name of the program: whatever its pid becomes.
    Program,
    /// By the pid of the master, whose child the new master is.
    Pid,
}

const REFUSED: Attempt = attempt(&["connect_refused"], "connect() failed (111 … while connecting to upstream");

/// What the upgraded nginx serves.
const SERVED: Scenario = Scenario {
    name: "reload/binary_upgrade",
    workers: Some(2),
    upstreams: &[("a", Place::V4, Listen::Accept(HEALTHY)), ("down", Place::V4, Listen::Nobody)],
    server: "location / { proxy_pass http://<a>; } location /refused { proxy_pass http://<down>; }",
    cases: &[get("/ok"), get("/refused").fails(502, &[REFUSED])],
    ..BASE
};

/// An nginx that is a daemon, as one must be to be upgraded, and the one that it becomes. They end with it.
#[derive(Debug)]
struct Daemon {
    pid_file: PathBuf,
}

impl Daemon {
    /// Starts nginx with the configuration of the stage's nginx, at an address of its own.
    fn start(stage: &Stage, nginx: &crate::program::Program, address: SocketAddr) -> Result<Self> {
        let directory = stage.directory.path();
        let text = fs::read_to_string(directory.join("nginx.conf"))?;
        let text = text.replace("daemon off;\n", "").replace("nginx.pid", "daemon.pid");
        let text = text.replace(&stage.nginx.address().to_string(), &address.to_string());
        let file = directory.join("daemon.conf");
        fs::write(&file, text)?;
        let mut command = nginx::command(nginx, directory, &file)?;
        bench::ends(&bench::output(&mut command, wait::SOON)?, 0, &[])?;
        let daemon = Self { pid_file: directory.join("daemon.pid") };
        wait::until("the daemon's workers", wait::SOON, || {
            daemon.pid().is_ok_and(|pid| worker_pids(pid).len() == SERVED.workers.unwrap_or(0))
        })?;
        Ok(daemon)
    }

    /// The master that the pid file names.
    fn pid(&self) -> Result<u32> {
        let text = fs::read_to_string(&self.pid_file).context("the daemon's pid")?;
        text.trim().parse().context("the daemon's pid")
    }

    /// The documented way: a new master beside the old one, whose workers then leave, and at last itself.
    fn upgrade(&self) -> Result<()> {
        let old = self.pid()?;
        let workers = worker_pids(old);
        child::signal_pid(old, libc::SIGUSR2)?;
        wait::until("the new nginx and its workers", wait::SOON, || {
            self.pid().is_ok_and(|pid| pid != old && worker_pids(pid).len() == workers.len())
        })?;
        child::signal_pid(old, libc::SIGWINCH)?;
        let gone = |pid: u32| !Path::new(&format!("/proc/{pid}")).exists();
        wait::until("the old workers to leave", wait::SOON, || workers.iter().all(|&pid| gone(pid)))?;
        child::signal_pid(old, libc::SIGQUIT)?;
        wait::until("the old nginx to leave", wait::SOON, || gone(old))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        for file in [self.pid_file.clone(), self.pid_file.with_extension("pid.oldbin")] {
            let pid = fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
            if let Some(pid) = pid {
                let _ = child::signal_pid(pid, libc::SIGTERM);
                let _ = wait::until("nginx to end", wait::SOON, || !Path::new(&format!("/proc/{pid}")).exists());
            }
        }
    }
}

/// Requests on connections of their own until `enough` says so and each case had its number.
fn send(stage: &Stage, address: SocketAddr, enough: &AtomicBool) -> Result<()> {
    let mut sent = 0;
    while !enough.load(Ordering::SeqCst) || sent < stage.options.requests {
        for case in stage.cases() {
            let uri = stage.note(case);
            let Case { method, body, headers, .. } = *case;
            let request = Request { method, uri: &uri, body, headers, keepalive: false };
            let answer = Connection::open(address)?.exchange(&request).with_context(|| uri.clone())?;
            stage.answered(&uri, answer.status);
        }
        sent += 1;
        ensure!(!wait::interrupted(), "interrupted");
    }
    Ok(())
}

fn upgrade(why502: &Path, options: &Options, named: Named) -> Result<String> {
    let stage = Stage::set(&SERVED, options)?;
    let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    // A name of its own: another nginx may run on this host.
    let name = format!("nginx-{}", std::process::id());
    let nginx = options.nginx.copied(stage.directory.path(), &name)?;
    let daemon = Daemon::start(&stage, &nginx, address)?;
    let tracer = match named {
        Named::Pid => Tracer::attach(why502, daemon.pid()?, &[], stage.directory.path())?,
        Named::Program => {
            let arguments = ["trace", "--format", "json", "--process", name.as_str()].map(str::to_owned);
            let mut tracer = Tracer::start(why502, &arguments, stage.directory.path())?;
            tracer.ready()?;
            tracer
        }
    };
    let enough = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients = [(); 2].map(|()| scope.spawn(|| send(&stage, address, &enough)));
        let upgraded = daemon.upgrade();
        enough.store(true, Ordering::SeqCst);
        for client in clients {
            client.join().ok().context("a client")??;
        }
        upgraded
    })?;
    stage.all_logged()?;
    let finished = tracer.finish()?;
    ensure!(finished.status.success(), "{}: {}", finished.status, finished.complaints);
    let sent = stage.sent();
    let mut differences = oracle::differences(&sent, &stage.access_log(), stage.error_log().as_deref());
    let (records, problems) = records(finished.lines.iter().map(String::as_str));
    differences.extend(problems);
    let verdict = check::records(&SERVED, &sent, &oracle::access(&stage.access_log()), &records);
    differences.extend(verdict.differences);
    let shown: Vec<String> = differences.iter().take(3).cloned().collect();
    ensure!(differences.is_empty(), "{} differences: {}", differences.len(), shown.join("; "));
    Ok(format!("{} requests, failures {}/{}", sent.len(), verdict.seen, verdict.expected))
}
