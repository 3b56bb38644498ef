//! Attempts that failed: nginx's complaint and the kernel's close of the socket, joined and decided.

use super::{Engine, HOLD_NS, STRANGE, Strange, Unspoken, Wordless, outcome::Held};
use crate::{
    diagnose::{
        evidence,
        rules::{self, Attempt, Decision, Reuse},
        word::{self, Said},
    },
    model::{
        address::Address,
        event::{Bound, Complaint, Connection, Moment, Request, ResponseRead, Subject},
        verdict::{ConnectionFacts, Failure, Outcome, Phase, Purpose, RequestKey, Word},
    },
};

impl Engine {
    pub(super) fn complaint(&mut self, moment: Moment, mut complaint: Complaint) {
        let Subject::Http(request) = &complaint.subject else {
            // The close that follows on this thread is about it, and is not HTTP's.
            self.stands_alone(moment.pid);
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
            self.decide(&moment, &complaint, None);
        }
    }

    /// Both witnesses of a failed attempt are here.
    pub(super) fn decide(&mut self, moment: &Moment, complaint: &Complaint, connection: Option<&Connection>) {
        let Subject::Http(request) = &complaint.subject else { return };
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
                host: request.host.clone(),
            }),
            evidence,
            disagreement: decision.disagreement,
            configured: request.configured.clone(),
        };
        self.held.push_back(Held {
            failure,
            request: request.request,
            main: request.main,
            place: request.place(moment.pid),
            page_expected: !after_header && !request.cacheable && self.paging.contains(&moment.pid),
            went_on: false,
            ended_ns: None,
            attempt: request.attempts,
            connection: connection.map(|connection| connection.id),
            deadline_ns: moment.time_ns + HOLD_NS,
        });
    }

    pub(super) fn closed(&mut self, moment: Moment, connection: Connection, response: ResponseRead) {
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
    pub(super) fn remains_unspoken(&mut self, unspoken: &Unspoken) {
        if self.reported_set.contains(&unspoken.connection.id) {
            return;
        }
        let listening = self.listening.contains(&unspoken.connection.worker);
        if let Some(decision) = rules::unspoken(&unspoken.connection, listening) {
            let failure = self.kernel_failure(unspoken, decision, Purpose::Unknown, None);
            self.emit_failure(failure, 0);
        }
    }

    pub(super) fn kernel_failure(
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
            configured: None,
        }
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
        connected_ns: (!connection.preexisting).then_some(connection.id.started_ns),
        queue_full: connection.queue_full,
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
