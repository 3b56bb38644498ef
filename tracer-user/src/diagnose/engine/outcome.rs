//! What became of a request after a failed attempt: held until it shows, then emitted.

use super::{Engine, RECENT};
use crate::model::{
    event::{Connection, ConnectionId, Moment, ResponseRead},
    verdict::{Failure, Outcome, Update, Verdict, VerdictId},
};

/// A failed attempt whose request may have gone on with another one that no hook saw: over a cached connection, or a
/// unix socket. nginx's memory can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    pub worker: u32,
    /// Address of the `ngx_http_request_t`, and of the main request's.
    pub request: u64,
    pub main: u64,
    /// When the main request began, and where that stands in it: nginx reuses addresses.
    pub start_ms: u64,
    pub start_offset: u32,
    pub failure: VerdictId,
    /// The request went on if it has had more attempts than these.
    pub attempts: u32,
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) failure: Failure,
    /// nginx's request; 0: unknown.
    pub(super) request: u64,
    pub(super) main: u64,
    /// When the main request began, and where that stands in it; None: not found.
    pub(super) start: Option<(u64, u32)>,
    /// Number of the attempt within its request.
    pub(super) attempt: Option<u32>,
    /// The request has had more attempts by now, says its memory; an error page says better.
    pub(super) went_on: bool,
    pub(super) connection: Option<ConnectionId>,
    pub(super) deadline_ns: u64,
}

impl Engine {
    /// Failures whose outcome is still unknown.
    pub fn questions(&self) -> Vec<Question> {
        self.held
            .iter()
            .filter(|held| held.failure.outcome == Outcome::Unknown && held.request != 0 && !held.went_on)
            .filter_map(|held| {
                let (start_ms, start_offset) = held.start?;
                Some(Question {
                    worker: held.failure.worker,
                    request: held.request,
                    main: held.main,
                    start_ms,
                    start_offset,
                    failure: held.failure.id,
                    attempts: held.attempt?,
                })
            })
            .collect()
    }

    /// The answer to a question: the request had this many attempts when asked.
    pub fn answer(&mut self, question: &Question, attempts: u32) {
        for held in &mut self.held {
            held.went_on |= held.failure.id == question.failure && attempts > question.attempts;
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
        let Held { mut failure, request, went_on, .. } = held;
        let outcome = outcome.or_else(|| went_on.then_some(Outcome::Retried));
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
        self.recent.push_back((failure.time_ns, failure.worker, failure.id));
        if self.recent.len() > RECENT
            && let Some((_, _, old)) = self.recent.pop_front()
        {
            self.causes.remove(&old);
        }
        self.out.push(Verdict::Failure(failure));
    }
}
