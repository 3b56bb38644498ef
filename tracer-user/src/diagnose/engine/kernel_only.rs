//! What the kernel saw fail, and nginx has said nothing about: held until it does, or makes an error page, or will not.

use std::collections::VecDeque;

use super::{
    COMPLAINT_NS, Engine, HOLD_NS, Silent, UNHEARD_NS, Unspoken,
    attempt::{facts, unix_facts},
};
use crate::{
    diagnose::{
        evidence,
        rules::{self, Decision, Reuse},
    },
    model::{
        event::{Connection, Moment, ResponseRead},
        unix::{Refusal, UnixConnection},
        verdict::{ConnectionFacts, Failure, Outcome, Purpose, RequestKey},
    },
};

impl Engine {
    pub(super) fn closed(&mut self, moment: Moment, connection: Connection, response: ResponseRead) {
        if self.gone.contains_key(&moment.pid) {
            return;
        }
        if self.reported_set.contains(&connection.id) {
            self.body_ended(&connection, response);
            return;
        }
        if self.refusal_of(&connection) {
            // connect(2) had failed: that is told.
            self.first_report(connection.id);
            return;
        }
        if let Some((_, complaint)) = self.unbound.remove(&moment.pid) {
            match complaint {
                Some(complaint) => {
                    self.decide(&moment, &complaint, super::Seen::Tcp(&connection));
                    self.body_ended(&connection, response);
                }
                None => {
                    self.others += 1;
                    self.first_report(connection.id);
                }
            }
            return;
        }
        self.unspoken.push_back(Unspoken { moment, what: Silent::Closed(connection) });
    }

    /// nginx complains right after the call, on the same thread.
    pub(super) fn refused(&mut self, moment: Moment, refusal: Refusal) {
        self.stands_alone(moment.pid);
        self.unspoken.push_back(Unspoken { moment, what: Silent::Refused(refusal) });
    }

    pub(super) fn unix_closed(&mut self, moment: Moment, unix: UnixConnection) {
        let told = self.held.iter().any(|held| held.unix == Some(unix.sk) && held.failure.worker == moment.pid);
        if !told && !self.gone.contains_key(&moment.pid) {
            self.unspoken.push_back(Unspoken { moment, what: Silent::UnixClosed(unix) });
        }
    }

    /// Those about which nginx will not say anything any more; the ring has been drained up to `now_ns`.
    pub(super) fn release_unspoken(&mut self, now_ns: u64) {
        let unspoken = std::mem::take(&mut self.unspoken);
        let patience = |unspoken: &Unspoken| {
            let worker = unspoken.worker();
            let is_refusal = matches!(unspoken.what, Silent::Refused(_));
            match (self.is_heard(worker), self.paging.contains(&worker)) {
                (true, _) if is_refusal => COMPLAINT_NS,
                (false, false) if is_refusal => UNHEARD_NS,
                (false, false) => 0,
                _ => HOLD_NS,
            }
        };
        let due = |unspoken: &Unspoken| unspoken.moment.time_ns.saturating_add(patience(unspoken)) <= now_ns;
        let (due, rest): (VecDeque<_>, _) = unspoken.into_iter().partition(due);
        self.unspoken = rest;
        for unspoken in due {
            self.remains_unspoken(&unspoken);
        }
    }

    /// Its complaints come, by the hook or out of its log.
    fn is_heard(&self, worker: u32) -> bool {
        self.listening.contains(&worker) || self.reading.contains(&worker)
    }

    /// The refused call that this worker complains about.
    pub(super) fn take_refusal(&mut self, moment: &Moment, errno: i32) -> Option<(Moment, Refusal)> {
        let index = self.unspoken.iter().rposition(|unspoken| {
            unspoken.worker() == moment.pid
                && moment.time_ns.saturating_sub(unspoken.moment.time_ns) < COMPLAINT_NS
                && matches!(&unspoken.what, Silent::Refused(refusal) if refusal.errno == errno)
        })?;
        match self.unspoken.remove(index)? {
            Unspoken { moment, what: Silent::Refused(refusal) } => Some((moment, refusal)),
            _ => None,
        }
    }

    /// nginx closes the socket right after the call.
    fn refusal_of(&self, connection: &Connection) -> bool {
        const LATEST: usize = 16;
        self.unspoken
            .iter()
            .rev()
            .take(LATEST)
            .any(|unspoken| matches!(&unspoken.what, Silent::Refused(refusal) if refusal.sk == Some(connection.id.sk)))
    }

    /// nginx did not say a word about it, nor make an error page.
    pub(super) fn remains_unspoken(&mut self, unspoken: &Unspoken) {
        if unspoken.connection_id().is_some_and(|id| self.reported_set.contains(&id)) {
            return;
        }
        let listening = self.listening.contains(&unspoken.worker());
        let decision = match &unspoken.what {
            Silent::Closed(connection) => rules::unspoken(connection, listening),
            Silent::Refused(refusal) => rules::refused(refusal, self.is_heard(refusal.worker)),
            Silent::UnixClosed(_) => None,
        };
        if let Some(decision) = decision {
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
        let Unspoken { moment, what } = unspoken;
        if let Some(id) = unspoken.connection_id() {
            self.first_report(id);
        }
        let mut evidence = Vec::new();
        let (mut time_ns, mut started_ns, mut connection) = (moment.time_ns, None, ConnectionFacts::default());
        let (upstream, netns) = match what {
            Silent::Closed(closed) => {
                time_ns = closed.ended.map_or(moment.time_ns, |ended| ended.time_ns);
                started_ns = (!closed.preexisting).then_some(closed.id.started_ns);
                connection = facts(closed, Reuse::Unknown);
                evidence = evidence::of_connection(closed);
                evidence.push(evidence::of_close(moment, closed));
                (Some(closed.remote.clone()), Some(closed.netns))
            }
            Silent::Refused(refusal) => {
                evidence.push(evidence::of_refusal(moment, refusal));
                (refusal.remote.clone(), refusal.netns)
            }
            Silent::UnixClosed(unix) => {
                time_ns = unix.closing().map_or(moment.time_ns, |closing| closing.time_ns);
                started_ns = unix.connected_ns();
                connection = unix_facts(unix, Reuse::Unknown);
                evidence = evidence::of_unix(moment, unix);
                (unix.remote.clone(), Some(unix.netns))
            }
        };
        Failure {
            id: self.id(),
            time_ns,
            started_ns,
            cause: decision.cause,
            confidence: self.capped(decision.confidence, started_ns, time_ns),
            status: decision.cause.status(),
            outcome: Outcome::Unknown,
            upstream,
            purpose,
            worker: unspoken.worker(),
            netns,
            request_key,
            phase: decision.phase,
            errno: decision.errno,
            connection,
            root: decision.root,
            word: None,
            evidence,
            disagreement: decision.disagreement,
            configured: None,
        }
    }
}
