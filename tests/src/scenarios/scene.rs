//! What scenarios by hand share: nginx with the tracer watching, and real processes that serve and die.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::maps::{HashMap, Map, MapData, loaded_maps};
use serde_json::Value;

use crate::bench::parsed;
use crate::check;
use crate::child::{self, Guarded};
use crate::client::{Connection, Request};
use crate::listener;
use crate::scenario::Scenario;
use crate::stage::{Options, Stage};
use crate::tracer::{Tracer, of_type};
use crate::wait;

/// How long a SYN is waited for that is dropped.
const LITTLE: Duration = Duration::from_millis(100);
/// How often a failure is met at least until what it met must have been seen, and for how long: where packets are dropped is read
/// from the kernel's symbols meanwhile, which an emulated machine takes seconds for.
const ROUNDS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// A stage with the tracer watching.
pub(super) struct Scene {
    pub(super) stage: Stage,
    pub(super) tracer: Tracer,
}

impl Scene {
    pub(super) fn set(scenario: &Scenario, why502: &Path, options: &Options) -> Result<Self> {
        let stage = Stage::set(scenario, options)?;
        Self::watch(stage, why502)
    }

    /// The tracer comes to a stage that is set.
    pub(super) fn watch(stage: Stage, why502: &Path) -> Result<Self> {
        let master = stage.nginx.pid();
        Self::watch_process(stage, why502, master)
    }

    /// It is given another process than nginx's master.
    pub(super) fn watch_process(stage: Stage, why502: &Path, pid: u32) -> Result<Self> {
        let hooks: Vec<&str> = stage.options.hooks.iter().flat_map(|hooks| ["--hooks", hooks]).collect();
        let tracer = Tracer::attach(why502, pid, &hooks, stage.directory.path())?;
        Ok(Self { stage, tracer })
    }

    pub(super) fn get(&self, uri: &str) -> Result<u16> {
        Ok(self.stage.connect()?.exchange(&request(uri))?.status)
    }

    /// Asks for it, and is answered with this status.
    pub(super) fn answers(&self, uri: &str, status: u16) -> Result<()> {
        self.begin(uri)?.answers(status).with_context(|| format!("asking for {uri}"))
    }

    pub(super) fn begin(&self, uri: &str) -> Result<Connection> {
        let mut client = self.stage.connect()?;
        client.send(&request(uri))?;
        Ok(client)
    }

    /// Waits until these processes are known to listen: on a unix socket that makes no event, it is looked up aside.
    pub(super) fn meets(&self, pids: &[u32]) -> Result<()> {
        let tracer = self.tracer.pid();
        wait::until("why502 to know who listens", wait::SOON, || pids.iter().all(|pid| is_watched(*pid, tracer)))
    }

    /// Waits until there is a failure record of this request; gives its line.
    pub(super) fn told(&self, uri: &str) -> Result<String> {
        let about = |line: &&String| line.contains("\"type\":\"failure\"") && line.contains(uri);
        wait::until_some("a failure record", wait::SOON, || self.tracer.lines().iter().find(about).cloned())
    }

    /// Sends requests until each of them has this root, as why502 says it; all before have none: where the host is busy, what a packet met
    /// on its way is looked at only after a first failure that nobody is known for.
    pub(super) fn until_root(&self, uris: &[String], kind: &str) -> Result<()> {
        let sees_resets = sees_resets(&self.stage.options)?;
        let began = Instant::now();
        for round in 0.. {
            if round >= ROUNDS && began.elapsed() >= PATIENCE {
                break;
            }
            let mut all = true;
            for uri in uris {
                let uri = format!("{uri}/{round}/");
                ensure!([502, 504].contains(&self.get(&uri)?), "{uri} did not fail");
                let record: Value = serde_json::from_str(&self.told(&uri)?)?;
                let root = record["root"]["kind"].as_str();
                // Nothing listens there, and where not every RST is told of, why502 says what it has not looked at.
                let text = record["root"]["text"].as_str().unwrap_or_default();
                let open = root == Some("not_listening") && text.contains("a firewall rule") && !sees_resets;
                ensure!(root.is_none() || root == Some(kind) || open, "root {root:?}: {record}");
                all &= root == Some(kind);
            }
            if all {
                return Ok(());
            }
        }
        anyhow::bail!("no root {kind} in {ROUNDS} rounds and {PATIENCE:?}")
    }

    /// Knocks at this listener, whose queue is full, until why502 has told of it: where no hook sees a SYN dropped, it looks only
    /// from time to time, the less often the slower the machine is.
    pub(super) fn overflows(&self, address: SocketAddr) -> Result<()> {
        let told = || self.tracer.lines().iter().any(|line| line.contains("\"type\":\"overflow\""));
        self.stage.inside(|| {
            wait::until("an overflow record", 6 * wait::SOON, || {
                told() || {
                    // It is the knocking that counts.
                    drop(TcpStream::connect_timeout(&address, LITTLE));
                    told()
                }
            })
        })
    }

