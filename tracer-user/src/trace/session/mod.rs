//! One session: from loading to the last record.

mod intake;
mod telling;

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashSet},
    io,
    time::Duration,
};

use anyhow::Context as _;
use aya::maps::{MapData, PerCpuHashMap};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tracer_common::upstream::{UpstreamCounts, UpstreamKey};

use super::{
    convert::{self, Converter},
    host::Host,
    later::Later,
    log::StandardError,
    notify,
    outbox::Outbox,
    overload::Overload,
    prepare::{Prepared, Wanted, prepare},
    statistics::Statistics,
    storms::Storms,
    workers::{self, Target},
};
use crate::{
    collect::{counters::Losses, decode::Decoder, memory::Memories, ring::Ring},
    context::{
        host,
        process::{Processes, Role},
    },
    diagnose::engine::{Engine, Facts},
    kernel::{clock, heap},
    model::observation::Observation,
    nginx::{config::Advisor, log::tail::Start, memory::Configurations},
    probe::attach::Probes,
    record::{self, Record},
    settings::WatchSettings,
    sink::Sinks,
};

/// How often the ring is read. A wake-up per event would cost nginx more than all programs together.
const POLL: Duration = Duration::from_millis(10);
const STATS: Duration = Duration::from_secs(10);
/// How long it waits for who listens on the unix sockets that the configuration names, and for who listens at all, together.
const SURVEY: Duration = Duration::from_millis(50);
/// How long the session record waits for the configuration, which is read while the hooks are attached.
const CONFIGURATION: Duration = Duration::from_millis(20);

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    Signal,
    Duration,
    Count,
    /// Nobody reads the output any more.
    Closed,
}

/// Traces what is [`possible`](super::possible) until something stops it.
pub fn run(settings: &WatchSettings, sinks: &mut Sinks) -> anyhow::Result<Stopped> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the event loop")?;
    runtime.block_on(async {
        // Before the session record: it says "ready", and a signal may follow at once.
        let signals = Signals::listen().context("cannot listen to signals")?;
        Session::start(settings, sinks)?.follow(signals).await
    })
}

/// What the user and the service manager say.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// A process that appeared just now.
struct Newcomer {
    pid: u32,
    time_ns: u64,
    comm: String,
}

struct Session<'a> {
    settings: &'a WatchSettings,
    sinks: &'a mut Sinks,
    probes: Probes,
    events: Ring,
    /// Every event up to this time has been taken.
    drained_ns: u64,
    losses: Losses,
    upstreams: PerCpuHashMap<MapData, UpstreamKey, UpstreamCounts>,
    debug: Option<aya_log::EbpfLogger<StandardError>>,
    decoder: Decoder,
    memories: Memories,
    configurations: Configurations,
    engine: Engine,
    converter: Converter,
    outbox: Outbox,
    overload: Overload,
    statistics: Statistics,
    storms: Storms,
    /// With `--count`: failures told.
    counted: HashSet<u64>,
    later: Later,
    target: Target,
    traced: BTreeSet<u32>,
    /// Appeared just now: their title, hence their role, is not set yet.
    newcomers: Vec<Newcomer>,
    undecodable: u64,
}

impl<'a> Session<'a> {
    fn start(settings: &'a WatchSettings, sinks: &'a mut Sinks) -> anyhow::Result<Self> {
        let target = Target::new(&settings.processes, &settings.pids);
        let wanted = Wanted {
            names: &target.names,
            pids: &target.pids,
            nginx_witness: settings.nginx_witness,
            avoided: &settings.avoided,
            debug_probes: settings.debug_probes,
        };
        let Prepared { facts, plan, mut probes } = prepare(wanted)?;
        let mut session = Self {
            settings,
            sinks,
            events: Ring::new(probes.take_events()?).context("cannot map the ring buffer")?,
            drained_ns: 0,
            losses: Losses::new(probes.take_losses()?, probes.descriptors(), probes.take_calls()?),
            upstreams: probes.take_upstreams()?,
            debug: settings
                .debug_probes
                .then(|| probes.debug_log(StandardError))
                .transpose()
                .context("cannot read the kernel programs' own log")?,
            decoder: Decoder::new(facts.reset_reasons, probes.sources()),
            memories: Memories::default(),
            configurations: Configurations::default(),
            engine: Engine::new(Facts { jiffy_us: clock::jiffy_us() }),
            converter: Converter {
                wall_offset_ns: clock::wall_offset_ns(),
                processes: Processes::default(),
                host: Host::new(&mut probes, facts.drop_reasons, plan.reset_has_reason)?,
                advisor: Advisor::default(),
            },
            outbox: Outbox::default(),
            overload: Overload::default(),
            statistics: Statistics::default(),
            storms: Storms::new(probes.take_storms()?, probes.take_storming()?),
            counted: HashSet::new(),
            later: Later::default(),
            target,
            traced: BTreeSet::new(),
            newcomers: Vec::new(),
            undecodable: 0,
            probes,
        };
        session.begin(session.probes.observations(&plan))?;
        Ok(session)
    }

