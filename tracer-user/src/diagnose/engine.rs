//! The engine: joins attempt, word and status of one worker, by socket, by request, and by the order of its thread.
//!
//! A failed attempt is decided at nginx's complaint (or, where nginx stays silent, at the close of its socket) and held
//! for [`HOLD_NS`], in which its outcome shows on the same thread: an error page is `final`, a connect for the same
//! request `retried`.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use super::{
    evidence,
    request::{After, Requests},
    rules::{self, Attempt, Decision, Reuse},
    word::{self, Said},
};
use crate::model::{
    address::Address,
    cause::Cause,
    event::{Bound, Complaint, Connection, ConnectionId, Event, Happening, Moment, ResponseRead, Status, Subject},
    verdict::{
        Confidence, ConnectionFacts, Failure, Origin, Outcome, Phase, Purpose, RequestKey, Response, Update, Verdict,
        VerdictId, Word,
    },
};

/// How long a decided failure waits for its outcome. nginx goes on synchronously: microseconds would do.
pub const HOLD_NS: u64 = 20_000_000;
/// A socket closed this long after a complaint that could not be bound to one is not what it was about.
const UNBOUND_NS: u64 = 50_000_000;
/// nginx closes the socket and makes the error page in one go.
const SILENT_NS: u64 = HOLD_NS;
/// NGX_LOG_ERR: below it nginx logs no failed attempt.
const NGX_LOG_ERR: u32 = 4;
/// How often old requests are forgotten.
const TIDY_NS: u64 = 30_000_000_000;
/// How many earlier failures a response without an attempt names.
const RELATED: usize = 8;
/// Connections reported lately, so that their close is not reported again.
const REPORTED: usize = 4096;
/// Failures whose outcome may still be corrected.
const RECENT: usize = 4096;

/// What the engine must know beforehand.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub jiffy_us: u64,
}

/// The diagnosis of one session.
#[derive(Debug)]
pub struct Engine {
    facts: Facts,
    next_id: u64,
    requests: Requests,
    /// Decided, waiting for their outcome; oldest first.
    held: VecDeque<Held>,
    /// Decided responses, held for as long: an error page may fail at once, and then has a say too.
    responses: VecDeque<Response>,
    /// Closed without a word, waiting for nginx's status.
    unspoken: VecDeque<Unspoken>,
    /// Complaints about a socket that could not be told: the worker's next close is it.
    unbound: HashMap<u32, (Moment, Option<Complaint>)>,
    /// Last word that explains a response without an attempt, by worker and main request.
    words: HashMap<(u32, u64), Wordless>,
    reported: VecDeque<ConnectionId>,
    reported_set: HashSet<ConnectionId>,
    /// Emitted failures whose outcome is unknown: worker and request.
    open_outcomes: BTreeMap<VerdictId, (u32, u64)>,
    causes: HashMap<VerdictId, Cause>,
    /// Failures by upstream, for `related` of `no_live_upstreams`.
    recent: VecDeque<(u64, u32, VerdictId)>,
    /// Workers whose complaints are visible: their silence counts.
    listening: HashSet<u32>,
    /// Workers that exited lately: what the kernel closes for them then is no decision of nginx.
    gone: HashMap<u32, u64>,
    /// Last sequence seen of each worker; a gap is a loss.
    sequences: HashMap<u32, u64>,
    /// Time of the last loss: attempts around it are `likely` at most.
    last_loss_ns: Option<u64>,
    /// Failures of workers that were not about an HTTP request.
    others: u64,
    tidied_ns: u64,
    out: Vec<Verdict>,
}

#[derive(Debug)]
struct Held {
    failure: Failure,
    /// nginx's request; 0: unknown.
    request: u64,
    main: u64,
    /// nginx's number of the client connection, and of the attempt within its request.
    client_connection: u64,
    attempt: Option<u32>,
    connection: Option<ConnectionId>,
    deadline_ns: u64,
}

