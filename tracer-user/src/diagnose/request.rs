//! Which complaints and error pages belong to one request, although nginx reuses the addresses of its requests.

use std::collections::HashMap;

use crate::model::{
    event::Request,
    verdict::{RequestKey, VerdictId},
};

/// A request that says nothing for so long is forgotten: longer than any timeout people set.
const FORGET_NS: u64 = 600_000_000_000;
/// nginx answers the main request in the same go as the subrequest that decides it.
const SUBREQUEST_NS: u64 = 100_000_000;
/// Requests remembered; above it the oldest are forgotten early.
const CAPACITY: usize = 20_000;
/// Failures remembered of one request.
const FAILURES: usize = 64;

/// One main request that had a failure or an error page.
#[derive(Clone, Debug)]
pub struct RequestState {
    pub key: RequestKey,
    pub failures: Vec<VerdictId>,
    /// When it began, by nginx's clock: another time is another request at the same address.
    start_ms: Option<u64>,
    /// Which of its connection's requests it is.
    requests: Option<u64>,
    line: Option<String>,
    /// Attempts when it last failed or was answered: a smaller number than this is a new request at the same address.
    pub attempts: u32,
    /// The (sub)request which they are counted for.
    counted: u64,
    /// Attempts followed the last failure that was seen: it is not what the request was answered for.
    pub superseded: bool,
    /// A response was emitted for it, with this status.
    pub responded: Option<u16>,
    /// Something was said about it since that response.
    pub news_since_response: bool,
    last_ns: u64,
}

impl RequestState {
    /// One more of its attempts failed. Where requests cannot be told apart the oldest may be another's: let go.
    pub fn failed(&mut self, failure: VerdictId) {
        if self.failures.len() >= FAILURES {
            self.failures.remove(0);
        }
        self.failures.push(failure);
        self.superseded = false;
        self.news_since_response = true;
    }

    /// Can these be one request, as far as they tell?
    fn may_be(&self, request: &Request) -> bool {
        self.key.connection == request.connection
            && self.start_ms == request.start_ms
            && self.requests.zip(request.requests()).is_none_or(|(one, other)| one == other)
            && self.line.as_ref().zip(request.line.as_ref()).is_none_or(|(one, other)| one == other)
    }

    /// Its attempts are those of this (sub)request. Without a start time nothing but their number tells requests apart.
    fn counts(&self, request: &Request) -> bool {
        self.counted == request.request || self.start_ms.is_none()
    }
}

/// What came just before an error page on its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The close of a failed connection, without a word of nginx.
    SilentClose,
    Other,
}

/// Requests by worker and address of the main request.
#[derive(Debug, Default)]
pub struct Requests {
    states: HashMap<(u32, u64), RequestState>,
    ordinals: HashMap<(u32, u64), u32>,
    /// Highest ordinal of a worker's connections that were forgotten: none is given again.
    forgotten: HashMap<u32, u32>,
}

impl Requests {
    /// The request that a failed attempt belongs to.
    pub fn failing(&mut self, worker: u32, request: &Request, now_ns: u64) -> &mut RequestState {
        // A first attempt, or one that is not beyond the last failed one, cannot follow it in the same request.
        let fresh = self.states.get(&(worker, request.main)).is_none_or(|state| {
            !state.may_be(request)
                || match request.attempts {
                    Some(attempts) if state.counts(request) => attempts <= state.attempts,
                    _ => state.responded.is_some(),
                }
        });
        let state = self.entry(worker, request, fresh, now_ns);
        state.attempts = request.attempts.unwrap_or(state.attempts + 1);
        state.counted = request.request;
        state.superseded = false;
        state.news_since_response = true;
        state
    }