    /// All records in the end; failures with what was learnt of them later.
    pub(super) fn records(self) -> Result<Vec<Value>> {
        let finished = self.tracer.finish()?;
        ensure!(finished.status.success(), "why502 ended with {}: {}", finished.status, finished.complaints);
        let records = parsed(finished.lines.iter().map(String::as_str))?;
        if let Some(schema) = &self.stage.options.schema {
            let differences = crate::schema::differences(schema, &records)?;
            ensure!(differences.is_empty(), "{}", differences.join("; "));
        }
        // On a busy machine reasons are found later.
        let mut records = check::updated(&records);
        if self.stage.options.vm {
            excuse(&mut records);
        }
        Ok(records)
    }
}

/// Whether the kernel tells of each RST that its TCP sends.
pub(super) fn sees_resets(options: &Options) -> Result<bool> {
    let found = options.observations()?.iter().find(|found| found["name"] == "reset");
    let refusals = |found: &Value| found["hook"].as_str().is_some_and(|hooks| hooks.contains("tcp_v4_send_reset"));
    Ok(found.is_some_and(|found| found["state"] == "full" || refusals(found)))
}

/// Whether the kernel programs of this why502 watch what becomes of a process: others may run beside it.
fn is_watched(pid: u32, tracer: u32) -> bool {
    let own = maps_of(tracer);
    let servers = loaded_maps().flatten().filter(|map| map.name_as_str() == Some("SERVERS") && own.contains(&map.id()));
    servers.filter_map(|map| MapData::from_id(map.id()).ok()).any(|map| {
        HashMap::<_, u32, u32>::try_from(Map::LruHashMap(map)).is_ok_and(|servers| servers.get(&pid, 0).is_ok())
    })
}

/// Maps that a process has open.
fn maps_of(pid: u32) -> Vec<u32> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let told = descriptors.filter_map(|descriptor| fs::read_to_string(descriptor.path()).ok());
    told.filter_map(|told| told.lines().find_map(|line| line.strip_prefix("map_id:")?.trim().parse().ok())).collect()
}

fn request(uri: &str) -> Request<'_> {
    Request { method: "GET", uri, body: 0, headers: "", keepalive: false }
}

/// A process that serves.
pub(super) struct Server {
    pub(super) process: Guarded,
    said: BufReader<ChildStdout>,
    pub(super) port: u16,
}

impl Server {
    pub(super) fn start(stage: &Stage, address: &str, port: u16, backlog: u32, workers: u32) -> Result<Self> {
        let near = stage.near().map(crate::namespace::Namespace::fd);
        let command = Self::command(stage, &["python3"], address, [u32::from(port), backlog, workers])?;
        Self::run(command, port, workers, near)
    }

    /// On another host, as far as addresses go.
    pub(super) fn far(stage: &Stage, port: u16, backlog: u32) -> Result<Self> {
        let far = stage.routed().context("the scenario has no router")?.far.fd();
        let command = Self::command(stage, &["python3"], "10.77.0.2", [u32::from(port), backlog, 0])?;
        Self::run(command, port, 0, Some(far))
    }

    /// Another program than the server, which says `ready` when it is; its name is that of the file.
    pub(super) fn script(stage: &Stage, name: &str, text: &str, arguments: &[&str]) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt;
        let path = stage.directory.path().join(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        let mut command = Command::new(&path);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Self::run(command, 0, 0, stage.near().map(crate::namespace::Namespace::fd))
    }

    /// As a path, in the host's network namespace whatever nginx's is; `with` is how python is started.
    pub(super) fn at(stage: &Stage, path: &Path, backlog: u32, with: &[&str]) -> Result<Self> {
        let path = path.to_str().context("a path of letters")?;
        Self::run(Self::command(stage, with, path, [0, backlog, 0])?, 0, 0, None)
    }

    fn command(stage: &Stage, with: &[&str], address: &str, numbers: [u32; 3]) -> Result<Command> {
        let script = stage.directory.path().join("server.py");
        fs::write(&script, include_str!("server.py"))?;
        let (program, before) = with.split_first().context("a program")?;
        let mut command = Command::new(program);
        command.args(before).arg(&script).arg(address).args(numbers.map(|number| number.to_string()));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        Ok(command)
    }