/// A failed attempt whose request may have gone on with another one that no hook saw: over a cached connection, or a
/// unix socket. nginx's memory can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    pub worker: u32,
    /// Address of the `ngx_http_request_t`.
    pub request: u64,
    pub client_connection: u64,
    pub failure: VerdictId,
    /// The request went on if it has had more attempts than these.
    pub attempts: u32,
}

#[derive(Debug)]
struct Unspoken {
    moment: Moment,
    connection: Connection,
}

#[derive(Debug)]
struct Wordless {
    /// The request it is about: nginx reuses the addresses.
    key: RequestKey,
    cause: Cause,
    message: String,
    time_ns: u64,
}

impl Engine {
    pub fn new(facts: Facts) -> Self {
        Self {
            facts,
            next_id: 1,
            requests: Requests::default(),
            held: VecDeque::new(),
            responses: VecDeque::new(),
            unspoken: VecDeque::new(),
            unbound: HashMap::new(),
            words: HashMap::new(),
            reported: VecDeque::new(),
            reported_set: HashSet::new(),
            open_outcomes: BTreeMap::new(),
            causes: HashMap::new(),
            recent: VecDeque::new(),
            listening: HashSet::new(),
            gone: HashMap::new(),
            sequences: HashMap::new(),
            last_loss_ns: None,
            others: 0,
            tidied_ns: 0,
            out: Vec::new(),
        }
    }

