//! One session: from loading to the last record.

use std::{borrow::Cow, collections::BTreeSet, io, time::Duration};

use anyhow::Context as _;
use aya::maps::{MapData, PerCpuHashMap, RingBuf};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tracer_common::{
    loss::Reason,
    settings::{COMM_LEN, MAX_NAMES, MAX_PIDS, Settings},
    upstream::{UpstreamCounts, UpstreamKey},
};

use super::{
    Output,
    convert::{self, Converter},
    log::StandardError,
    statistics::Statistics,
    workers::{self, Target},
};
use crate::{
    collect::{counters::Losses, decode::Decoder},
    context::{host, process::Processes},
    diagnose::engine::{Engine, Facts},
    kernel::{clock, facts::KernelFacts},
    model::{
        event::{Event, Happening},
        observation::Observation,
        verdict::Verdict,
    },
    probe::{attach::Probes, plan::plan},
    record::{self, Record},
};

/// How often the ring is read. A wake-up per event would cost nginx more than all programs together.
const POLL: Duration = Duration::from_millis(10);
/// Events taken in one go, so that signals and timers get their turn in a flood.
const BATCH: usize = 8192;
const STATS: Duration = Duration::from_secs(10);

/// What is to be traced, and for how long.
#[derive(Clone, Debug)]
pub struct Request {
    pub processes: Vec<String>,
    pub pids: Vec<u32>,
    pub nginx_witness: bool,
    pub duration: Option<Duration>,
    /// Failures shown (after filters) before it ends by itself.
    pub count: Option<u64>,
    pub debug_probes: bool,
}

/// Why it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    Signal,
    Duration,
    Count,
    /// Nobody reads the output any more.
    Closed,
}

/// Traces until something stops it.
pub fn run(request: &Request, output: &mut dyn Output) -> anyhow::Result<Stopped> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    runtime.block_on(async { Session::start(request, output)?.follow().await })
}

struct Session<'a> {
    request: &'a Request,
    output: &'a mut dyn Output,
    probes: Probes,
    events: RingBuf<MapData>,
    losses: Losses,
    upstreams: PerCpuHashMap<MapData, UpstreamKey, UpstreamCounts>,
    debug: Option<aya_log::EbpfLogger<StandardError>>,
    decoder: Decoder,
    engine: Engine,
    converter: Converter,
    statistics: Statistics,
    target: Target,
    traced: BTreeSet<u32>,
    /// Appeared just now: their title, hence their role, is not set yet.
    newcomers: Vec<(u32, u64)>,
    undecodable: u64,
}

impl<'a> Session<'a> {
    fn start(request: &'a Request, output: &'a mut dyn Output) -> anyhow::Result<Self> {
        let facts = KernelFacts::read().context("cannot learn the kernel's data structures")?;
        let plan = plan(&facts, request.nginx_witness);
        let settings = settings(request, &facts, plan.reset_has_reason);
        let mut probes = Probes::load(&plan, &settings)?;
        let mut session = Self {
            request,
            events: probes.take_events()?,
            losses: Losses::new(probes.take_losses()?),
            upstreams: probes.take_upstreams()?,
            debug: request
                .debug_probes
                .then(|| probes.debug_log(StandardError))
                .transpose()
                .context("cannot read the kernel programs' own log")?,
            decoder: Decoder::new(facts.reset_reasons),
            engine: Engine::new(Facts { jiffy_us: clock::jiffy_us() }),
            converter: Converter { wall_offset_ns: clock::wall_offset_ns(), processes: Processes::default() },
            statistics: Statistics::default(),
            target: Target { names: request.processes.clone(), pids: request.pids.clone() },
            traced: BTreeSet::new(),
            newcomers: Vec::new(),
            undecodable: 0,
            output,
            probes,
        };
        session.begin(plan.observations)?;
        Ok(session)
    }

