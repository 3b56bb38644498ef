//! The engine: joins attempt, word and status of one worker, by socket, by request, and by the order of its thread.
//!
//! A failed attempt is decided at nginx's complaint (or, where nginx stays silent, at the close of its socket) and held
//! for [`HOLD_NS`], in which its outcome shows on the same thread: an error page is `final`, a connect for the same
//! request `retried`.

mod attempt;
mod kernel_only;
mod led_here;
mod outcome;
mod page;
mod response;

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use self::{attempt::Seen, led_here::Answers, outcome::Held, response::HeldResponse};
use super::request::Requests;
use crate::model::{
    address::Address,
    cause::Cause,
    configured::Configured,
    event::{Complaint, Connection, ConnectionId, Event, Happening, Moment, RequestNow, RequestPlace},
    unix::{Refusal, UnixConnection},
    verdict::{Confidence, Outcome, RequestKey, Verdict, VerdictId},
};

/// How long a decided failure waits for its outcome. nginx goes on synchronously: microseconds would do.
pub const HOLD_NS: u64 = 20_000_000;
/// A socket closed this long after a complaint that could not be bound to one is not what it was about.
const UNBOUND_NS: u64 = 50_000_000;
/// nginx closes the socket and makes the error page in one go. Longer ago, something else may have been closed since.
const SILENT_NS: u64 = HOLD_NS;
/// nginx complains about a call that failed in the next microseconds, unless its worker has to wait for a processor; no other
/// event of that thread can come in between.
const COMPLAINT_NS: u64 = 500_000_000;
/// Of a worker that cannot be heard no word is waited for: only for the close that follows a call that failed.
const UNHEARD_NS: u64 = 10_000_000;
/// NGX_LOG_ERR: below it nginx logs no failed attempt.
const NGX_LOG_ERR: u32 = 4;
/// How often old requests are forgotten.
const TIDY_NS: u64 = 30_000_000_000;
/// Connections reported lately, so that their close is not reported again.
const REPORTED: usize = 4096;
/// Requests about which nginx said something strange, at most.
const STRANGE: usize = 4096;
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
    /// Decided responses, held until their request has ended: what handles the error may fail, and then has a say too.
    responses: VecDeque<HeldResponse>,
    /// Closed without a word, waiting for nginx's status.
    unspoken: VecDeque<Unspoken>,
    /// Complaints about a socket that could not be told: the worker's next close is it.
    unbound: HashMap<u32, (Moment, Option<Complaint>)>,
    /// Last word that explains a response without an attempt, by worker and main request.
    words: HashMap<(u32, u64), Wordless>,
    /// Last complaint of nginx that was not understood, by worker and main request.
    strange: HashMap<(u32, u64), Strange>,
    reported: VecDeque<ConnectionId>,
    reported_set: HashSet<ConnectionId>,
    /// Emitted failures whose outcome is unknown: worker and request.
    open_outcomes: BTreeMap<VerdictId, (u32, u64)>,
    causes: HashMap<VerdictId, Cause>,
    /// Emitted failures, for `related` of `no_live_upstreams`.
    recent: VecDeque<Recent>,
    led_here: Answers,
    /// Workers whose complaints are visible: their silence counts.
    listening: HashSet<u32>,
    /// Workers whose error pages are visible.
    paging: HashSet<u32>,
    /// Workers whose log's lines are their word.
    reading: HashSet<u32>,
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

/// What of a worker's words is heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Visible {
    pub complaints: bool,
    pub pages: bool,
    /// Complaints come out of its log instead, later.
    pub lines: bool,
}

/// Something that a request's memory can tell and no hook does: an attempt over a cached connection or a unix socket, and
/// what the client got in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    about: About,
    pub place: RequestPlace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Attempt(VerdictId),
    Response(VerdictId),
}

/// A failure emitted lately.
#[derive(Debug)]
struct Recent {
    worker: u32,
    failure: VerdictId,
    time_ns: u64,
    upstream: Option<Address>,
    configured: Option<Arc<Configured>>,
}

/// Something failed, or ended in a way that is not plainly healthy, and nginx has said nothing about it yet.
#[derive(Debug)]
struct Unspoken {
    moment: Moment,
    what: Silent,
}

#[derive(Debug)]
enum Silent {
    Closed(Connection),
    Refused(Refusal),
    UnixClosed(UnixConnection),
}

impl Unspoken {
    const fn worker(&self) -> u32 {
        match &self.what {
            Silent::Closed(connection) => connection.worker,
            Silent::Refused(refusal) => refusal.worker,
            Silent::UnixClosed(unix) => unix.worker,
        }
    }