    fn run(mut command: Command, port: u16, workers: u32, namespace: Option<&Arc<OwnedFd>>) -> Result<Self> {
        let mut process = child::start("server", &mut command, namespace)?;
        let said = BufReader::new(process.take_stdout().context("the server's stdout")?);
        let mut server = Self { process, said, port };
        for _ in 0..workers.max(1) {
            server.hears("ready")?;
        }
        Ok(server)
    }

    pub(super) fn simple(stage: &Stage) -> Result<Self> {
        Self::anywhere(stage, "127.0.0.1", 64, 0)
    }

    /// On a port that was free a moment ago: somebody else may take it before the server does.
    pub(super) fn anywhere(stage: &Stage, address: &str, backlog: u32, workers: u32) -> Result<Self> {
        let mut server = Self::start(stage, address, free_port()?, backlog, workers);
        for _ in 0..2 {
            if server.is_err() {
                server = Self::start(stage, address, free_port()?, backlog, workers);
            }
        }
        server
    }

    /// Waits until it says so; gives the pid of the process that did.
    pub(super) fn hears(&mut self, word: &str) -> Result<u32> {
        loop {
            let mut line = String::new();
            ensure!(self.said.read_line(&mut line)? > 0, "the server ended before it said {word}");
            if let Some(pid) = line.trim().strip_prefix(word) {
                return pid.trim().parse().context("a pid");
            }
        }
    }

    pub(super) fn uri(&self, what: &str) -> String {
        format!("/p{}/{what}", self.port)
    }
}

pub(super) fn free_port() -> Result<u16> {
    let socket = listener::bound(std::net::Ipv4Addr::LOCALHOST.into())?;
    Ok(std::net::TcpListener::from(socket).local_addr()?.port())
}

/// Fills the accept queue of a listener with a backlog of 0: it holds one connection.
pub(super) fn fill(stage: &Stage, port: u16) -> Result<Vec<TcpStream>> {
    let address = (std::net::Ipv4Addr::LOCALHOST, port).into();
    let connect = || TcpStream::connect_timeout(&address, wait::SOON).context("filling the accept queue");
    stage.inside(|| Ok(vec![connect()?]))
}

/// The failure whose request line has this in it.
pub(super) fn failure<'a>(records: &'a [Value], uri: &str) -> Result<&'a Value> {
    let about = |failure: &&Value| failure["nginx"]["request"].as_str().is_some_and(|line| line.contains(uri));
    let found: Vec<&Value> = of_type(records, "failure").filter(about).collect();
    ensure!(found.len() == 1, "{} failures of {uri}", found.len());
    Ok(found[0])
}

/// Of a failure without a reason: what would have shown it may have been skipped.
const EXCUSED: &str = "excused";

/// An emulated processor takes so long for a program that another thread gets its turn in the middle of it, and what that one meets on
/// the same processor the kernel skips. It counts that, and so many reasons may be missing.
fn excuse(records: &mut [Value]) {
    let skipped = check::skipped(records);
    let without = |record: &&mut Value| record["type"] == "failure" && record["root"].is_null();
    for failure in records.iter_mut().filter(without).take(usize::try_from(skipped).unwrap_or(usize::MAX)) {
        failure[EXCUSED] = Value::from(format!("{skipped} runs of programs were skipped"));
    }
}

/// The record of a process's end. None: the program that sees it was skipped, and that was told.
pub(super) fn end_of(records: &[Value], pid: u32) -> Result<Option<&Value>> {
    let exit = of_type(records, "exit").find(|exit| exit["pid"] == pid);
    ensure!(exit.is_some() || check::lost_at(records, &["sched_process_exit"]) > 0, "no exit record of {pid}");
    Ok(exit)
}

/// What else was told: lost events, ends of processes.
pub(super) fn besides(records: &[Value]) -> String {
    let others = records.iter().filter(|record| record["type"] != "failure" && record["type"] != "response");
    others.map(Value::to_string).collect::<Vec<_>>().join("\n")
}

/// That a failure has this reason, with this process, and says these words.
pub(super) fn because(
    failure: &Value,
    kind: &str,
    pid: Option<u32>,
    fate: &(&str, Value),
    words: &[&str],
) -> Result<()> {
    let root = &failure["root"];
    if let Some(excuse) = failure[EXCUSED].as_str().filter(|_| root.is_null()) {
        println!("    no reason {kind}: {excuse}");
        return Ok(());
    }
    let text = root["text"].as_str().unwrap_or_default();
    let right = root["kind"] == kind
        && pid.is_none_or(|pid| root["process"]["pid"] == pid)
        && (fate.0.is_empty() || root["process"][fate.0] == fate.1)
        && words.iter().all(|word| text.contains(word));
    ensure!(right, "{kind} of {pid:?} with {fate:?} and {words:?} is not the root: {failure}");
    Ok(())
}
