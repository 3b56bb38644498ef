//! What comes in: the ring, the logs, and the processes that appear and go.

use std::{borrow::Cow, io};

use super::{Newcomer, Session};
use crate::{
    collect,
    context::process::{ProcessFacts, Role},
    kernel::clock,
    model::{
        event::{Event, Happening, RequestNow},
        host::HostEvent,
    },
    nginx::log::tail::Start,
    record::{self, Record},
    trace::{convert, fallback::Step, workers},
};

/// Events taken in one go, so that signals and timers get their turn in a flood.
const BATCH: usize = 8192;

impl Session<'_> {
    /// Reads the ring until nothing is to be had, or a batch is full; tells up to which time it has been read.
    pub(super) fn drain(&mut self) -> io::Result<u64> {
        let now_ns = clock::monotonic_ns();
        let reserved = self.events.reserved();
        let (mut taken, mut oldest_ns) = (0, u64::MAX);
        while taken < BATCH {
            let Some(item) = self.events.take() else { break };
            if let Some(mut event) = collect::host::decode(&item) {
                drop(item);
                taken += 1;
                self.converter.host.knows(&mut event.actor);
                self.host_event(&event)?;
                continue;
            }
            if let Some(written) = collect::line::decode(&item) {
                taken += 1;
                // Reading a batch may take longer than what came of its first events is kept.
                self.outbox.texts.written(&written, clock::monotonic_ns());
                continue;
            }
            let event = self.decoder.decode(&item);
            drop(item);
            taken += 1;
            match event {
                Ok(event) => {
                    oldest_ns = oldest_ns.min(event.moment.time_ns);
                    if taken == BATCH {
                        self.drained_ns = event.moment.time_ns;
                    }
                    self.event(event)?;
                }
                Err(_) => self.undecodable += 1,
            }
        }
        if self.events.has_read(reserved) {
            self.drained_ns = now_ns;
        }
        if self.overload.saw(taken, oldest_ns, now_ns) {
            self.leave_out_texts(now_ns)?;
        }
        self.storms.set_behind(self.overload.is_behind(now_ns));
        self.statistics.events += taken as u64;
        for question in self.engine.questions(now_ns) {
            let memory = self.memories.of(question.place.worker);
            let now = memory.map_or(RequestNow::Unreadable, |memory| memory.request(&question.place));
            self.engine.answer(&question, clock::monotonic_ns(), now);
        }
        self.read_logs()?;
        self.engine.tick(self.drained_ns);
        self.verdicts()?;
        if let Some(log) = &mut self.debug {
            log.flush();
        }
        self.sinks.flush()?;
        Ok(self.drained_ns)
    }

    /// Failures come faster than they can be told: lines of the log are not read along until that is over.
    pub(super) fn leave_out_texts(&mut self, now_ns: u64) -> io::Result<()> {
        self.outbox.texts.leave_out();
        let (time, program) = (self.converter.time(now_ns), Cow::Borrowed("error_log"));
        self.sinks.write(Record::Lost(record::Lost {
            time,
            program,
            reason: record::LossReason::Overload,
            count: None,
            counted: None,
        }))
    }

    /// Something happened besides nginx.
    fn host_event(&mut self, event: &HostEvent) -> io::Result<()> {
        let served = self.converter.host.event(event, collect::counters::addresses(&self.upstreams));
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
        if let Happening::Complaint(complaint) = &event.happening {
            self.storms.heard(&event.moment, complaint);
        }
        match &event.happening {
            Happening::Appeared { pid, comm } if self.traced.insert(*pid) => {
                self.memories.forget(*pid);
                self.configurations.forget(*pid);
                self.listen(*pid);
                self.newcomers.push(Newcomer { pid: *pid, time_ns: event.moment.time_ns, comm: comm.clone() });
            }
            Happening::Gone { pid, comm } if self.traced.remove(pid) => {
                if self.outbox.texts.fallback.covers(*pid) {
                    self.hear_out(Some(*pid))?;
                }
                self.outbox.texts.gone(*pid);
                self.gone(*pid, comm, event.moment.time_ns)?;
            }
            Happening::Closed { connection, .. } if self.outbox.texts.speaks(connection.worker) => {
                if let Some(event) = self.outbox.texts.fallback.hold(event, clock::monotonic_ns()) {
                    self.engine.event(event);
                }
                return Ok(());
            }
            Happening::Complaint(complaint) => {
                let now_ns = clock::monotonic_ns();
                if !self.overload.is_on(now_ns) {
                    self.outbox.texts.expect(&event.moment, complaint, self.converter.wall_offset_ns, now_ns);
                }
            }
            _ => {}
        }
        self.engine.event(event);
        Ok(())
    }

    /// The lines of what nginx complained about just now.
    fn read_logs(&mut self) -> io::Result<()> {
        for record in self.outbox.read(clock::monotonic_ns(), &self.converter) {
            if let Record::Lost(lost) = &record {
                self.statistics.lost += lost.count.unwrap_or(0);
            }
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
    pub(super) fn hear_out(&mut self, worker: Option<u32>) -> io::Result<()> {
        // What the first reading hears is told by the second.
        for _ in 0..2 {
            self.outbox.texts.fallback.ripen(worker);
            self.read_logs()?;
        }
        Ok(())
    }

    pub(super) fn listen(&mut self, pid: u32) {
        self.decoder.meets(pid);
        if self.settings.nginx_witness {
            let mut visible = workers::listen(&mut self.probes, pid);
            let is_nginx = || ProcessFacts::read(pid).is_some_and(|process| process.looks_like_nginx());
            visible.lines = !visible.complaints && is_nginx();
            self.engine.listens(pid, visible);
            if visible.lines {
                self.outbox.texts.fallback.add(pid);
                self.outbox.texts.logs.follow(pid, Start::End);
            }
        }
    }

    /// Finds the log files of a process; takes its lines as they are written where some go elsewhere.
    pub(super) fn reach_lines(&mut self, pid: u32, start: Start) {
        if !self.settings.nginx_witness {
            return;
        }
        self.outbox.texts.logs.follow(pid, start);
        if self.outbox.texts.logs.misses_lines(pid) {
            self.hear_lines(pid);
        }
    }

    /// The lines of this process are in no file that can be read: takes them as they are written.
    pub(super) fn hear_lines(&mut self, pid: u32) {
        if self.probes.hear_lines(pid) {
            self.outbox.texts.hears(pid);
        }
    }

    fn gone(&mut self, pid: u32, comm: &str, time_ns: u64) -> io::Result<()> {
        self.probes.forget_lines(pid);
        self.memories.forget(pid);
        self.configurations.forget(pid);
        self.decoder.forget(pid);
        // Forked a moment ago, and another program by now: it never was a worker.
        let changed = |newcomer: &Newcomer| newcomer.pid == pid && newcomer.comm != comm;
        if let Some(index) = self.newcomers.iter().position(changed) {
            self.newcomers.remove(index);
            return Ok(());
        }
        self.introduce(u64::MAX)?;
        self.storms.gone(pid, self.converter.time(time_ns));
        let Some(facts) = self.converter.processes.get(pid) else { return Ok(()) };
        let process = convert::process(facts);
        let time = self.converter.time(time_ns);
        self.sinks.write(Record::Worker(record::WorkerChange { time, change: record::Change::Gone, process }))
    }

    /// Announces those who appeared before `before_ns`.
    pub(super) fn introduce(&mut self, before_ns: u64) -> io::Result<()> {
        let (ready, rest): (Vec<_>, _) =
            std::mem::take(&mut self.newcomers).into_iter().partition(|newcomer| newcomer.time_ns < before_ns);
        self.newcomers = rest;
        for Newcomer { pid, time_ns, .. } in ready {
            let Some(facts) = self.converter.processes.refresh(pid) else { continue };
            let is_worker = facts.role == Role::Worker;
            if is_worker {
                self.converter.advisor.watch(pid);
            }
            let process = convert::process(facts);
            let time = self.converter.time(time_ns);
            self.sinks.write(Record::Worker(record::WorkerChange {
                time,
                change: record::Change::Appeared,
                process,
            }))?;
            if is_worker && self.traced.contains(&pid) {
                self.reach_lines(pid, Start::Recent);
            }
        }
        Ok(())
    }
}
