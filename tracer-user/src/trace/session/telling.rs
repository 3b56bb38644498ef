//! What goes out: verdicts, what is learnt later, losses and numbers.

use std::{
    borrow::Cow,
    io,
    time::{Duration, Instant},
};

use tracer_common::loss::{Program, Reason};

use super::Session;
use crate::{
    collect::counters::{Loss, Lost, addresses},
    exit::say,
    kernel::{clock, heap},
    model::verdict::Verdict,
    record::{self, Record},
    trace::roots::{self, Found},
};

/// How long the end waits for events that are still being written, or read by somebody slow.
const LAST_EVENTS: Duration = Duration::from_secs(6);
/// How long the end waits for reasons that are still being looked for.
const LAST_ANSWERS: Duration = Duration::from_millis(500);

impl Session<'_> {
    pub(super) fn verdicts(&mut self) -> io::Result<()> {
        self.tell_until(clock::monotonic_ns())
    }

    /// Tells what needs not wait for its text at this time.
    fn tell_until(&mut self, now_ns: u64) -> io::Result<()> {
        let Self { engine, later, outbox, converter, .. } = self;
        outbox.take(engine.take().inspect(|verdict| {
            if let Verdict::Failure(failure) = verdict {
                later.ask(failure);
                roots::ask(failure, &mut converter.host);
            }
        }));
        while let Some(record) = self.outbox.next(now_ns, &mut self.converter) {
            if self.settings.count.is_some_and(|count| self.sinks.failures_shown() >= count.get())
                && !self.belongs_to_told(&record)
            {
                continue; // Enough: the session ends now.
            }
            match &record {
                Record::Failure(failure) => {
                    self.statistics.failure(failure);
                    self.counted.extend(self.settings.count.map(|_| failure.id));
                }
                Record::Response(_) => self.statistics.response(),
                _ => {}
            }
            self.sinks.write(record)?;
        }
        Ok(())
    }

    /// With `--count`: what became of a failure that was told.
    fn belongs_to_told(&self, record: &Record) -> bool {
        match record {
            Record::Failure(_) => false,
            Record::Response(response) => response.failures.iter().any(|id| self.counted.contains(id)),
            Record::Update(update) => self.counted.contains(&update.failure),
            _ => true,
        }
    }

    pub(super) fn every_tenth(&mut self) -> io::Result<()> {
        for pid in self.outbox.texts.take_unheard() {
            self.hear_lines(pid);
        }
        self.converter.host.looked_around(Duration::ZERO);
        self.converter.host.conntrack.rest();
        self.converter.survey();
        self.converter.host.surveyed(Duration::ZERO);
        self.watch_what_passes();
        self.later(Duration::ZERO)?;
        let now_ns = clock::monotonic_ns();
        if self.storms.poll(self.converter.time(now_ns)) && self.overload.goes_on(now_ns) {
            self.leave_out_texts(now_ns)?;
        }
        self.introduce(clock::monotonic_ns().saturating_sub(100_000_000))?;
        self.sinks.tick(record::Timestamp::now())
    }

    /// Looks at what mostly passes by, where that is little or wanted.
    pub(super) fn watch_what_passes(&mut self) {
        if let Some(why) = self.converter.host.watch_drops(&mut self.probes) {
            say(&format!("cannot look at dropped packets: {why}"));
        }
        if let Some(why) = self.converter.host.watch_ttl(&mut self.probes) {
            say(&format!("cannot look how far resets have come: {why}"));
        }
    }

    pub(super) fn every_second(&mut self) -> io::Result<()> {
        self.converter.wall_offset_ns = clock::wall_offset_ns();
        let upstreams = || addresses(&self.upstreams).map(|(netns, address)| (netns, address.ip())).collect();
        self.converter.host.look_for_containers(upstreams);
        // Whose the listeners are may not be known yet.
        if !self.converter.host.is_looking_around() {
            self.overflows()?;
        }
        self.tell_counted()?;
        self.count_losses()
    }

    /// What the kernel programs counted instead of telling it.
    fn tell_counted(&mut self) -> io::Result<()> {
        let time = self.converter.time(clock::monotonic_ns());
        for counted in self.storms.take() {
            self.statistics.counted(&counted);
            let lost = record::Lost {
                time,
                program: Cow::Borrowed(Program::LogErrorCore.hook()),
                reason: record::LossReason::Overload,
                count: Some(counted.failures + counted.responses),
                counted: Some(counted),
            };
            self.sinks.write(Record::Lost(lost))?;
        }
        Ok(())
    }

    /// Reasons found after their failures were told.
    fn later(&mut self, patience: Duration) -> io::Result<()> {
        let ports = self.later.answers(patience).into_iter();
        let mut found: Vec<_> =
            ports.map(|(failure, root)| (failure, Found { root, hint: None, evidence: None })).collect();
        let late = self.converter.host.sockets.late(patience);
        found.extend(late.into_iter().filter_map(|(failure, cause, answer)| {
            Some((failure, roots::of_socket(cause, &answer, &self.converter.host)?))
        }));
        for (failure, look) in self.converter.host.waits.late(patience) {
            let late = roots::of_late(&failure, &look, &mut self.converter.host);
            found.extend(late.map(|late| (failure.id.0, late)));
        }
        found.extend(roots::left(&mut self.converter.host));
        found.extend(roots::settled(&mut self.converter.host, patience));
        for (failure, Found { root, hint, evidence: _ }) in found {
            let time = self.converter.time(clock::monotonic_ns());
            let update = record::Update {
                time,
                failure,
                outcome: None,
                root: Some(root),
                hint: hint.map(Cow::Owned),
                nginx: None,
            };
            self.sinks.write(Record::Update(Box::new(update)))?;
        }
        Ok(())
    }

    fn overflows(&mut self) -> io::Result<()> {
        for (place, seen) in self.converter.host.overflowed(self.traced.iter().copied()) {
            for overflow in self.converter.overflows(place, &seen) {
                self.sinks.write(Record::Overflow(overflow))?;
            }
        }
        Ok(())
    }

    fn count_losses(&mut self) -> io::Result<()> {
        let losses = self.losses.poll();
        self.tell_losses(&losses)
    }

    fn tell_losses(&mut self, losses: &[Loss]) -> io::Result<()> {
        let now = clock::monotonic_ns();
        for loss in losses {
            // A skipped run need not have concerned anybody that is traced, and nginx has its word about a call that failed;
            // where they did, the socket's state at nginx's complaint still tells.
            if !matches!(loss.reason, Lost::Recursion | Lost::Counted(Reason::KretprobeMissed)) {
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
                    Lost::Counted(Reason::KretprobeMissed) => record::LossReason::KretprobeMissed,
                    Lost::Recursion => record::LossReason::Recursion,
                },
                count: Some(loss.count),
                counted: None,
            };
            self.sinks.write(Record::Lost(lost))?;
        }
        Ok(())
    }

    pub(super) fn stats(&mut self, interval_s: f64) -> io::Result<()> {
        let stats = self.statistics.take(&mut self.upstreams, record::Timestamp::now(), interval_s);
        // What a storm has taken.
        heap::give_back();
        self.sinks.write(Record::Stats(stats))
    }

    /// Everything that waits is judged; then the numbers and the last record.
    pub(super) fn end(&mut self, reason: record::EndReason, interval_s: f64) -> io::Result<()> {
        self.sinks.begin_end();
        // What happened until now counts; what goes on happening does not.
        let stopped_ns = clock::monotonic_ns();
        let patience = Instant::now() + LAST_EVENTS;
        while self.drain()? < stopped_ns && Instant::now() < patience {}
        if self.undecodable > 0 {
            say(&format!("{} events could not be decoded: a bug of why502", self.undecodable));
        }
        self.hear_out(None)?;
        self.engine.finish();
        self.tell_until(u64::MAX)?;
        self.introduce(u64::MAX)?;
        self.later(LAST_ANSWERS)?;
        self.overflows()?;
        self.storms.poll(self.converter.time(stopped_ns));
        self.tell_counted()?;
        self.count_losses()?;
        let unreturned = self.losses.unreturned();
        self.tell_losses(unreturned.as_slice())?;
        self.stats(interval_s)?;
        self.sinks.end(record::Timestamp::now(), reason)
    }
}
