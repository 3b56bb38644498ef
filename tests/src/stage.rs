//! What a running scenario has at hand: nginx, upstreams, network, and the list of what was sent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::client::{Answer, Connection, Request};
use crate::logs::{ErrorLog, Logs};
use crate::namespace::{Namespace, Routed};
use crate::nginx::{self, Nginx};
use crate::oracle;
use crate::oracle::Sent;
use crate::program::Program;
use crate::scenario::{Amount, Case, Net, Scenario};
use crate::upstream::{Named, Upstream};

/// What the command line says about all scenarios.
#[derive(Clone, Debug)]
pub struct Options {
    /// The nginx to start.
    pub nginx: Program,
    /// The tracer; `None` checks nginx's logs alone.
    pub why502: Option<PathBuf>,
    /// Requests per case.
    pub requests: usize,
    /// Workers of nginx.
    pub workers: usize,
    /// How long steady load lasts, in seconds.
    pub seconds: u32,
    /// Keeps the directories.
    pub keep: bool,
    /// In a VM: few requests, no long waits.
    pub vm: bool,
    /// Only what another nginx could do differently.
    pub of_nginx: bool,
    /// What has not begun by then is skipped.
    pub until: Option<SystemTime>,
    /// `--hooks` for why502.
    pub hooks: Option<String>,
    /// docs/schema.json, where it exists.
    pub schema: Option<PathBuf>,
    /// What `why502 doctor` says, once asked for.
    pub doctor: OnceLock<Value>,
}

impl Options {
    /// What `why502 doctor` says of this kernel, with these hooks.
    pub fn doctor(&self) -> Result<&Value> {
        if let Some(report) = self.doctor.get() {
            return Ok(report);
        }
        let why502 = self.why502.as_ref().context("it is about why502 itself")?;
        let hooks = self.hooks.iter().flat_map(|hooks| ["--hooks", hooks.as_str()]);
        let said = Command::new(why502).args(["doctor", "--format", "json"]).args(hooks).output()?;
        let report = serde_json::from_slice(&said.stdout).context("what doctor says is not JSON")?;
        Ok(self.doctor.get_or_init(|| report))
    }

    /// The observations in it.
    pub fn observations(&self) -> Result<&[Value]> {
        Ok(self.doctor()?["observations"].as_array().context("doctor lists no observations")?)
    }
}

/// A directory that goes with its guard.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    keep: bool,
}