    /// Finds who is there, attaches nginx's uprobes, and says that it is ready.
    fn begin(&mut self, mut observations: Vec<Observation>) -> anyhow::Result<()> {
        let running = self.target.running();
        workers::seed(&mut self.probes.take_processes()?, &running);
        for process in &running {
            self.traced.insert(process.pid);
            self.converter.processes.refresh(process.pid);
            self.listen(process.pid);
        }
        if self.request.nginx_witness {
            workers::observe(&mut observations, &self.probes);
        }
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
        self.output.record(&session)?;
        self.output.flush()?;
        Ok(())
    }

    async fn follow(mut self) -> anyhow::Result<Stopped> {
        let mut poll = every(POLL);
        let mut second = every(Duration::from_secs(1));
        let mut tenth = every(Duration::from_millis(100));
        let mut stats = every(STATS);
        stats.reset();
        let mut last_stats = Instant::now();
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let started = Instant::now();
        let end = self.request.duration.map(|duration| started + duration);
        let stopped = loop {
            let result = tokio::select! {
                biased;
                _ = interrupt.recv() => break Ok(Stopped::Signal),
                _ = terminate.recv() => break Ok(Stopped::Signal),
                () = sleep_until(end.unwrap_or(started)), if end.is_some() => break Ok(Stopped::Duration),
                _ = hangup.recv() => self.output.reopen(),
                _ = stats.tick() => {
                    let interval_s = last_stats.elapsed().as_secs_f64();
                    last_stats = Instant::now();
                    self.stats(interval_s)
                }
                _ = second.tick() => self.every_second(),
                _ = tenth.tick() => self.every_tenth(),
                _ = poll.tick() => self.drain(),
            };
            match result {
                Ok(()) if self.request.count.is_some_and(|count| self.output.shown() >= count) => break Ok(Stopped::Count),
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break Ok(Stopped::Closed),
                Err(error) => break Err(error),
            }
        };
        let stopped = stopped.context("cannot write the output")?;
        match self.end(stopped, last_stats.elapsed().as_secs_f64(), started.elapsed()) {
            Ok(()) => Ok(stopped),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Stopped::Closed),
            Err(error) => Err(error).context("cannot write the output"),
        }
    }

    /// Reads the ring until it is empty, or a batch is full.
    fn drain(&mut self) -> io::Result<()> {
        let mut now_ns = clock::monotonic_ns();
        let mut taken = 0;
        loop {
            let event = match self.events.next() {
                None => break,
                Some(item) => self.decoder.decode(&item),
            };
            taken += 1;
            match event {
                Ok(event) => {
                    now_ns = if taken >= BATCH { event.moment.time_ns } else { now_ns };
                    self.event(event)?;
                }
                Err(_) => self.undecodable += 1,
            }
            if taken >= BATCH {
                break;
            }
        }
        self.statistics.events += taken as u64;
        self.engine.tick(now_ns);
        self.verdicts()?;
        if let Some(log) = &mut self.debug {
            log.flush();
        }
        self.output.flush()
    }

    fn event(&mut self, event: Event) -> io::Result<()> {
        match &event.happening {
            Happening::Appeared { pid, .. } if self.traced.insert(*pid) => {
                self.listen(*pid);
                self.newcomers.push((*pid, event.moment.time_ns));
            }
            Happening::Gone { pid, .. } if self.traced.remove(pid) => self.gone(*pid, event.moment.time_ns)?,
            _ => {}
        }
        self.engine.event(event);
        self.verdicts()
    }

    fn listen(&mut self, pid: u32) {
        if self.request.nginx_witness {
            let visible = workers::listen(&mut self.probes, pid);
            self.engine.listens(pid, visible);
        }
    }

    fn gone(&mut self, pid: u32, time_ns: u64) -> io::Result<()> {
        self.introduce(u64::MAX)?;
        let Some(facts) = self.converter.processes.get(pid) else { return Ok(()) };
        let process = convert::process(facts);
        let time = self.converter.time(time_ns);
        self.output.record(&Record::Worker(record::WorkerChange { time, change: record::Change::Gone, process }))
    }

    /// Announces those who appeared before `before_ns`.
    fn introduce(&mut self, before_ns: u64) -> io::Result<()> {
        let (ready, rest) = std::mem::take(&mut self.newcomers).into_iter().partition(|(_, time_ns)| *time_ns < before_ns);
        self.newcomers = rest;
        let ready: Vec<(u32, u64)> = ready;
        for (pid, time_ns) in ready {
            let Some(facts) = self.converter.processes.refresh(pid) else { continue };
            let process = convert::process(facts);
            let time = self.converter.time(time_ns);
            self.output.record(&Record::Worker(record::WorkerChange { time, change: record::Change::Appeared, process }))?;
        }
        Ok(())
    }

    fn verdicts(&mut self) -> io::Result<()> {
        for verdict in self.engine.take() {
            let record = match verdict {
                Verdict::Failure(failure) => {
                    let failure = self.converter.failure(failure);
                    self.statistics.failure(&failure);
                    Record::Failure(Box::new(failure))
                }
                Verdict::Response(response) => {
                    self.statistics.response();
                    Record::Response(Box::new(self.converter.response(response)))
                }
                Verdict::Update(update) => Record::Update(Box::new(self.converter.update(&update))),
            };
            self.output.record(&record)?;
        }
        Ok(())
    }

    fn every_tenth(&mut self) -> io::Result<()> {
        self.introduce(clock::monotonic_ns().saturating_sub(100_000_000))?;
        self.output.tick(record::Timestamp::now())
    }

    fn every_second(&mut self) -> io::Result<()> {
        self.converter.wall_offset_ns = clock::wall_offset_ns();
        self.count_losses()
    }

    fn count_losses(&mut self) -> io::Result<()> {
        let now = clock::monotonic_ns();
        for loss in self.losses.poll() {
            self.engine.lost(now);
            self.statistics.lost += loss.count;
            let lost = record::Lost {
                time: self.converter.time(now),
                program: Cow::Borrowed(loss.program.hook()),
                reason: match loss.reason {
                    Reason::RingFull => record::LossReason::RingFull,
                    Reason::MapFull => record::LossReason::MapFull,
                    Reason::UserRead => record::LossReason::UserRead,
                },
                count: Some(loss.count),
            };
            self.output.record(&Record::Lost(lost))?;
        }
        Ok(())
    }

    fn stats(&mut self, interval_s: f64) -> io::Result<()> {
        let stats = self.statistics.take(&self.upstreams, record::Timestamp::now(), interval_s);
        self.output.record(&Record::Stats(stats))
    }

    /// Everything that waits is judged; then the numbers and the last record.
    fn end(&mut self, stopped: Stopped, interval_s: f64, duration: Duration) -> io::Result<()> {
        self.drain()?;
        self.engine.finish();
        self.verdicts()?;
        self.introduce(u64::MAX)?;
        self.count_losses()?;
        self.stats(interval_s)?;
        let reason = match stopped {
            Stopped::Signal | Stopped::Closed => record::EndReason::Signal,
            Stopped::Duration => record::EndReason::Duration,
            Stopped::Count => record::EndReason::Count,
        };
        self.output.end(reason, duration)?;
        self.output.flush()
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

fn settings(request: &Request, facts: &KernelFacts, reset_has_reason: bool) -> Settings {
    let mut settings = Settings {
        offsets: facts.offsets,
        own_pid: std::process::id(),
        reset_has_reason: u32::from(reset_has_reason),
        nginx_word: u32::from(request.nginx_witness),
        debug: u32::from(request.debug_probes),
        ..Settings::DEFAULT
    };
    for (slot, name) in settings.names.iter_mut().zip(&request.processes) {
        let bytes = name.as_bytes();
        let length = bytes.len().min(COMM_LEN - 1);
        slot[..length].copy_from_slice(&bytes[..length]);
        settings.name_count += 1;
    }
    for (slot, pid) in settings.pids.iter_mut().zip(&request.pids) {
        *slot = *pid;
        settings.pid_count += 1;
    }
    debug_assert!(request.processes.len() <= MAX_NAMES && request.pids.len() <= MAX_PIDS, "the command line refuses more");
    settings
}
