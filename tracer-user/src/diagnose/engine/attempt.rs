//! Attempts that failed: nginx's complaint and the kernel's close of the socket, joined and decided.

use super::{Engine, HOLD_NS, STRANGE, Strange, Wordless, outcome::Held};
use crate::{
    diagnose::{
        evidence,
        rules::{self, Attempt, Reuse},
        word::{self, Said},
    },
    model::{
        address::Address,
        event::{Bound, Complaint, Connection, Moment, Request, Subject},
        unix::{Refusal, UnixConnection},
        verdict::{ConnectionFacts, Failure, Outcome, Phase, Purpose, ResetBy, Word},
    },
};

/// What the kernel saw of the attempt that nginx complains about; a unix socket comes with the complaint.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seen<'a> {
    Nothing,
    Tcp(&'a Connection),
    /// The call that failed, just before.
    Refused(&'a Moment, &'a Refusal),
}

impl<'a> Seen<'a> {
    const fn connection(self) -> Option<&'a Connection> {
        match self {
            Self::Tcp(connection) => Some(connection),
            Self::Nothing | Self::Refused(..) => None,
        }
    }
}

impl Engine {
    pub(super) fn complaint(&mut self, moment: Moment, mut complaint: Complaint) {
        let Subject::Http(request) = &complaint.subject else {
            self.stands_alone(moment.pid);
            if self.take_refusal(&moment, complaint.errno).is_some() {
                self.others += 1;
                return;
            }
            // The close that follows on this thread is about it, and is not HTTP's.
            self.unbound.insert(moment.pid, (moment, None));
            return;
        };
        let Some(said) = word::said(&complaint) else {
            if word::is_unknown(&complaint) {
                self.unknown_word(&moment, request, &complaint);
            }
            return;
        };
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
        let refusal = if at_once { self.take_refusal(&moment, complaint.errno) } else { None };
        let upstream_known = request.peer.as_deref().is_some_and(|peer| peer.starts_with("unix:"));
        match std::mem::replace(&mut complaint.bound, Bound::None) {
            Bound::Tcp(connection) => self.decide(&moment, &complaint, Seen::Tcp(&connection)),
            bound => {
                let no_more_to_come = at_once || upstream_known || matches!(bound, Bound::Unix(_));
                complaint.bound = bound;
                match &refusal {
                    Some((called, refusal)) => self.decide(&moment, &complaint, Seen::Refused(called, refusal)),
                    None if no_more_to_come => self.decide(&moment, &complaint, Seen::Nothing),
                    None => {
                        self.unbound.insert(moment.pid, (moment, Some(complaint)));
                    }
                }
            }
        }
    }

    /// nginx explained a response, or part of one, without trying a connection.
    pub(super) fn no_attempt(&mut self, moment: &Moment, said: Said, complaint: &Complaint) {
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

    /// nginx said something that is not understood: told with the response, if nothing better comes.
    fn unknown_word(&mut self, moment: &Moment, request: &Request, complaint: &Complaint) {
        if self.strange.len() < STRANGE {
            let message = word::message(complaint);
            let word = Strange { start_ms: request.start_ms, time_ns: moment.time_ns, message };
            self.strange.insert((moment.pid, request.main), word);
        }
    }

    /// nginx has complained about this attempt before: more of the same.
    fn complained_before(&self, worker: u32, request: &Request, connection: Option<&Connection>) -> bool {
        request.attempts.is_some()
            && request.start_ms.is_some()
            && self.held.iter().any(|held| {
                held.failure.worker == worker
                    && held.request == request.request
                    && held.attempt == request.attempts
                    && held.place == request.place(worker)
                    && held.connection.zip(connection).is_none_or(|(held, other)| held == other.id)
            })
    }

    /// The thread went on: the complaint whose socket could not be told has none that is still to be closed.
    pub(super) fn stands_alone(&mut self, worker: u32) {
        if self.unbound.get(&worker).is_some_and(|(_, complaint)| complaint.is_some())
            && let Some((moment, Some(complaint))) = self.unbound.remove(&worker)
        {
            self.decide(&moment, &complaint, Seen::Nothing);
        }
    }

    /// Both witnesses of a failed attempt are here.
    pub(super) fn decide(&mut self, moment: &Moment, complaint: &Complaint, seen: Seen<'_>) {
        let Subject::Http(request) = &complaint.subject else { return };
        let connection = seen.connection();
        let Some(said) = word::said(complaint) else { return };
        let attempt = Attempt { complaint, connection, jiffy_us: self.facts.jiffy_us };
        let Some(decision) = rules::decide(said, &attempt) else { return };
        if self.complained_before(moment.pid, request, connection)
            || connection.is_some_and(|connection| !self.first_report(connection.id))
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
        let unix = attempt.unix_connection();
        let (started_ns, time_ns) = match (connection, seen, unix) {
            (Some(connection), ..) => times(moment, connection, reuse, self.facts.jiffy_us),
            (None, Seen::Refused(called, _), _) => (Some(called.time_ns), called.time_ns),
            (None, _, Some(unix)) => unix_times(moment, unix, reuse),
            (None, ..) => (None, moment.time_ns),
        };
        // The client has its status already.
        let after_header = decision.phase == Phase::Body;
        let mut evidence = match (seen, unix) {
            (Seen::Tcp(connection), _) => evidence::of_connection(connection),
            (Seen::Refused(called, refusal), _) => vec![evidence::of_refusal(called, refusal)],
            (Seen::Nothing, Some(unix)) => evidence::of_unix(moment, unix),
            (Seen::Nothing, None) => Vec::new(),
        };
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
            netns: match (seen, unix) {
                (Seen::Tcp(connection), _) => Some(connection.netns),
                (Seen::Refused(_, refusal), _) => refusal.netns,
                (Seen::Nothing, unix) => unix.map(|unix| unix.netns),
            },
            request_key: Some(key),
            phase: decision.phase,
            errno: decision.errno,
            connection: match (connection, unix) {
                (Some(connection), _) => facts(connection, reuse),
                (None, Some(unix)) => unix_facts(unix, reuse),
                (None, None) => ConnectionFacts::default(),
            },
            root: decision.root,
            word: Some(Word {
                level: complaint.level,
                connection: request.connection,
                message: word::message(complaint),
                client: request.client.clone(),
                request: request.line.clone(),
                host: request.host.clone(),
            }),
            evidence,
            disagreement: decision.disagreement,
            configured: request.configured.clone(),
        };
        // A module that made the subrequest may swallow its page; an HTTP/2 or HTTP/3 client may be gone, and nginx ends the request
        // without one.
        let line = request.line.as_deref().unwrap_or_default();
        let alone = request.request == request.main && !line.ends_with(" HTTP/2.0") && !line.ends_with(" HTTP/3.0");
        self.held.push_back(Held {
            failure,
            request: request.request,
            main: request.main,
            place: request.place(moment.pid),
            page_expected: alone && !after_header && !request.cacheable && self.paging.contains(&moment.pid),
            doubtful: said == Said::Closed(Phase::Header) && word::may_follow_an_answer(complaint),
            answered: false,
            went_on: false,
            ended_ns: None,
            attempt: request.attempts,
            connection: connection.map(|connection| connection.id),
            unix: unix.map(|unix| unix.sk),
            deadline_ns: moment.time_ns + HOLD_NS,
        });
    }
}