impl Directory {
    /// Makes a directory that nginx's workers can enter.
    pub fn new(name: &str, keep: bool) -> Result<Self> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = name.replace('/', "-");
        let path = std::env::temp_dir().join(format!("lab-{}-{number}-{name}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("making {}", path.display()))?;
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(Self { path, keep })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// The networks of a scenario.
#[derive(Debug)]
enum Network {
    Host,
    Private(Namespace),
    Routed(Routed),
}

impl Network {
    fn new(net: Net) -> Result<Self> {
        let (network, settings) = match net {
            Net::Host => return Ok(Self::Host),
            Net::Private(settings) => (Self::Private(Namespace::new()?), settings),
            Net::Routed(settings) => (Self::Routed(Routed::new()?), settings),
        };
        if let Some(near) = network.near() {
            for (name, value) in settings {
                near.sysctl(name, value)?;
            }
        }
        Ok(network)
    }

    fn near(&self) -> Option<&Namespace> {
        match self {
            Self::Host => None,
            Self::Private(namespace) => Some(namespace),
            Self::Routed(routed) => Some(&routed.near),
        }
    }
}

/// A scenario on its way. Fields end in this order: first nginx, then what it talks to.
#[derive(Debug)]
pub struct Stage {
    /// nginx.
    pub nginx: Nginx,
    upstreams: Named,
    network: Network,
    logs: Logs,
    errors: ErrorLog,
    cases: &'static [Case],
    sent: Mutex<Vec<Sent>>,
    remark: Mutex<String>,
    /// The command line.
    pub options: Options,
    /// Everything on disk.
    pub directory: Directory,
}

impl Stage {
    /// Starts upstreams and nginx.
    pub fn set(scenario: &Scenario, options: &Options) -> Result<Self> {
        let directory = Directory::new(scenario.name, options.keep)?;
        let network = Network::new(scenario.net)?;
        let mut upstreams = Named::new();
        for &(name, place, listen) in scenario.upstreams {
            let path = directory.path().join(format!("{name}.sock"));
            let start = || match &network {
                Network::Routed(routed) => {
                    let address = Some(std::net::Ipv4Addr::new(10, 77, 0, 2));
                    routed.far.enter(|| Upstream::start(place, listen, &path, address))
                }
                Network::Private(namespace) => namespace.enter(|| Upstream::start(place, listen, &path, None)),
                Network::Host => Upstream::start(place, listen, &path, None),
            };
            upstreams.insert(name, start().with_context(|| format!("upstream {name}"))?);
        }
        let fill = |text: &str| {
            let text = text.replace("<dir>", &directory.path().display().to_string());
            upstreams.iter().fold(text, |text, (name, upstream)| text.replace(&format!("<{name}>"), upstream.address()))
        };
        let open = || ErrorLog::open(scenario.logs, directory.path());
        let mut errors = network.near().map_or_else(open, |near| near.enter(open))?;
        let options = match scenario.nameless {
            true => Options { nginx: options.nginx.nameless(directory.path())?, ..options.clone() },
            false => options.clone(),
        };
        let nginx = Nginx::start(nginx::Settings {
            program: &options.nginx,
            dir: directory.path(),
            workers: scenario.workers.unwrap_or(options.workers),
            http: &fill(scenario.http),
            server: &fill(scenario.server),
            main: &fill(scenario.main),
            error_log: &format!("{} {}", errors.target(), scenario.error_level),
            stderr: errors.stderr(),
            connections: 4096,
            namespace: network.near(),
        })?;
        let (cases, logs, sent, remark) = (scenario.cases, scenario.logs, Mutex::default(), Mutex::default());
        Ok(Self { nginx, upstreams, network, logs, errors, cases, sent, remark, options, directory })
    }

    /// An upstream by name.
    pub fn upstream(&self, name: &str) -> Result<&Upstream> {
        self.upstreams.get(name).with_context(|| format!("the scenario has no upstream {name}"))
    }

    /// nginx's namespace, where it has its own.
    pub fn near(&self) -> Option<&Namespace> {
        self.network.near()
    }

    /// The router, in routed scenarios.
    pub fn routed(&self) -> Option<&Routed> {
        match &self.network {
            Network::Routed(routed) => Some(routed),
            _ => None,
        }
    }

    /// The cases.
    pub fn cases(&self) -> &'static [Case] {
        self.cases
    }

    /// The case with this path.
    pub fn case(&self, path: &str) -> Result<&'static Case> {
        self.cases.iter().find(|case| case.path == path).with_context(|| format!("no case {path}"))
    }

    /// How many requests an amount is.
    pub fn count(&self, amount: Amount) -> usize {
        let requests = self.options.requests;
        match amount {
            Amount::Requests => requests,
            Amount::Bulk => requests * 100,
            Amount::AtMost(most) => most.min(requests),
        }
    }

    /// Runs `work` where clients are.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        match self.near() {
            Some(namespace) => namespace.enter(work),
            None => work(),
        }
    }

    /// A new client connection.
    pub fn connect(&self) -> Result<Connection> {
        let address = self.nginx.address();
        self.inside(|| Connection::open(address))
    }

    /// Notes a request of this case as sent; gives its URI.
    pub fn note(&self, case: &Case) -> String {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let uri = format!("{}/{}", case.path, sent.len());
        sent.push(Sent { uri: uri.clone(), case: *case, answer: None });
        uri
    }

    /// Notes what a client was told.
    pub fn answered(&self, uri: &str, status: u16) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let number = uri.rsplit('/').next().and_then(|number| number.parse::<usize>().ok());
        if let Some(sent) = number.and_then(|number| sent.get_mut(number)) {
            sent.answer = Some(status);
        }
    }

    /// Sends a request of this case on `client` and reads the answer.
    pub fn exchange(&self, client: &mut Connection, case: &Case, keepalive: bool) -> Result<Answer> {
        let uri = self.note(case);
        let Case { method, body, headers, .. } = *case;
        let answer = client.exchange(&Request { method, uri: &uri, body, headers, keepalive });
        let answer = answer.with_context(|| uri.clone())?;
        self.answered(&uri, answer.status);
        Ok(answer)
    }

    /// Sends a request of this case and leaves the answer for later.
    pub fn send(&self, client: &mut Connection, case: &Case) -> Result<()> {
        let uri = self.note(case);
        let Case { method, body, headers, .. } = *case;
        client.send(&Request { method, uri: &uri, body, headers, keepalive: true }).with_context(|| uri.clone())
    }

    /// Something measured, for the line about the scenario.
    pub fn remark(&self, text: String) {
        *self.remark.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// What was measured.
    pub fn remarked(&self) -> String {
        self.remark.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything sent so far.
    pub fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// nginx's access log; where there is none, what the clients were told.
    pub fn access_log(&self) -> String {
        match self.logs {
            Logs::NoAccess => oracle::told(&self.sent()),
            _ => self.nginx.access_log(),
        }
    }

    /// nginx's error log, wherever it goes; `None` where it goes nowhere.
    pub fn error_log(&self) -> Option<String> {
        match self.logs {
            Logs::NoErrors => None,
            _ => Some(self.errors.text().unwrap_or_else(|| self.nginx.error_log())),
        }
    }

    /// Waits until nginx has logged every request sent.
    pub fn all_logged(&self) -> Result<()> {
        if self.logs == Logs::NoAccess {
            return Ok(());
        }
        let sent = self.sent().len();
        let mut logged = 0;
        let done = crate::wait::until("the access log", crate::wait::SOON * 2, || {
            logged = self.nginx.access_log().lines().count();
            logged >= sent
        });
        done.with_context(|| format!("{sent} requests sent, {logged} logged"))
    }
}