    /// The request that an error page belongs to.
    pub fn answering(
        &mut self,
        worker: u32,
        status: u16,
        request: &Request,
        after: After,
        now_ns: u64,
    ) -> &mut RequestState {
        let fresh = self.states.get(&(worker, request.main)).is_none_or(|state| {
            if !state.may_be(request) {
                return true;
            }
            // Its connection was closed just now, and it is not beyond an attempt that was answered for: another request.
            let again = request.attempts.is_some_and(|attempts| attempts <= state.attempts);
            if after == After::SilentClose && state.responded.is_some() && again {
                return true;
            }
            match request.attempts {
                Some(attempts) if request.request == request.main => state.counts(request) && attempts < state.attempts,
                Some(_) => false,
                // No upstream of its own: 500 because a subrequest failed just now, else a request of its own.
                None if status == 500 || request.has_upstream => now_ns.saturating_sub(state.last_ns) > SUBREQUEST_NS,
                None => true,
            }
        });
        let state = self.entry(worker, request, fresh, now_ns);
        state.superseded = !fresh
            && state.counted == request.request
            && request.attempts.is_some_and(|attempts| attempts > state.attempts);
        if let Some(attempts) = request.attempts
            && request.request == request.main
        {
            state.attempts = attempts;
            state.counted = request.request;
        }
        state
    }

    /// The request, when it is known.
    pub fn get_mut(&mut self, worker: u32, request: &Request) -> Option<&mut RequestState> {
        self.states.get_mut(&(worker, request.main))
    }

    fn entry(&mut self, worker: u32, request: &Request, fresh: bool, now_ns: u64) -> &mut RequestState {
        if self.states.len() >= CAPACITY {
            self.forget(now_ns);
        }
        let place = (worker, request.main);
        if fresh {
            let former = self.forgotten.get(&worker).copied().unwrap_or(0);
            let ordinal = self.ordinals.entry((worker, request.connection)).or_insert(former);
            *ordinal += 1;
            let key = RequestKey { worker, connection: request.connection, ordinal: *ordinal };
            self.states.insert(
                place,
                RequestState {
                    key,
                    start_ms: request.start_ms,
                    requests: request.requests(),
                    line: request.line.clone(),
                    failures: Vec::new(),
                    attempts: 0,
                    counted: request.request,
                    superseded: false,
                    responded: None,
                    news_since_response: false,
                    last_ns: now_ns,
                },
            );
        }
        let state = self.states.entry(place).or_insert_with(|| RequestState {
            key: RequestKey { worker, connection: request.connection, ordinal: 0 },
            start_ms: request.start_ms,
            requests: request.requests(),
            line: request.line.clone(),
            failures: Vec::new(),
            attempts: 0,
            counted: request.request,
            superseded: false,
            responded: None,
            news_since_response: false,
            last_ns: now_ns,
        });
        state.last_ns = now_ns;
        state
    }

    /// It was no failure after all.
    pub fn retract(&mut self, worker: u32, main: u64, failure: VerdictId) {
        if let Some(state) = self.states.get_mut(&(worker, main)) {
            state.failures.retain(|known| *known != failure);
        }
    }

    /// A worker is gone, and its requests with it.
    pub fn worker_gone(&mut self, worker: u32) {
        self.states.retain(|(owner, _), _| *owner != worker);
        self.ordinals.retain(|(owner, _), _| *owner != worker);
        self.forgotten.remove(&worker);
    }

    /// Forgets what is old; when full, the older half.
    pub fn forget(&mut self, now_ns: u64) {
        self.states.retain(|_, state| now_ns.saturating_sub(state.last_ns) < FORGET_NS);
        if self.states.len() >= CAPACITY {
            let mut times: Vec<u64> = self.states.values().map(|state| state.last_ns).collect();
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            let median = *median;
            self.states.retain(|_, state| state.last_ns > median);
        }
        let live: std::collections::HashSet<(u32, u64)> =
            self.states.values().map(|state| (state.key.worker, state.key.connection)).collect();
        let forgotten = &mut self.forgotten;
        self.ordinals.retain(|place, ordinal| {
            let keep = live.contains(place);
            if !keep {
                let highest = forgotten.entry(place.0).or_insert(0);
                *highest = (*highest).max(*ordinal);
            }
            keep
        });
    }
}