    /// Of a TCP connection.
    const fn connection_id(&self) -> Option<ConnectionId> {
        match &self.what {
            Silent::Closed(connection) => Some(connection.id),
            _ => None,
        }
    }
}

/// A complaint that is not understood.
#[derive(Debug)]
struct Strange {
    /// Which request at this address.
    start_ms: Option<u64>,
    time_ns: u64,
    message: String,
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
            strange: HashMap::new(),
            reported: VecDeque::new(),
            reported_set: HashSet::new(),
            open_outcomes: BTreeMap::new(),
            causes: HashMap::new(),
            recent: VecDeque::new(),
            led_here: Answers::new(),
            listening: HashSet::new(),
            paging: HashSet::new(),
            reading: HashSet::new(),
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

    /// What of this worker's words is visible from now on.
    pub fn listens(&mut self, worker: u32, Visible { complaints, pages, lines }: Visible) {
        let sets = [(&mut self.listening, complaints), (&mut self.paging, pages), (&mut self.reading, lines)];
        for (set, visible) in sets {
            if visible {
                set.insert(worker);
            } else {
                set.remove(&worker);
            }
        }
    }

    /// What is to be looked up in nginx's memory now.
    pub fn questions(&self, now_ns: u64) -> Vec<Question> {
        let open = |held: &&Held| held.failure.outcome == Outcome::Unknown && !held.went_on && held.ended_ns.is_none();
        let of_attempt = |held: &Held| Some(Question { about: About::Attempt(held.failure.id), place: held.place? });
        let attempts = self.held.iter().filter(open).filter_map(of_attempt);
        attempts.chain(self.responses.iter().filter_map(|held| held.question(now_ns))).collect()
    }

    /// The answer to a question, as found at `asked_ns`.
    pub fn answer(&mut self, question: &Question, asked_ns: u64, now: RequestNow) {
        match question.about {
            About::Attempt(failure) => self.attempt_answer(failure, asked_ns, now),
            About::Response(response) => self.response_answer(response, asked_ns, now),
        }
    }

    /// The last complaint of this worker has no socket that is still to be closed.
    pub fn without_socket(&mut self, worker: u32) {
        self.stands_alone(worker);
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
            Happening::Refused(refusal) => self.refused(moment, refusal),
            Happening::UnixClosed(unix) => self.unix_closed(moment, unix),
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
                self.decide(&moment, &complaint, Seen::Nothing);
            }
        }
        self.release_due(now_ns);
        self.release_responses(now_ns);
        self.release_unspoken(now_ns);
        if now_ns.saturating_sub(self.tidied_ns) > TIDY_NS {
            self.tidied_ns = now_ns;
            self.words.retain(|_, word| now_ns.saturating_sub(word.time_ns) < TIDY_NS);
            self.strange.retain(|_, word| now_ns.saturating_sub(word.time_ns) < TIDY_NS);
            self.gone.retain(|_, time_ns| now_ns.saturating_sub(*time_ns) < TIDY_NS);
            self.requests.forget(now_ns);
        }
    }

    /// The session ends: nothing waits any longer.
    pub fn finish(&mut self) {
        self.tick(u64::MAX);
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
        let lossy = self.lossy(started_ns.unwrap_or(time_ns), time_ns.saturating_add(HOLD_NS));
        if lossy { confidence.min(Confidence::Likely) } else { confidence }
    }

    /// Were events lost in this time?
    fn lossy(&self, from_ns: u64, to_ns: u64) -> bool {
        self.last_loss_ns.is_some_and(|loss| loss >= from_ns && loss <= to_ns)
    }

    fn worker_gone(&mut self, worker: u32, time_ns: u64) {
        self.gone.insert(worker, time_ns);
        self.stands_alone(worker);
        // Its silence counts as long as it could be heard: what it closed is judged now.
        let (of_worker, others): (VecDeque<_>, _) =
            std::mem::take(&mut self.unspoken).into_iter().partition(|unspoken| unspoken.worker() == worker);
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
        self.release_responses_of(worker);
        self.unbound.remove(&worker);
        self.words.retain(|(owner, _), _| *owner != worker);
        self.strange.retain(|(owner, _), _| *owner != worker);
        self.open_outcomes.retain(|_, (owner, _)| *owner != worker);
        self.requests.worker_gone(worker);
        self.listening.remove(&worker);
        self.paging.remove(&worker);
        self.reading.remove(&worker);
        self.sequences.remove(&worker);
    }

    fn id(&mut self) -> VerdictId {
        let id = VerdictId(self.next_id);
        self.next_id += 1;
        id
    }
}