    /// Finds who is there, attaches nginx's uprobes, and says that it is ready.
    fn begin(&mut self, mut observations: Vec<Observation>) -> anyhow::Result<()> {
        let running = self.target.running();
        workers::seed(&mut self.probes.take_processes()?, &running);
        for process in &running {
            if process.role == Role::Worker {
                self.converter.advisor.watch(process.pid);
            }
            self.traced.insert(process.pid);
            self.converter.processes.refresh(process.pid);
            self.listen(process.pid);
            self.reach_lines(process.pid, Start::End);
        }
        self.converter.host.look_around(&mut self.probes, &running)?;
        if self.settings.nginx_witness {
            workers::observe(&mut observations, &self.probes);
            workers::observe_texts(&mut observations, &running, &self.outbox.texts.logs, self.probes.hearing());
        }
        workers::observe_configuration(&mut observations, &running, &mut self.converter.advisor, CONFIGURATION);
        self.converter.survey();
        let begun = Instant::now();
        self.converter.host.surveyed(SURVEY);
        self.converter.host.looked_around(SURVEY.saturating_sub(begun.elapsed()));
        self.watch_what_passes();
        let now = clock::monotonic_ns();
        let session = Record::Session(record::Session {
            schema: record::SCHEMA,
            time: self.converter.time(now),
            session: format!("{:x}-{:x}", std::process::id(), now),
            part: 0,
            version: Cow::Borrowed(env!("CARGO_PKG_VERSION")),
            host: host::name(),
            kernel: host::kernel(),
            boot_id: host::boot_id(),
            processes: running.iter().map(convert::process).collect(),
            observations: observations.iter().map(convert::observation).collect(),
        });
        self.sinks.write(session)?;
        self.sinks.flush()?;
        notify::ready().context("cannot tell the service manager that the session is ready")?;
        self.converter.host.drops.seek_places();
        heap::give_back();
        Ok(())
    }

    async fn follow(mut self, signals: Signals) -> anyhow::Result<Stopped> {
        let mut poll = every(POLL);
        let mut second = every(Duration::from_secs(1));
        let mut tenth = every(Duration::from_millis(100));
        let mut stats = every(STATS);
        stats.reset();
        let mut last_stats = Instant::now();
        let Signals { mut interrupt, mut terminate, mut hangup } = signals;
        let started = Instant::now();
        let end = self.settings.duration.map(|duration| started + duration);
        let stopped = loop {
            let result = tokio::select! {
                biased;
                _ = interrupt.recv() => break Ok(Stopped::Signal),
                _ = terminate.recv() => break Ok(Stopped::Signal),
                () = sleep_until(end.unwrap_or(started)), if end.is_some() => break Ok(Stopped::Duration),
                _ = hangup.recv() => {
                    if terminal_is_gone() {
                        break Ok(Stopped::Closed);
                    }
                    self.sinks.reopen()
                }
                _ = stats.tick() => {
                    let interval_s = last_stats.elapsed().as_secs_f64();
                    last_stats = Instant::now();
                    self.stats(interval_s)
                }
                _ = second.tick() => self.every_second(),
                _ = tenth.tick() => self.every_tenth(),
                _ = poll.tick() => self.drain().map(drop),
            };
            match result {
                Ok(()) if self.settings.count.is_some_and(|count| self.sinks.failures_shown() >= count.get()) => {
                    break Ok(Stopped::Count);
                }
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break Ok(Stopped::Closed),
                Err(error) => break Err(error),
            }
        };
        // Where one output is gone, the others still have their end.
        let reason = match &stopped {
            Ok(Stopped::Signal | Stopped::Closed) => record::EndReason::Signal,
            Ok(Stopped::Duration) => record::EndReason::Duration,
            Ok(Stopped::Count) => record::EndReason::Count,
            Err(_) => record::EndReason::Error,
        };
        let ended = self.end(reason, last_stats.elapsed().as_secs_f64());
        let stopped = stopped.context("cannot write the output")?;
        match ended {
            Ok(()) => Ok(stopped),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Stopped::Closed),
            Err(_) if matches!(stopped, Stopped::Closed) => Ok(Stopped::Closed),
            Err(error) => Err(error).context("cannot write the output"),
        }
    }
}

/// Whether standard output is a terminal that has hung up: then this SIGHUP was its last word.
fn terminal_is_gone() -> bool {
    rustix::termios::tcgetattr(io::stdout()).is_err_and(|error| error == rustix::io::Errno::IO)
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
