//! A private nginx: its own directory, configuration, port and logs.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, ensure};

use crate::child::{self, Guarded};
use crate::namespace::Namespace;
use crate::program::{Program, Version};
use crate::{logs, wait};

/// What to start.
#[derive(Debug)]
pub struct Settings<'a> {
    /// The program.
    pub program: &'a Program,
    /// An existing directory for everything it writes.
    pub dir: &'a Path,
    /// `worker_processes`.
    pub workers: usize,
    /// Text for the `http` block.
    pub http: &'a str,
    /// Text for the `server` block.
    pub server: &'a str,
    /// Text outside of `http`.
    pub main: &'a str,
    /// Target and level of the error log.
    pub error_log: &'a str,
    /// Standard error, where it is not a file of the directory.
    pub stderr: Option<Stdio>,
    /// `worker_connections`.
    pub connections: usize,
    /// Where it runs.
    pub namespace: Option<&'a Namespace>,
}

/// A running nginx.
#[derive(Debug)]
pub struct Nginx {
    master: Guarded,
    dir: PathBuf,
    address: SocketAddr,
    workers: usize,
}

/// The access log's format: URI, status, upstream status, upstream address, times.
const LOG_FORMAT: &str = "'$request_uri|$status|$upstream_status|$upstream_addr|$request_time|$upstream_header_time'";

impl Nginx {
    /// Starts nginx and waits until all of its workers are there.
    pub fn start(settings: Settings<'_>) -> Result<Self> {
        let Settings { program, dir, workers, http, server, main, error_log, stderr, connections, namespace } =
            settings;
        let address = match namespace {
            Some(namespace) => namespace.enter(free_address)?,
            None => free_address()?,
        };
        let shown = dir.display();
        let configuration = format!(
            "daemon off;\nworker_processes {workers};\npid {shown}/nginx.pid;\nerror_log {error_log};\n\
             user {user};\nworker_shutdown_timeout 5s;\n{main}\n{events}\nhttp {{\n\
             log_format lab {LOG_FORMAT};\naccess_log {shown}/access.log lab;\nclient_max_body_size 64m;\n\
             client_body_temp_path {shown}/body;\nproxy_temp_path {shown}/proxy;\nfastcgi_temp_path {shown}/fastcgi;\n\
             uwsgi_temp_path {shown}/uwsgi;\nscgi_temp_path {shown}/scgi;\nkeepalive_requests 1000000;\n{http}\n\
             server {{\nlisten {address} backlog=4096;\nserver_name lab;\n{server}\n}}\n}}\n",
            user = user(program),
            events = if main.contains("events {") {
                String::new()
            } else {
                format!("events {{ worker_connections {connections}; }}")
            },
        );
        let file = dir.join("nginx.conf");
        fs::write(&file, configuration).context("writing nginx.conf")?;
        let mut command = command(program, dir, &file)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(match stderr {
            Some(stderr) => stderr,
            None => File::create(dir.join("nginx.stderr"))?.into(),
        });
        let mut master = child::start("nginx", &mut command, namespace.map(Namespace::fd))?;
        let ready = wait::until("nginx's workers", wait::SOON, || {
            master.ended().is_some() || worker_pids(master.pid()).len() == workers
        });
        if ready.is_err() || master.ended().is_some() {
            let said = fs::read_to_string(dir.join("nginx.stderr")).unwrap_or_default();
            let logged = fs::read_to_string(dir.join("error.log")).unwrap_or_default();
            anyhow::bail!("nginx did not start: {}", if said.is_empty() { logged } else { said });
        }
        Ok(Self { master, dir: dir.to_owned(), address, workers })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The master's pid.
    pub fn pid(&self) -> u32 {
        self.master.pid()
    }

    /// The workers that take new connections.
    pub fn workers(&self) -> Vec<u32> {
        worker_pids(self.pid())
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Everything in the access log so far.
    pub fn access_log(&self) -> String {
        logs::file(&self.dir.join("access.log"))
    }

    /// Everything in the error log so far.
    pub fn error_log(&self) -> String {
        logs::file(&self.dir.join("error.log"))
    }

    /// Sends a signal to the master.
    pub fn signal(&self, signal: libc::c_int) -> Result<()> {
        self.master.signal(signal)
    }

    /// Reloads the configuration and waits until new workers serve.
    pub fn reload(&self) -> Result<()> {
        let old = self.workers();
        self.master.signal(libc::SIGHUP)?;
        wait::until("nginx's new workers", wait::SOON, || {
            let now = self.workers();
            now.iter().filter(|pid| !old.contains(pid)).count() == self.workers
        })
    }

    /// Asks it to end and waits.
    pub fn stop(mut self) -> Result<()> {
        self.master.signal(libc::SIGTERM)?;
        let status = self.master.wait(wait::SOON)?;
        ensure!(status.success(), "nginx ended with {status}");
        Ok(())
    }
}

/// nginx with the configuration in `file`; everything it writes goes to `dir`.
pub fn command(program: &Program, dir: &Path, file: &Path) -> Result<Command> {
    let mut command = program.command()?;
    command.arg("-p").arg(dir).arg("-c").arg(file);
    if program.version() >= Version::ERROR_LOG_OPTION {
        command.arg("-e").arg(dir.join("error.log"));
    }
    Ok(command)
}

/// The workers of this master that take new connections.
pub fn worker_pids(master: u32) -> Vec<u32> {
    let serving = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(b"nginx: worker process") && !line.windows(8).any(|window| window == b"shutting")
    };
    child::children(master).into_iter().filter(serving).collect()
}

/// An unprivileged user where its root directory has one: a bare VM may have root alone.
fn user(program: &Program) -> &'static str {
    let passwd = fs::read_to_string(program.outside("/etc/passwd")).unwrap_or_default();
    let group = fs::read_to_string(program.outside("/etc/group")).unwrap_or_default();
    let has = |file: &str, name: &str| file.lines().any(|line| line.starts_with(&format!("{name}:")));
    match (has(&passwd, "nobody"), has(&group, "nogroup"), has(&group, "nobody")) {
        (true, true, _) => "nobody nogroup",
        (true, false, true) => "nobody nobody",
        _ => "root root",
    }
}

/// A free port below the ephemeral ones, so that no connection takes it between here and nginx's bind.
pub(crate) fn free_address() -> Result<SocketAddr> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 10_000).unwrap_or(0);
    for _ in 0..10_000 {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::SeqCst)) % 10_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    anyhow::bail!("no free port between 20000 and 30000")
}
