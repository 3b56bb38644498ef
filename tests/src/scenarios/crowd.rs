//! A host with many processes and many listeners: reasons are found all the same, and neither memory nor verdicts suffer.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Program;
use super::scene::{Scene, Server, because, failure, fill};
use crate::child::{self, Guarded};
use crate::measure::{raise_open_files, resident};
use crate::scenario::{Need, Net, Scenario};
use crate::stage::{Options, Stage};
use crate::{listener, wait};

pub(super) const PROGRAMS: &[Program] =
    &[Program { name: "roots/crowded_host", needs: &[Need::Python], run: crowded_host }];

/// Processes and listeners beside those that count.
const PROCESSES: usize = 20_000;
const LISTENERS: usize = 5000;
/// What why502 may hold resident there.
const MOST_KIB: u64 = 48 << 10;
/// How long a verdict may take: far more than it does, as this is no measurement, and far less than a look at each process.
const SOON: Duration = Duration::from_millis(500);
/// Processes that may have come meanwhile.
const FEW: usize = 50;
/// Refused connects that are timed.
const TIMED: usize = 20;

const HOST: Scenario = Scenario { name: "roots/nginx-crowd", net: Net::Private(&[]), ..super::roots::HOST };

fn crowded_host(why502: &Path, options: &Options) -> Result<String> {
    let (processes, listeners) = if options.vm { (200, 200) } else { (PROCESSES, LISTENERS) };
    raise_open_files();
    let crowd = Crowd::gather(processes)?;
    let stage = Stage::set(&HOST, options)?;
    // First, while their ports are free.
    let mut killed = Server::anywhere(&stage, "127.0.0.1", 64, 0)?;
    let full = Server::anywhere(&stage, "127.0.0.1", 0, 0)?;
    let mut others = stage.inside(|| {
        let bound = || {
            let listener = TcpListener::from(listener::bound(Ipv4Addr::LOCALHOST.into())?);
            listener::listen(&listener, 16)?;
            Ok(listener)
        };
        (0..listeners).map(|_| bound()).collect::<Result<Vec<_>>>()
    })?;
    let scene = Scene::watch(stage, why502)?;
    let uris = [killed.uri("hang"), full.uri("full"), killed.uri("gone")];
    let mut client = scene.begin(&uris[0])?;
    killed.hears("request")?;
    killed.process.signal(libc::SIGKILL)?;
    client.answers(502)?;
    killed.process.wait(wait::SOON)?;
    scene.answers(&uris[2], 502)?;
    let fillers = fill(&scene.stage, full.port)?;
    scene.answers(&uris[1], 504)?;
    drop(fillers);
    // Nobody listens there any more, whoever else does.
    let gone = others.pop().context("a listener")?.local_addr()?.port();
    let mut took = Vec::new();
    for number in 0..TIMED {
        let uri = format!("/p{gone}/{number}-/");
        scene.answers(&uri, 502)?;
        let answered = Instant::now();
        scene.told(&uri)?;
        took.push(answered.elapsed());
    }
    took.sort_unstable();
    let (middle, longest) = (took[TIMED / 2], took[TIMED - 1]);
    ensure!(longest < SOON, "a verdict took {longest:?}");
    let held = resident(scene.tracer.pid())?.total_kib();
    ensure!(held <= MOST_KIB, "{held} KiB resident");
    let (pid, stuck) = (killed.process.pid(), full.process.pid());
    let there = SocketAddr::from((Ipv4Addr::LOCALHOST, full.port)).to_string();
    let records = scene.records()?;
    let by_signal = ("signal", "SIGKILL".into());
    because(failure(&records, &uris[0])?, "process_killed", Some(pid), &by_signal, &["unanswered"])?;
    because(failure(&records, &uris[2])?, "process_killed", Some(pid), &by_signal, &["nothing listens on"])?;
    let queue = failure(&records, &uris[1])?;
    because(queue, "accept_queue_full", None, &("", Value::Null), &[&there, &stuck.to_string()])?;
    let refused = failure(&records, &format!("/p{gone}/0-/"))?;
    because(refused, "not_listening", None, &("", Value::Null), &["nothing listens on"])?;
    crowd.disperse()?;
    Ok(format!("{processes} processes, {listeners} listeners: {held} KiB, told {middle:.0?} after the answer"))
}

/// Processes that do nothing.
struct Crowd {
    /// The one whose end ends the others.
    first: Guarded,
    /// Processes of the host before.
    before: usize,
}

impl Crowd {
    fn gather(count: usize) -> Result<Self> {
        let before = processes_now();
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["crowd", &count.to_string()]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut first = child::start("a crowd", &mut command, None)?;
        let mut said = String::new();
        std::io::Read::read_to_string(&mut first.take_stdout().context("its stdout")?, &mut said)?;
        ensure!(said.trim() == count.to_string(), "{:?} of {count} processes", said.trim());
        Ok(Self { first, before })
    }

    /// What comes next is not to meet them at their ends.
    fn disperse(self) -> Result<()> {
        drop(self.first);
        wait::until("the crowd to go", 6 * wait::SOON, || processes_now() < self.before + FEW)
    }
}

fn processes_now() -> usize {
    let names = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter(|name| name.to_string_lossy().parse::<u32>().is_ok()).count()
}

/// The process itself: has so many children, says how many there are, and waits for its end.
pub fn stand(count: usize) -> Result<()> {
    let mut there = 0;
    for _ in 0..count {
        // SAFETY: this process has one thread; the child does nothing but wait, and ends with its parent.
        match unsafe { libc::fork() } {
            // SAFETY: as above.
            0 => unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::close(libc::STDOUT_FILENO);
                loop {
                    libc::pause();
                }
            },
            -1 => break,
            _ => there += 1,
        }
    }
    println!("{there}");
    // SAFETY: whoever counts reads until nobody has it open any more.
    unsafe { libc::close(libc::STDOUT_FILENO) };
    loop {
        std::thread::park();
    }
}
