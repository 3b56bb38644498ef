//! One session: from loading to the last record.

use std::{borrow::Cow, collections::BTreeSet, io, time::Duration};

use anyhow::Context as _;
use aya::maps::{MapData, PerCpuHashMap, RingBuf};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tracer_common::{
    loss::Reason,
    upstream::{UpstreamCounts, UpstreamKey},
};

use super::{
    convert::{self, Converter},
    fallback::Step,
    host::Host,
    later::Later,
    log::StandardError,
    notify,
    outbox::Outbox,
    overload::Overload,
    prepare::{Prepared, Wanted, prepare},
    statistics::Statistics,
    workers::{self, Target},
};
use crate::{
    collect::{
        self,
        counters::{Losses, Lost},
        decode::Decoder,
        memory::Memories,
    },
    context::{
        host,
        process::{ProcessFacts, Processes, Role},
    },
    diagnose::engine::{Engine, Facts},
    exit::say,
    kernel::clock,
    model::{
        address::Address,
        event::{Event, Happening, RequestNow},
        host::HostEvent,
        observation::Observation,
        verdict::Verdict,
    },
    nginx::{config::Advisor, log::tail::Start, memory::Configurations},
    probe::attach::Probes,
    record::{self, Record},
    settings::WatchSettings,
    sink::Sinks,
};

/// How often the ring is read. A wake-up per event would cost nginx more than all programs together.
const POLL: Duration = Duration::from_millis(10);
/// Events taken in one go, so that signals and timers get their turn in a flood.
const BATCH: usize = 8192;
/// How long the end waits for reasons that are still being looked for.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
const STATS: Duration = Duration::from_secs(10);
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

/// Traces until something stops it.
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

struct Session<'a> {
    settings: &'a WatchSettings,
    sinks: &'a mut Sinks,
    probes: Probes,
    events: RingBuf<MapData>,
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
    later: Later,
    target: Target,
    traced: BTreeSet<u32>,
    /// Appeared just now: their title, hence their role, is not set yet.
    newcomers: Vec<(u32, u64)>,
    undecodable: u64,
}