/// Start of the attempt and time of its terminal event.
fn times(moment: &Moment, connection: &Connection, reuse: Reuse, jiffy_us: u64) -> (Option<u64>, u64) {
    let time_ns = connection.ended.map_or(moment.time_ns, |ended| ended.time_ns);
    let written_ns = moment.time_ns.saturating_sub(u64::from(connection.now.since_sent_jiffies) * jiffy_us * 1000);
    let started_ns = match reuse {
        Reuse::Fresh if !connection.preexisting => connection.id.started_ns,
        _ if connection.preexisting || matches!(reuse, Reuse::Reused { .. }) => written_ns,
        _ => connection.id.started_ns,
    };
    (Some(started_ns.min(time_ns)), time_ns)
}

/// The same of a unix connection: of a reused one nobody sees when its request was written.
fn unix_times(moment: &Moment, unix: &UnixConnection, reuse: Reuse) -> (Option<u64>, u64) {
    let time_ns = unix.closing().map_or(moment.time_ns, |closing| closing.time_ns);
    let started_ns = unix.connected_ns().filter(|_| reuse == Reuse::Fresh);
    (started_ns, started_ns.map_or(time_ns, |started_ns| time_ns.max(started_ns)))
}

pub(super) fn unix_facts(unix: &UnixConnection, reuse: Reuse) -> ConnectionFacts {
    let reused = match reuse {
        Reuse::Fresh => Some(false),
        Reuse::Reused { .. } => Some(true),
        Reuse::Unknown => None,
    };
    ConnectionFacts {
        connected_ns: unix.connected_ns(),
        closing: unix.closing().cloned(),
        other_end: unix.other_end.clone(),
        reused,
        requests: (reused == Some(false)).then_some(1),
        ..ConnectionFacts::default()
    }
}

pub(super) fn facts(connection: &Connection, reuse: Reuse) -> ConnectionFacts {
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
        connected_ns: (!connection.preexisting).then_some(connection.id.started_ns),
        queue_full: connection.queue_full,
        reset: connection.reset.as_ref().map(|reset| match reset.sender {
            Some(_) => ResetBy::ThisHost,
            None => ResetBy::Unseen,
        }),
        closing: None,
        other_end: None,
        local: connection.local.clone(),
        reused,
        preexisting: Some(connection.preexisting),
        requests: (reused == Some(false)).then_some(1),
        idle_us,
        bytes_sent: Some(sent),
        bytes_received: Some(received),
        syn_retransmits: (connection.established_ns.is_none() && !connection.preexisting)
            .then_some(connection.retransmits),
        last_retransmit_ns: connection.last_retransmit_ns,
        all_acknowledged: connection.now.all_acknowledged,
        established_ns: connection.established_ns,
        ended_ns: connection
            .fin_ns
            .filter(|_| connection.reset.is_none())
            .or(connection.ended.map(|ended| ended.time_ns)),
        min_rtt_us: connection.now.min_rtt_us,
    }
}
