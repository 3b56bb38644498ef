//! The nginx that is measured, the cheap nginx behind it, and the kinds of load.

use std::fs::OpenOptions;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::{paced, process, wrk};
use crate::listener;
use crate::nginx::{self, Nginx};
use crate::program::Program;
use crate::stage::Directory;
use crate::upstream::{Listen, Place, Upstream};

/// A kind of load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) path: &'static str,
    /// The share of requests that nginx answers with 502.
    pub(crate) failing: f64,
    /// Whether it is TCP that nginx speaks to the upstream: the other tools see nothing else.
    pub(crate) tcp: bool,
}

const fn scenario(name: &'static str, path: &'static str, failing: f64) -> Scenario {
    Scenario { name, path, failing, tcp: true }
}

/// A new upstream connection for each request.
pub(crate) const NEW: Scenario = scenario("new connection per request", "/new", 0.0);
/// Nobody listens.
pub(crate) const REFUSED: Scenario = scenario("100 % refused", "/refused", 1.0);
/// One of a hundred fails.
pub(crate) const SOME: Scenario = scenario("1 % refused", "/some", 0.01);
/// Every kind of load.
pub(crate) const SCENARIOS: [Scenario; 6] = [
    NEW,
    scenario("upstream keepalive", "/kept", 0.0),
    SOME,
    REFUSED,
    Scenario { tcp: false, ..scenario("unix upstream", "/unix", 0.0) },
    scenario("TLS upstream, new connections", "/tls", 0.0),
];

/// What one window of load showed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) answers: wrk::Answers,
    /// Processor time of the measured nginx's workers, per request.
    pub(crate) nginx_us: f64,
    /// Processor time of the tool, as a share of one processor.
    pub(crate) tool_share: f64,
}

impl Window {
    pub(crate) fn rate(&self) -> f64 {
        self.answers.requests as f64 / self.answers.seconds
    }
}

/// Two nginxes; they end with their guard, the measured one first.
#[derive(Debug)]
pub(crate) struct Site {
    front: Nginx,
    /// Where the kernel spreads clients over the workers by hash: where workers take connections as they come, one window
    /// differs from the next by how many each has got.
    pub(crate) spread: SocketAddr,
    back: Nginx,
    queues: Vec<TcpListener>,
    tls: SocketAddr,
    down: Upstream,
    directory: Directory,
}

impl Site {
    /// Starts both. `held` is how many requests to `/held` can be left without an answer.
    pub(crate) fn start(nginx: &Path, held: usize, open_files: u64) -> Result<Self> {
        let directory = Directory::new("bench", false)?;
        let root = directory.path();
        let down = Upstream::start(Place::V4, Listen::Nobody, root, None)?;
        let queues = queues(held)?;
        certificate(root)?;
        let part = |name: &str| -> Result<std::path::PathBuf> {
            let path = root.join(name);
            std::fs::create_dir(&path).with_context(|| format!("making {}", path.display()))?;
            Ok(path)
        };
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        let program = Program::on_host(nginx)?;
        let main = format!("worker_rlimit_nofile {};", open_files.min(65_536));
        let dir = root.display();
        let log = |name: &str| format!("{dir}/{name}/error.log error");
        let tls = nginx::free_address()?;
        let back = Nginx::start(nginx::Settings {
            program: &program,
            dir: &part("back")?,
            workers,
            http: "",
            server: &format!(
                "access_log off; listen unix:{dir}/back.sock; listen {tls} ssl; ssl_certificate {dir}/cert.pem;\n\
                 ssl_certificate_key {dir}/key.pem; location / {{ return 200 ok; }}"
            ),
            main: &main,
            error_log: &log("back"),
            stderr: None,
            connections: 4096,
            namespace: None,
        })?;
        let (up, down_at, spread) = (back.address(), down.address(), nginx::free_address()?);
        let held: Vec<String> =
            queues.iter().map(|queue| Ok(format!("server {};", queue.local_addr()?))).collect::<Result<_>>()?;
        let front = Nginx::start(nginx::Settings {
            program: &program,
            dir: &part("front")?,
            workers,
            http: &format!(
                "upstream kept {{ server {up}; keepalive 64; }}\n\
                 upstream some {{ server {up} weight=99 max_fails=0; server {down_at} max_fails=0; }}\n\
                 upstream held {{ {} }}",
                held.join(" ")
            ),
            server: &format!(
                "listen {spread} reuseport backlog=4096; proxy_next_upstream off; proxy_read_timeout 1h;\n\
                 location /new {{ proxy_pass http://{up}; }}\n\
                 location /kept {{ proxy_http_version 1.1; proxy_set_header Connection ''; proxy_pass http://kept; }}\n\
                 location /some {{ proxy_pass http://some; }}\nlocation /refused {{ proxy_pass http://{down_at}; }}\n\
                 location /unix {{ proxy_pass http://unix:{dir}/back.sock; }}\n\
                 location /tls {{ proxy_pass https://{tls}; }}\nlocation /held {{ proxy_pass http://held; }}"
            ),
            main: &main,
            error_log: &log("front"),
            stderr: None,
            connections: 32_768,
            namespace: None,
        })?;
        Ok(Self { front, spread, back, queues, tls, down, directory })
    }