    /// Verdicts since the last call.
    pub fn take(&mut self) -> std::vec::Drain<'_, Verdict> {
        self.out.drain(..)
    }

    /// Attempts that failed and were not HTTP's: stream, mail, resolver, logging.
    pub const fn others(&self) -> u64 {
        self.others
    }

    /// nginx's complaints of this worker are visible from now on (or no longer).
    pub fn listens(&mut self, worker: u32, visible: bool) {
        if visible {
            self.listening.insert(worker);
        } else {
            self.listening.remove(&worker);
        }
    }

    /// Events were lost at about this time.
    pub const fn lost(&mut self, time_ns: u64) {
        self.last_loss_ns = Some(time_ns);
    }

    /// Takes one event, in ring order.
    pub fn event(&mut self, event: Event) {
        let Event { moment, happening } = event;
        if moment.sequence != 0 {
            let before = self.sequences.insert(moment.pid, moment.sequence);
            if before.is_some_and(|before| before + 1 != moment.sequence) {
                self.last_loss_ns = Some(moment.time_ns);
            }
        }
        match happening {
            Happening::Closed { connection, response } => self.closed(moment, connection, response),
            Happening::Retry { request } => self.retried(moment, request),
            Happening::Complaint(complaint) => self.complaint(moment, complaint),
            Happening::Status(status) => self.status(moment, &status),
            Happening::Appeared { pid, .. } => {
                self.sequences.remove(&pid);
                self.gone.remove(&pid);
            }
            Happening::Gone { pid, .. } => self.worker_gone(pid, moment.time_ns),
        }
    }

    /// The ring has been drained up to `now_ns`.
    pub fn tick(&mut self, now_ns: u64) {
        let stale: Vec<u32> = self
            .unbound
            .iter()
            .filter(|(_, (moment, _))| moment.time_ns.saturating_add(UNBOUND_NS) <= now_ns)
            .map(|(worker, _)| *worker)
            .collect();
        for worker in stale {
            if let Some((moment, Some(complaint))) = self.unbound.remove(&worker) {
                self.decide(&moment, &complaint, None);
            }
        }
        while self.held.front().is_some_and(|held| held.deadline_ns <= now_ns) {
            if let Some(held) = self.held.pop_front() {
                self.release(held, None);
            }
        }
        while self.responses.front().is_some_and(|response| response.time_ns.saturating_add(HOLD_NS) <= now_ns) {
            self.out.extend(self.responses.pop_front().map(Verdict::Response));
        }
        while self.unspoken.front().is_some_and(|unspoken| unspoken.moment.time_ns + HOLD_NS <= now_ns) {
            if let Some(unspoken) = self.unspoken.pop_front() {
                self.remains_unspoken(&unspoken);
            }
        }
        if now_ns.saturating_sub(self.tidied_ns) > TIDY_NS {
            self.tidied_ns = now_ns;
            self.words.retain(|_, word| now_ns.saturating_sub(word.time_ns) < TIDY_NS);
            self.gone.retain(|_, time_ns| now_ns.saturating_sub(*time_ns) < TIDY_NS);
            self.requests.forget(now_ns);
        }
    }

    /// The session ends: nothing waits any longer.
    pub fn finish(&mut self) {
        self.tick(u64::MAX);
    }

    fn complaint(&mut self, moment: Moment, mut complaint: Complaint) {
        let Subject::Http(request) = &complaint.subject else {
            // The close that follows on this thread is about it, and is not HTTP's.
            self.stands_alone(moment.pid);
            self.unbound.insert(moment.pid, (moment, None));
            return;
        };
        let Some(said) = word::said(&complaint) else { return };
        self.stands_alone(moment.pid);
        if rules::without_attempt(said) {
            self.no_attempt(&moment, said, &complaint);
            return;
        }
        let at_once = matches!(
            said,
            Said::ConnectFailedAtOnce
                | Said::SocketFailed
                | Said::BindFailed
                | Said::WorkerConnections
                | Said::TempFile
        );
        let upstream_known = request.peer.as_deref().is_some_and(|peer| peer.starts_with("unix:"));
        match std::mem::replace(&mut complaint.bound, Bound::None) {
            Bound::Tcp(connection) => self.decide(&moment, &complaint, Some(&connection)),
            bound @ Bound::Unix => {
                complaint.bound = bound;
                self.decide(&moment, &complaint, None);
            }
            Bound::None if at_once || upstream_known => self.decide(&moment, &complaint, None),
            Bound::None => {
                self.unbound.insert(moment.pid, (moment, Some(complaint)));
            }
        }
    }

    /// nginx explained a response, or part of one, without trying a connection.
    fn no_attempt(&mut self, moment: &Moment, said: Said, complaint: &Complaint) {
        let Subject::Http(request) = &complaint.subject else { return };
        let attempt = Attempt { complaint, connection: None, jiffy_us: self.facts.jiffy_us };
        let Some(decision) = rules::decide(said, &attempt) else { return };
        let state = self.requests.failing(moment.pid, request, moment.time_ns);
        let (key, former) = (state.key, state.failures.clone());
        // The former attempts of the same request were followed by one that found no server.
        self.settle(moment, request.request, Outcome::Retried, &former);
        self.words.insert(
            (moment.pid, request.main),
            Wordless { key, cause: decision.cause, message: word::message(complaint), time_ns: moment.time_ns },
        );
    }

    /// The thread went on: the complaint whose socket could not be told has none that is still to be closed.
    fn stands_alone(&mut self, worker: u32) {
        if self.unbound.get(&worker).is_some_and(|(_, complaint)| complaint.is_some())
            && let Some((moment, Some(complaint))) = self.unbound.remove(&worker)
        {
            self.decide(&moment, &complaint, None);
        }
    }

    /// Both witnesses of a failed attempt are here.
    fn decide(&mut self, moment: &Moment, complaint: &Complaint, connection: Option<&Connection>) {
        let Subject::Http(request) = &complaint.subject else { return };
        let Some(said) = word::said(complaint) else { return };
        let attempt = Attempt { complaint, connection, jiffy_us: self.facts.jiffy_us };
        let Some(decision) = rules::decide(said, &attempt) else { return };
        if let Some(connection) = connection
            && !self.first_report(connection.id)
        {
            return;
        }
        let id = self.id();
        let state = self.requests.failing(moment.pid, request, moment.time_ns);
        let key = state.key;
        let former = state.failures.clone();
        state.failed(id);
        // An earlier attempt of the same request was retried: this is the next one.
        self.settle(moment, request.request, Outcome::Retried, &former);
        let reuse = rules::reuse(&attempt);
        let (started_ns, time_ns) = times(moment, connection, reuse, self.facts.jiffy_us);
        // The client has its status already.
        let after_header = decision.phase == Phase::Body;
        let mut evidence = connection.map(evidence::of_connection).unwrap_or_default();
        evidence.push(evidence::of_complaint(moment, complaint));
        let status = match said {
            _ if after_header => request.upstream_status,
            // ngx_event_connect_peer() = NGX_ERROR: nginx tries no other peer.
            Said::SocketFailed => Some(500),
            _ => decision.cause.status(),
        };
        let failure = Failure {
            id,
            time_ns,
            started_ns,
            cause: decision.cause,
            confidence: self.capped(decision.confidence, started_ns, time_ns),
            status,
            outcome: if after_header { Outcome::Truncated } else { Outcome::Unknown },
            upstream: connection
                .map(|connection| connection.remote.clone())
                .or_else(|| request.peer.as_deref().map(Address::from_nginx)),
            purpose: Purpose::Http,
            worker: moment.pid,
            netns: connection.map(|connection| connection.netns),
            request_key: Some(key),
            phase: decision.phase,
            errno: decision.errno,
            connection: connection.map(|connection| facts(connection, reuse)).unwrap_or_default(),
            root: decision.root,
            word: Some(Word {
                level: complaint.level,
                connection: request.connection,
                message: word::message(complaint),
                client: request.client.clone(),
                request: request.line.clone(),
            }),
            evidence,
            disagreement: decision.disagreement,
        };
        self.held.push_back(Held {
            failure,
            request: request.request,
            main: request.main,
            client_connection: request.connection,
            attempt: request.attempts,
            connection: connection.map(|connection| connection.id),
            deadline_ns: moment.time_ns + HOLD_NS,
        });
    }

    /// Failures that will be emitted at `now_ns` with an unknown outcome.
    pub fn questions(&self, now_ns: u64) -> Vec<Question> {
        self.held
            .iter()
            .filter(|held| held.deadline_ns <= now_ns && held.failure.outcome == Outcome::Unknown && held.request != 0)
            .filter_map(|held| {
                Some(Question {
                    worker: held.failure.worker,
                    request: held.request,
                    client_connection: held.client_connection,
                    failure: held.failure.id,
                    attempts: held.attempt?,
                })
            })
            .collect()
    }

    /// The answer to a question: the request had this many attempts when asked.
    pub fn answer(&mut self, question: &Question, attempts: u32) {
        for held in &mut self.held {
            if held.failure.id == question.failure && attempts > question.attempts {
                held.failure.outcome = Outcome::Retried;
            }
        }
    }

    /// The worker closed the connection of a response that nginx complained about after its header: if it had read all
    /// of it by then, nothing was cut, and nothing failed.
    fn body_ended(&mut self, connection: &Connection, response: ResponseRead) {
        let of_body = |held: &Held| held.connection == Some(connection.id) && held.failure.cause.after_header();
        let Some(index) = self.held.iter().position(of_body) else { return };
        let Some(held) = self.held.remove(index) else { return };
        match response {
            ResponseRead::Complete => self.requests.retract(held.failure.worker, held.main, held.failure.id),
            ResponseRead::Cut | ResponseRead::Unknown => self.release(held, None),
        }
    }

    fn closed(&mut self, moment: Moment, connection: Connection, response: ResponseRead) {
        if self.gone.contains_key(&moment.pid) {
            return;
        }
        if self.reported_set.contains(&connection.id) {
            self.body_ended(&connection, response);
            return;
        }
        if let Some((_, complaint)) = self.unbound.remove(&moment.pid) {
            match complaint {
                Some(complaint) => {
                    self.decide(&moment, &complaint, Some(&connection));
                    self.body_ended(&connection, response);
                }
                None => {
                    self.others += 1;
                    self.first_report(connection.id);
                }
            }
            return;
        }
        self.unspoken.push_back(Unspoken { moment, connection });
    }

    /// nginx did not say a word about it, nor make an error page.
    fn remains_unspoken(&mut self, unspoken: &Unspoken) {
        if self.reported_set.contains(&unspoken.connection.id) {
            return;
        }
        let listening = self.listening.contains(&unspoken.connection.worker);
        if let Some(decision) = rules::unspoken(&unspoken.connection, listening) {
            let failure = self.kernel_failure(unspoken, decision, Purpose::Unknown, None);
            self.emit_failure(failure, 0);
        }
    }

    fn retried(&mut self, moment: Moment, request: u64) {
        self.stands_alone(moment.pid);
        let last = self.held.iter().rev().find(|held| held.failure.worker == moment.pid && held.request == request);
        if let Some(id) = last.map(|held| held.failure.id) {
            self.settle(&moment, request, Outcome::Retried, &[id]);
        }
    }

    /// The outcome of these attempts of a (sub)request, held or already emitted, is known.
    fn settle(&mut self, moment: &Moment, request: u64, outcome: Outcome, among: &[VerdictId]) {
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

    fn status(&mut self, moment: Moment, status: &Status) {
        self.stands_alone(moment.pid);
        let request = &status.request;
        let silent = self.silently_closed(&moment, status);
        let after = if silent.is_some() { After::SilentClose } else { After::Other };
        let state = self.requests.answering(moment.pid, status.status, request, after, moment.time_ns);
        let (key, failures) = (state.key, state.failures.clone());
        let outcome = if state.superseded { Outcome::Retried } else { Outcome::Final };
        for held in &mut self.held {
            if outcome == Outcome::Final
                && held.failure.worker == moment.pid
                && held.request == request.request
                && failures.contains(&held.failure.id)
            {
                held.failure.status = Some(status.status);
            }
        }
        self.settle(&moment, request.request, outcome, &failures);
        if let Some(silent) = silent {
            self.silent_failure(&moment, status, silent);
        }
        if request.request != request.main {
            return; // A subrequest: its main request will be answered in its own name.
        }
        let word = self.words.remove(&(moment.pid, request.main)).filter(|word| word.key == key);
        let Some(state) = self.requests.get_mut(moment.pid, request) else { return };
        let news = std::mem::take(&mut state.news_since_response);
        let failures = state.failures.clone();
        let superseded = state.superseded;
        if status.status == 500 && (!news || request.header_accepted == Some(true)) {
            return; // Not because of a failure.
        }
        let responded = state.responded.replace(status.status);
        self.tell(&failures);
        if responded.is_some() && request.attempts.is_some() {
            // The same request again: its error page failed too.
            let last = failures.last().and_then(|id| self.causes.get(id).copied());
            if let Some(response) = self.responses.iter_mut().find(|response| response.request_key == key)
                && let Some(cause) = last
            {
                response.failures = failures;
                response.cause = cause;
            }
            return;
        }
        let last = failures.last().filter(|_| !superseded).and_then(|id| self.causes.get(id).copied());
        let (origin, cause) = match (&word, last) {
            (Some(word), _) => (Origin::Nginx, word.cause),
            _ if request.header_accepted == Some(true) => (Origin::Upstream, Cause::UpstreamStatus),
            (None, Some(cause)) if news => (Origin::Nginx, cause),
            _ if !request.has_upstream => (Origin::Config, Cause::ConfiguredStatus),
            _ => (Origin::Nginx, Cause::Unexplained),
        };
        let related = if cause == Cause::NoLiveUpstreams {
            let of_worker =
                self.recent.iter().rev().filter(|(_, worker, id)| *worker == moment.pid && !failures.contains(id));
            of_worker.take(RELATED).map(|(_, _, id)| *id).collect()
        } else {
            Vec::new()
        };
        let id = self.id();
        self.responses.push_back(Response {
            id,
            time_ns: moment.time_ns,
            status: status.status,
            origin,
            handled_by: (status.status == 500 && !request.has_upstream).then_some("auth_request"),
            cause,
            failures,
            related,
            request_key: key,
            worker: moment.pid,
            client: request.client.clone(),
            request: request.line.clone(),
            upstream: request.peer.clone(),
            message: word.map(|word| word.message),
        });
    }

    /// Failures are told before the response that names them, also those whose own subrequest was not answered.
    fn tell(&mut self, failures: &[VerdictId]) {
        while let Some(index) = self.held.iter().position(|held| failures.contains(&held.failure.id)) {
            if let Some(held) = self.held.remove(index) {
                self.release(held, None);
            }
        }
    }

    /// The connection that nginx closed just before this error page without logging anything, and what that means.
    fn silently_closed(&self, moment: &Moment, status: &Status) -> Option<(usize, Decision)> {
        if status.request.log_level >= NGX_LOG_ERR || status.request.header_accepted == Some(true) {
            return None;
        }
        let just_before = |unspoken: &Unspoken| {
            unspoken.connection.worker == moment.pid
                && !self.reported_set.contains(&unspoken.connection.id)
                && moment.time_ns.saturating_sub(unspoken.moment.time_ns) < SILENT_NS
        };
        let index = self.unspoken.iter().rposition(just_before)?;
        let decision = rules::with_status(&self.unspoken.get(index)?.connection, status.status)?;
        Some((index, decision))
    }

    /// nginx logged nothing (its level is above `error`): the close just before the error page on the same thread is it.
    fn silent_failure(&mut self, moment: &Moment, status: &Status, (index, decision): (usize, Decision)) {
        let Some(unspoken) = self.unspoken.remove(index) else { return };
        let id = self.id();
        let Some(state) = self.requests.get_mut(moment.pid, &status.request) else { return };
        state.failed(id);
        let key = state.key;
        let failure = Failure { id, ..self.kernel_failure(&unspoken, decision, Purpose::Http, Some(key)) };
        let failure = Failure { outcome: Outcome::Final, status: Some(status.status), ..failure };
        self.emit_failure(failure, status.request.request);
    }

    fn kernel_failure(
        &mut self,
        unspoken: &Unspoken,
        decision: Decision,
        purpose: Purpose,
        request_key: Option<RequestKey>,
    ) -> Failure {
        let Unspoken { moment, connection } = unspoken;
        self.first_report(connection.id);
        let time_ns = connection.ended.map_or(moment.time_ns, |ended| ended.time_ns);
        let started_ns = (!connection.preexisting).then_some(connection.id.started_ns);
        let mut list = evidence::of_connection(connection);
        list.push(evidence::of_close(moment, connection));
        Failure {
            id: self.id(),
            time_ns,
            started_ns,
            cause: decision.cause,
            confidence: self.capped(decision.confidence, started_ns, time_ns),
            status: decision.cause.status(),
            outcome: Outcome::Unknown,
            upstream: Some(connection.remote.clone()),
            purpose,
            worker: connection.worker,
            netns: Some(connection.netns),
            request_key,
            phase: decision.phase,
            errno: decision.errno,
            connection: facts(connection, Reuse::Unknown),
            root: decision.root,
            word: None,
            evidence: list,
            disagreement: decision.disagreement,
        }
    }

    fn release(&mut self, held: Held, outcome: Option<Outcome>) {
        let Held { mut failure, request, .. } = held;
        if let Some(outcome) = outcome
            && failure.outcome == Outcome::Unknown
        {
            failure.outcome = outcome;
        }
        self.emit_failure(failure, request);
    }

    fn emit_failure(&mut self, failure: Failure, request: u64) {
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

    /// True for a connection not reported before.
    fn first_report(&mut self, id: ConnectionId) -> bool {
        if !self.reported_set.insert(id) {
            return false;
        }
        self.reported.push_back(id);
        if self.reported.len() > REPORTED
            && let Some(old) = self.reported.pop_front()
        {
            self.reported_set.remove(&old);
        }
        true
    }

    /// A loss within the attempt's window means that something may have been missed.
    fn capped(&self, confidence: Confidence, started_ns: Option<u64>, time_ns: u64) -> Confidence {
        let lossy = self
            .last_loss_ns
            .is_some_and(|loss| loss >= started_ns.unwrap_or(time_ns) && loss <= time_ns.saturating_add(HOLD_NS));
        if lossy { confidence.min(Confidence::Likely) } else { confidence }
    }

    fn worker_gone(&mut self, worker: u32, time_ns: u64) {
        self.gone.insert(worker, time_ns);
        self.stands_alone(worker);
        // Its silence counts as long as it could be heard: what it closed is judged now.
        let (of_worker, others): (VecDeque<_>, _) =
            std::mem::take(&mut self.unspoken).into_iter().partition(|unspoken| unspoken.connection.worker == worker);
        self.unspoken = others;
        for unspoken in of_worker {
            self.remains_unspoken(&unspoken);
        }
        let mut index = 0;
        while index < self.held.len() {
            if self.held[index].failure.worker == worker
                && let Some(held) = self.held.remove(index)
            {
                self.release(held, None);
            } else {
                index += 1;
            }
        }
        for response in std::mem::take(&mut self.responses) {
            self.out.push(Verdict::Response(response));
        }
        self.unbound.remove(&worker);
        self.words.retain(|(owner, _), _| *owner != worker);
        self.open_outcomes.retain(|_, (owner, _)| *owner != worker);
        self.requests.worker_gone(worker);
        self.listening.remove(&worker);
        self.sequences.remove(&worker);
    }

    fn id(&mut self) -> VerdictId {
        let id = VerdictId(self.next_id);
        self.next_id += 1;
        id
    }
}

/// Start of the attempt and time of its terminal event.
fn times(moment: &Moment, connection: Option<&Connection>, reuse: Reuse, jiffy_us: u64) -> (Option<u64>, u64) {
    let Some(connection) = connection else { return (None, moment.time_ns) };
    let time_ns = connection.ended.map_or(moment.time_ns, |ended| ended.time_ns);
    let written_ns = moment.time_ns.saturating_sub(u64::from(connection.now.since_sent_jiffies) * jiffy_us * 1000);
    let started_ns = match reuse {
        Reuse::Fresh if !connection.preexisting => connection.id.started_ns,
        _ if connection.preexisting || matches!(reuse, Reuse::Reused { .. }) => written_ns,
        _ => connection.id.started_ns,
    };
    (Some(started_ns.min(time_ns)), time_ns)
}

fn facts(connection: &Connection, reuse: Reuse) -> ConnectionFacts {
    let (sent, received) =
        connection.ended.map_or((connection.now.bytes_sent, connection.now.bytes_received), |ended| {
            (ended.bytes_sent.max(connection.now.bytes_sent), ended.bytes_received)
        });
    let (reused, idle_us) = match reuse {
        Reuse::Fresh => (Some(false), None),
        Reuse::Reused { idle_us } => (Some(true), idle_us),
        Reuse::Unknown => (None, None),
    };
    ConnectionFacts {
        local: connection.local.clone(),
        reused,
        preexisting: Some(connection.preexisting),
        requests: (reused == Some(false)).then_some(1),
        idle_us,
        bytes_sent: Some(sent),
        bytes_received: Some(received),
        syn_retransmits: (connection.established_ns.is_none() && !connection.preexisting)
            .then_some(connection.retransmits),
    }
}