impl<'a> Session<'a> {
    fn start(settings: &'a WatchSettings, sinks: &'a mut Sinks) -> anyhow::Result<Self> {
        let wanted = Wanted {
            names: &settings.processes,
            pids: &settings.pids,
            nginx_witness: settings.nginx_witness,
            avoided: &settings.avoided,
            debug_probes: settings.debug_probes,
        };
        let Prepared { facts, plan, mut probes } = prepare(wanted)?;
        let mut session = Self {
            settings,
            sinks,
            events: probes.take_events()?,
            losses: Losses::new(probes.take_losses()?, probes.descriptors(&plan)),
            upstreams: probes.take_upstreams()?,
            debug: settings
                .debug_probes
                .then(|| probes.debug_log(StandardError))
                .transpose()
                .context("cannot read the kernel programs' own log")?,
            decoder: Decoder::new(facts.reset_reasons),
            memories: Memories::default(),
            configurations: Configurations::default(),
            engine: Engine::new(Facts { jiffy_us: clock::jiffy_us() }),
            converter: Converter {
                wall_offset_ns: clock::wall_offset_ns(),
                processes: Processes::default(),
                host: Host::new(&mut probes, facts.drop_reasons)?,
                advisor: Advisor::default(),
            },
            outbox: Outbox::default(),
            overload: Overload::default(),
            statistics: Statistics::default(),
            later: Later::default(),
            target: Target { names: settings.processes.clone(), pids: settings.pids.clone() },
            traced: BTreeSet::new(),
            newcomers: Vec::new(),
            undecodable: 0,
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
            if process.role == Role::Worker {
                self.converter.advisor.watch(process.pid);
            }
            self.traced.insert(process.pid);
            self.converter.processes.refresh(process.pid);
            self.listen(process.pid);
            if self.settings.nginx_witness {
                self.outbox.texts.logs.follow(process.pid, Start::End);
                if self.outbox.texts.misses_lines(process.pid) {
                    self.hear_lines(process.pid);
                }
            }
        }
        self.converter.host.look_around(&mut self.probes, &running)?;
        if self.settings.nginx_witness {
            workers::observe(&mut observations, &self.probes);
            workers::observe_texts(&mut observations, &running, &self.outbox.texts.logs, self.probes.hearing());
        }
        workers::observe_configuration(&mut observations, &running, &mut self.converter.advisor, CONFIGURATION);
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
                _ = hangup.recv() => self.sinks.reopen(),
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
        let stopped = stopped.context("cannot write the output")?;
        match self.end(stopped, last_stats.elapsed().as_secs_f64()) {
            Ok(()) => Ok(stopped),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Stopped::Closed),
            Err(error) => Err(error).context("cannot write the output"),
        }
    }

    /// Reads the ring until it is empty, or a batch is full; tells up to which time it has been read.
    fn drain(&mut self) -> io::Result<u64> {
        let mut now_ns = clock::monotonic_ns();
        let mut taken = 0;
        while taken < BATCH {
            let Some(item) = self.events.next() else { break };
            if let Some(event) = collect::host::decode(&item) {
                drop(item);
                taken += 1;
                self.host_event(&event)?;
                continue;
            }
            if let Some(written) = collect::line::decode(&item) {
                taken += 1;
                self.outbox.texts.written(&written);
                continue;
            }
            let event = self.decoder.decode(&item);
            drop(item);
            taken += 1;
            match event {
                Ok(event) => {
                    if taken == 1 && self.overload.saw(event.moment.time_ns, now_ns) {
                        self.leave_out_texts(now_ns)?;
                    }
                    if taken == BATCH {
                        now_ns = event.moment.time_ns;
                    }
                    self.event(event)?;
                }
                Err(_) => self.undecodable += 1,
            }
        }
        self.statistics.events += taken as u64;
        for question in self.engine.questions(now_ns) {
            let memory = self.memories.of(question.place.worker);
            let now = memory.map_or(RequestNow::Unreadable, |memory| memory.request(&question.place));
            self.engine.answer(&question, clock::monotonic_ns(), now);
        }
        self.read_logs()?;
        self.engine.tick(now_ns);
        self.verdicts()?;
        if let Some(log) = &mut self.debug {
            log.flush();
        }
        self.sinks.flush()?;
        Ok(now_ns)
    }

    /// Failures come faster than they can be told: lines of the log are not read along until that is over.
    fn leave_out_texts(&mut self, now_ns: u64) -> io::Result<()> {
        self.outbox.texts.leave_out();
        let (time, program) = (self.converter.time(now_ns), Cow::Borrowed("error_log"));
        self.sinks.write(Record::Lost(record::Lost {
            time,
            program,
            reason: record::LossReason::Overload,
            count: None,
        }))
    }

    /// Something happened besides nginx.
    fn host_event(&mut self, event: &HostEvent) -> io::Result<()> {
        let upstreams = self.upstreams.keys().flatten().filter_map(|key| {
            match collect::address::from_wire(key.address, key.port) {
                Address::Tcp(address) => Some((key.netns, address)),
                _ => None,
            }
        });
        let served = self.converter.host.event(event, upstreams);
        if served.is_empty() {
            return Ok(());
        }
        let exit = self.converter.exit(event, served);
        self.sinks.write(Record::Exit(exit))
    }

    fn event(&mut self, mut event: Event) -> io::Result<()> {
        if let Some(request) = event.happening.request_mut() {
            request.requests_word = self.configurations.requests_word(event.moment.pid);
            request.configured = self.configurations.of(event.moment.pid, request.server_conf, request.location_conf);
        }
        match &event.happening {
            Happening::Appeared { pid, .. } if self.traced.insert(*pid) => {
                self.memories.forget(*pid);
                self.configurations.forget(*pid);
                self.listen(*pid);
                self.newcomers.push((*pid, event.moment.time_ns));
            }
            Happening::Gone { pid, .. } if self.traced.remove(pid) => {
                if self.outbox.texts.fallback.covers(*pid) {
                    self.hear_out(Some(*pid))?;
                }
                self.outbox.texts.gone(*pid);
                self.gone(*pid, event.moment.time_ns)?;
            }
            Happening::Closed { connection, .. } if self.outbox.texts.speaks(connection.worker) => {
                if let Some(event) = self.outbox.texts.fallback.hold(event, clock::monotonic_ns()) {
                    self.engine.event(event);
                }
                return Ok(());
            }
            Happening::Complaint(complaint) if !self.overload.is_on(clock::monotonic_ns()) => {
                self.outbox.texts.expect(&event.moment, complaint, self.converter.wall_offset_ns);
            }
            _ => {}
        }
        self.engine.event(event);
        Ok(())
    }

    /// The lines of what nginx complained about just now.
    fn read_logs(&mut self) -> io::Result<()> {
        for record in self.outbox.read(clock::monotonic_ns(), &self.converter) {
            self.statistics.lost += u64::from(matches!(record, Record::Lost(_)));
            self.sinks.write(record)?;
        }
        for step in self.outbox.texts.steps(clock::monotonic_ns()) {
            match step {
                Step::Event(event) | Step::Word(_, event, _) => self.engine.event(event),
                Step::WithoutSocket(worker) => self.engine.without_socket(worker),
            }
        }
        Ok(())
    }

    /// Takes in all that the logs say and what waited for it, of this worker or of all.
    fn hear_out(&mut self, worker: Option<u32>) -> io::Result<()> {
        // What the first reading hears is told by the second.
        for _ in 0..2 {
            self.outbox.texts.fallback.ripen(worker);
            self.read_logs()?;
        }
        Ok(())
    }

    fn listen(&mut self, pid: u32) {
        self.decoder.meets(pid);
        if self.settings.nginx_witness {
            let visible = workers::listen(&mut self.probes, pid);
            self.engine.listens(pid, visible);
            let is_nginx = || ProcessFacts::read(pid).is_some_and(|process| process.looks_like_nginx());
            if !visible.complaints && is_nginx() {
                self.outbox.texts.fallback.add(pid);
                self.outbox.texts.logs.follow(pid, Start::End);
            }
        }
    }

    /// The lines of this process are in no file that can be read: takes them as they are written.
    fn hear_lines(&mut self, pid: u32) {
        if self.probes.hear_lines(pid) {
            self.outbox.texts.hears(pid);
        }
    }

    fn gone(&mut self, pid: u32, time_ns: u64) -> io::Result<()> {
        self.probes.forget_lines(pid);
        self.memories.forget(pid);
        self.configurations.forget(pid);
        self.decoder.forget(pid);
        self.introduce(u64::MAX)?;
        let Some(facts) = self.converter.processes.get(pid) else { return Ok(()) };
        let process = convert::process(facts);
        let time = self.converter.time(time_ns);
        self.sinks.write(Record::Worker(record::WorkerChange { time, change: record::Change::Gone, process }))
    }

    /// Announces those who appeared before `before_ns`.
    fn introduce(&mut self, before_ns: u64) -> io::Result<()> {
        let (ready, rest) =
            std::mem::take(&mut self.newcomers).into_iter().partition(|(_, time_ns)| *time_ns < before_ns);
        self.newcomers = rest;
        let ready: Vec<(u32, u64)> = ready;
        for (pid, time_ns) in ready {
            let Some(facts) = self.converter.processes.refresh(pid) else { continue };
            if facts.role == Role::Worker {
                self.converter.advisor.watch(pid);
            }
            let process = convert::process(facts);
            let time = self.converter.time(time_ns);
            self.sinks.write(Record::Worker(record::WorkerChange {
                time,
                change: record::Change::Appeared,
                process,
            }))?;
        }
        Ok(())
    }

    fn verdicts(&mut self) -> io::Result<()> {
        self.tell_until(clock::monotonic_ns())
    }

    /// Tells what needs not wait for its text at this time.
    fn tell_until(&mut self, now_ns: u64) -> io::Result<()> {
        let Self { engine, later, outbox, .. } = self;
        outbox.take(engine.take().inspect(|verdict| {
            if let Verdict::Failure(failure) = verdict {
                later.ask(failure);
            }
        }));
        while let Some(record) = self.outbox.next(now_ns, &mut self.converter) {
            if self.settings.count.is_some_and(|count| self.sinks.failures_shown() >= count.get()) {
                continue; // Enough: the session ends now.
            }
            match &record {
                Record::Failure(failure) => self.statistics.failure(failure),
                Record::Response(_) => self.statistics.response(),
                _ => {}
            }
            self.sinks.write(record)?;
        }
        Ok(())
    }

    fn every_tenth(&mut self) -> io::Result<()> {
        for pid in self.outbox.texts.take_unheard() {
            self.hear_lines(pid);
        }
        self.converter.host.looked_around();
        if let Err(error) = self.converter.host.watch_drops(&mut self.probes) {
            say(&format!("{error:#}"));
        }
        self.later(Duration::ZERO)?;
        self.introduce(clock::monotonic_ns().saturating_sub(100_000_000))?;
        self.sinks.tick(record::Timestamp::now())
    }

    fn every_second(&mut self) -> io::Result<()> {
        self.converter.wall_offset_ns = clock::wall_offset_ns();
        self.overflows()?;
        self.count_losses()
    }

    /// Reasons found after their failures were told.
    fn later(&mut self, patience: Duration) -> io::Result<()> {
        for (failure, root) in self.later.answers(patience) {
            let time = self.converter.time(clock::monotonic_ns());
            let update = record::Update { time, failure, outcome: None, root: Some(root), nginx: None };
            self.sinks.write(Record::Update(Box::new(update)))?;
        }
        Ok(())
    }

    fn overflows(&mut self) -> io::Result<()> {
        for (place, seen) in self.converter.host.overflows.poll() {
            let overflow = self.converter.overflow(place, &seen);
            self.sinks.write(Record::Overflow(overflow))?;
        }
        Ok(())
    }

    fn count_losses(&mut self) -> io::Result<()> {
        let now = clock::monotonic_ns();
        for loss in self.losses.poll() {
            // A skipped run need not have concerned anybody that is traced; where it did, the socket's state at nginx's
            // complaint still tells.
            if loss.reason != Lost::Recursion {
                self.engine.lost(now);
            }
            self.statistics.lost += loss.count;
            let lost = record::Lost {
                time: self.converter.time(now),
                program: Cow::Borrowed(loss.program.hook()),
                reason: match loss.reason {
                    Lost::Counted(Reason::RingFull) => record::LossReason::RingFull,
                    Lost::Counted(Reason::MapFull) => record::LossReason::MapFull,
                    Lost::Counted(Reason::UserRead) => record::LossReason::UserRead,
                    Lost::Recursion => record::LossReason::Recursion,
                },
                count: Some(loss.count),
            };
            self.sinks.write(Record::Lost(lost))?;
        }
        Ok(())
    }

    fn stats(&mut self, interval_s: f64) -> io::Result<()> {
        let stats = self.statistics.take(&self.upstreams, record::Timestamp::now(), interval_s);
        self.sinks.write(Record::Stats(stats))
    }

    /// Everything that waits is judged; then the numbers and the last record.
    fn end(&mut self, stopped: Stopped, interval_s: f64) -> io::Result<()> {
        // What happened until now counts; what goes on happening does not.
        let stopped_ns = clock::monotonic_ns();
        while self.drain()? < stopped_ns {}
        if self.undecodable > 0 {
            say(&format!("{} events could not be decoded: a bug of why502", self.undecodable));
        }
        self.hear_out(None)?;
        self.engine.finish();
        self.tell_until(u64::MAX)?;
        self.introduce(u64::MAX)?;
        self.later(LAST_ANSWERS)?;
        self.overflows()?;
        self.count_losses()?;
        self.stats(interval_s)?;
        let reason = match stopped {
            Stopped::Signal | Stopped::Closed => record::EndReason::Signal,
            Stopped::Duration => record::EndReason::Duration,
            Stopped::Count => record::EndReason::Count,
        };
        self.sinks.end(record::Timestamp::now(), reason)?;
        self.sinks.flush()
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}