    /// The measured nginx's master.
    pub(crate) fn master(&self) -> u32 {
        self.front.pid()
    }

    /// Ports that the measured nginx connects to, comma-separated.
    pub(crate) fn upstream_ports(&self) -> String {
        format!("{},{},{}", self.back.address().port(), self.tls.port(), self.down.port())
    }

    /// An address where nobody listens.
    pub(crate) fn closed(&self) -> &str {
        self.down.address()
    }

    /// Ports whose connections nobody accepts.
    pub(crate) fn queue_ports(&self) -> Result<Vec<u16>> {
        self.queues.iter().map(|queue| Ok(queue.local_addr()?.port())).collect()
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What nginx has logged with this status since the logs were last emptied.
    pub(crate) fn logged(&self, status: u16) -> usize {
        let field = status.to_string();
        self.front.access_log().lines().filter(|line| line.split('|').nth(1) == Some(&field)).count()
    }

    /// Loads nginx for whole seconds as fast as it goes. `tool` is the process watching it.
    pub(crate) fn load(&self, scenario: &Scenario, seconds: u64, tool: Option<u32>) -> Result<Window> {
        self.empty_logs()?;
        let workers = self.front.workers();
        let before = (process::cpu_ns_of(&workers)?, tool.map(process::cpu_ns).transpose()?.unwrap_or(0));
        let url = format!("http://{}{}", self.spread, scenario.path);
        let answers = wrk::run(&url, seconds, 1)?;
        let after = (process::cpu_ns_of(&workers)?, tool.map(process::cpu_ns).transpose()?.unwrap_or(0));
        ensure!(answers.requests > 0 && answers.broken == 0, "{}: {answers:?}", scenario.name);
        let failed = answers.refused as f64 / answers.requests as f64;
        ensure!((failed - scenario.failing).abs() < 0.005, "{}: {failed} of the requests failed", scenario.name);
        Ok(Window {
            answers,
            nginx_us: (after.0 - before.0) as f64 / 1e3 / answers.requests as f64,
            tool_share: after.1.saturating_sub(before.1) as f64 / 1e9 / answers.seconds,
        })
    }

    /// Sends `rate` requests per second.
    pub(crate) fn pace(&self, scenario: &Scenario, rate: f64, time: Duration) -> Result<paced::Latency> {
        paced::run(self.spread, scenario.path, rate, time).context(scenario.name)
    }

    /// nginx opens its logs for appending: cut to nothing they go on from there.
    fn empty_logs(&self) -> Result<()> {
        for log in ["access.log", "error.log"] {
            let file = OpenOptions::new().write(true).open(self.front.dir().join(log));
            file.and_then(|file| file.set_len(0)).with_context(|| log.to_owned())?;
        }
        Ok(())
    }
}

/// Listeners whose queues take `held` connections that nobody will accept.
fn queues(held: usize) -> Result<Vec<TcpListener>> {
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap_or_default();
    let most = most.trim().parse().unwrap_or(128).clamp(1, 4096);
    let queue = |_| {
        let listener = TcpListener::from(listener::bound(std::net::Ipv4Addr::LOCALHOST.into())?);
        listener::listen(&listener, most)?;
        Ok(listener)
    };
    (0..=held / usize::try_from(most)?).map(queue).collect()
}

/// A certificate of its own for the TLS upstream.
fn certificate(dir: &Path) -> Result<()> {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=lab", "-newkey", "ec"]);
    command.args(["-pkeyopt", "ec_paramgen_curve:P-256"]).arg("-keyout").arg(dir.join("key.pem"));
    command.arg("-out").arg(dir.join("cert.pem")).stdin(Stdio::null());
    let output = command.output().context("running openssl")?;
    ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
