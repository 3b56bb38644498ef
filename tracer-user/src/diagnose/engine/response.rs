//! What became of a response after nginx decided on an error page: held until its request has ended, then emitted.

use std::collections::VecDeque;

use super::{About, Engine, HOLD_NS, Question};
use crate::model::{
    event::{RequestNow, RequestPlace},
    verdict::{Handler, Response, Verdict, VerdictId},
};

/// A response that is still being made after this time is told as it is: `error_page` led to an upstream that takes long.
const LONGEST_NS: u64 = 600_000_000_000;
/// Responses held at most; above it the oldest are told as they are.
const CAPACITY: usize = 4096;
/// A request that takes long is looked at less often: after this part of its age, and at least so often.
const PATIENCE: u64 = 8;
const LEAST_OFTEN_NS: u64 = 250_000_000;

/// A decided response whose request may still go on.
#[derive(Debug)]
pub(super) struct HeldResponse {
    pub(super) response: Response,
    pub(super) place: Option<RequestPlace>,
    /// Attempts and whereabouts of the main request when it was decided.
    pub(super) attempts: Option<u32>,
    pub(super) location_conf: u64,
    pub(super) uri: u64,
    /// nginx is still at it, when last asked.
    pub(super) unfinished: bool,
    /// When the request was found to have ended or to have sent its header: nothing more can happen to it.
    pub(super) settled_ns: Option<u64>,
    pub(super) ask_again_ns: u64,
}

impl HeldResponse {
    pub(super) fn question(&self, now_ns: u64) -> Option<Question> {
        let open = self.settled_ns.is_none() && self.ask_again_ns <= now_ns;
        let about = About::Response(self.response.id);
        Some(Question { about, place: self.place.filter(|_| open)? })
    }

    /// Nothing more is to be expected, as far as the ring has been drained.
    fn is_due(&self, now_ns: u64) -> bool {
        let age = if self.unfinished { LONGEST_NS } else { HOLD_NS };
        self.settled_ns.unwrap_or_else(|| self.response.time_ns.saturating_add(age)) <= now_ns
    }

    /// What handled the error, as the request's whereabouts tell.
    fn handler(&self, attempts: Option<u32>, status: Option<u16>, location_conf: u64, uri: u64) -> Option<Handler> {
        // A request that was freed may be overwritten in parts: without its header's status nothing is believed.
        if status.is_none() || location_conf == 0 {
            return None;
        }
        let status = status.filter(|status| *status != 0);
        let moved = location_conf != self.location_conf || (self.uri != 0 && uri != 0 && uri != self.uri);
        match (self.attempts, attempts) {
            (then, Some(now)) if moved && now > then.unwrap_or(0) => Some(Handler::Fallback),
            // They only grow: what was read is not the request's any more.
            (Some(then), now) if now.is_none_or(|now| now < then) => None,
            // Before the header is sent an upstream may still be asked.
            _ if status.is_some_and(|status| moved || status != self.response.status) => Some(Handler::ErrorPage),
            _ => None,
        }
    }
}

impl Engine {
    /// What nginx's memory has to say about the request of this response.
    pub(super) fn response_answer(&mut self, response: VerdictId, asked_ns: u64, now: RequestNow) {
        let Some(held) = self.responses.iter_mut().find(|held| held.response.id == response) else { return };
        let was_unfinished = held.unfinished;
        match now {
            RequestNow::There { attempts, status, ended, location_conf, uri } => {
                let sent = status.filter(|status| *status != 0);
                held.response.handled_by =
                    held.response.handled_by.or_else(|| held.handler(attempts, status, location_conf, uri));
                held.response.client_status = sent;
                held.settled_ns = (ended || sent.is_some()).then_some(asked_ns);
                held.unfinished = status == Some(0);
            }
            RequestNow::Gone => held.settled_ns = Some(asked_ns),
            RequestNow::Unreadable => held.unfinished = false,
        }
        if was_unfinished && !held.unfinished {
            // What nginx did until now may still be in the ring.
            held.settled_ns = held.settled_ns.or(Some(asked_ns));
        }
        let age = asked_ns.saturating_sub(held.response.time_ns);
        held.ask_again_ns = asked_ns.saturating_add((age / PATIENCE).min(LEAST_OFTEN_NS));
    }

    pub(super) fn hold(&mut self, held: HeldResponse) {
        if self.responses.len() >= CAPACITY {
            self.out.extend(self.responses.pop_front().map(|held| Verdict::Response(held.response)));
        }
        self.responses.push_back(held);
    }

    pub(super) fn release_responses(&mut self, now_ns: u64) {
        self.release_responses_where(|held| held.is_due(now_ns));
    }

    pub(super) fn release_responses_of(&mut self, worker: u32) {
        self.release_responses_where(|held| held.response.worker == worker);
    }

    fn release_responses_where(&mut self, due: impl Fn(&HeldResponse) -> bool) {
        if !self.responses.iter().any(&due) {
            return;
        }
        let (due, rest): (VecDeque<_>, _) = std::mem::take(&mut self.responses).into_iter().partition(&due);
        self.responses = rest;
        self.out.extend(due.into_iter().map(|held| Verdict::Response(held.response)));
    }
}
