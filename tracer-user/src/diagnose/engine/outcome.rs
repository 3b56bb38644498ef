//! What became of a request after a failed attempt: held until it shows, then emitted.

use super::{Engine, RECENT, Recent};
use crate::model::{
    event::{Connection, ConnectionId, Moment, RequestNow, RequestPlace, ResponseRead},
    verdict::{Failure, Outcome, Update, Verdict, VerdictId},
};

#[derive(Debug)]
pub(super) struct Held {
    pub(super) failure: Failure,
    /// nginx's request; 0: unknown.
    pub(super) request: u64,
    pub(super) main: u64,
    pub(super) place: Option<RequestPlace>,
    /// Number of the attempt within its request.
    pub(super) attempt: Option<u32>,
    /// Unless the request goes on, an error page must follow, and is heard of.
    pub(super) page_expected: bool,
    /// nginx may have logged the end of a connection whose answer it has: what becomes of the request tells.
    pub(super) doubtful: bool,
    /// This very attempt was answered.
    pub(super) answered: bool,
    /// The request has had more attempts by now.
    pub(super) went_on: bool,
    /// When the request was found to have ended.
    pub(super) ended_ns: Option<u64>,
    pub(super) connection: Option<ConnectionId>,
    /// Address of its unix socket.
    pub(super) unix: Option<u64>,
    pub(super) deadline_ns: u64,
}

impl Engine {
    /// What nginx's memory has to say about this attempt's request.
    pub(super) fn attempt_answer(&mut self, failure: VerdictId, asked_ns: u64, now: RequestNow) {
        let Some(held) = self.held.iter_mut().find(|held| held.failure.id == failure) else { return };
        match now {
            RequestNow::There { attempts, status, ended, .. } => {
                if ended {
                    held.ended_ns = held.ended_ns.or(Some(asked_ns));
                }
                // 499 is the client's own end.
                held.answered |= status.is_some_and(|status| !matches!(status, 0 | 499))
                    && attempts.is_some()
                    && attempts == held.attempt;
                held.went_on |= attempts.zip(held.attempt).is_some_and(|(now, then)| now > then);
            }
            RequestNow::Gone => held.ended_ns = held.ended_ns.or(Some(asked_ns)),
            RequestNow::Unreadable => {}
        }
    }

    /// Releases the attempts that have waited long enough; the ring has been drained up to `now_ns`.
    pub(super) fn release_due(&mut self, now_ns: u64) {
        // What was learnt from memory counts once every event before it is here.
        let due = |held: &Held| held.deadline_ns.max(held.ended_ns.unwrap_or(0)) <= now_ns;
        while self.held.front().is_some_and(due) {
            if let Some(held) = self.held.pop_front() {
                self.release(held, None);
            }
        }
    }

    /// The worker closed the connection of a response that nginx complained about after its header: if it had read all
    /// of it by then, nothing was cut, and nothing failed.
    pub(super) fn body_ended(&mut self, connection: &Connection, response: ResponseRead) {
        let of_body = |held: &Held| held.connection == Some(connection.id) && held.failure.cause.after_header();
        let Some(index) = self.held.iter().position(of_body) else { return };
        let Some(held) = self.held.remove(index) else { return };
        match response {
            ResponseRead::Complete => self.requests.retract(held.failure.worker, held.main, held.failure.id),
            ResponseRead::Cut | ResponseRead::Unknown => self.release(held, None),
        }
    }

    pub(super) fn retried(&mut self, moment: Moment, request: u64) {
        self.stands_alone(moment.pid);
        let last = self.held.iter().rev().find(|held| held.failure.worker == moment.pid && held.request == request);
        if let Some(id) = last.map(|held| held.failure.id) {
            self.settle(&moment, request, Outcome::Retried, &[id]);
        }
    }

    /// The outcome of these attempts of a (sub)request, held or already emitted, is known.
    pub(super) fn settle(&mut self, moment: &Moment, request: u64, outcome: Outcome, among: &[VerdictId]) {
        if among.is_empty() {
            return;
        }
        let mut index = 0;
        while index < self.held.len() {
            let held = &self.held[index];
            if held.failure.worker == moment.pid && held.request == request && among.contains(&held.failure.id) {
                if let Some(held) = self.held.remove(index) {
                    self.release(held, Some(outcome));
                }
            } else {
                index += 1;
            }
        }
        for failure in among {
            if self.open_outcomes.get(failure) == Some(&(moment.pid, request)) {
                self.open_outcomes.remove(failure);
                self.out.push(Verdict::Update(Update { failure: *failure, time_ns: moment.time_ns, outcome }));
            }
        }
    }

    /// Failures are told before the response that names them, also those whose own subrequest was not answered.
    pub(super) fn tell(&mut self, failures: &[VerdictId]) {
        while let Some(index) = self.held.iter().position(|held| failures.contains(&held.failure.id)) {
            if let Some(held) = self.held.remove(index) {
                self.release(held, None);
            }
        }
    }

    pub(super) fn release(&mut self, held: Held, outcome: Option<Outcome>) {
        let Held { mut failure, request, main, went_on, page_expected, ended_ns, doubtful, answered, .. } = held;
        // It ended, and not with an error page: another attempt saved it.
        let saved = page_expected && ended_ns.is_some() && !self.lossy(failure.time_ns, u64::MAX);
        if doubtful && outcome.is_none() && !went_on && (answered || saved) {
            self.requests.retract(failure.worker, main, failure.id);
            return;
        }
        let outcome = outcome.or_else(|| (went_on || saved).then_some(Outcome::Retried));
        if let Some(outcome) = outcome
            && failure.outcome == Outcome::Unknown
        {
            failure.outcome = outcome;
        }
        self.emit_failure(failure, request);
    }

    pub(super) fn emit_failure(&mut self, failure: Failure, request: u64) {
        if failure.outcome == Outcome::Unknown && request != 0 {
            self.open_outcomes.insert(failure.id, (failure.worker, request));
            if self.open_outcomes.len() > RECENT {
                self.open_outcomes.pop_first();
            }
        }
        self.causes.insert(failure.id, failure.cause);
        self.recent.push_back(Recent {
            worker: failure.worker,
            failure: failure.id,
            time_ns: failure.time_ns,
            upstream: failure.upstream.clone(),
            configured: failure.configured.clone(),
        });
        if self.recent.len() > RECENT
            && let Some(old) = self.recent.pop_front()
        {
            self.causes.remove(&old.failure);
        }
        self.out.push(Verdict::Failure(failure));
    }
}
