//! nginx makes an error page: the end of an attempt, and the response to the client.

use super::{Engine, NGX_LOG_ERR, SILENT_NS, Silent, Unspoken, led_here::LedHere, response::HeldResponse};
use crate::{
    diagnose::{
        request::After,
        rules::{self, Decision},
    },
    model::{
        cause::Cause,
        event::{Moment, Status},
        verdict::{Failure, Handler, Origin, Outcome, Purpose, Response},
    },
};

impl Engine {
    pub(super) fn status(&mut self, moment: Moment, status: &Status) {
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
        if request.answered {
            // Its response was counted: this is another page of the same request.
            self.tell(&failures);
            return;
        }
        let word = self.words.remove(&(moment.pid, request.main)).filter(|word| word.key == key);
        let strange = self.strange.remove(&(moment.pid, request.main)).filter(|word| word.start_ms == request.start_ms);
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
            let last = failures.last().filter(|_| news && !superseded).and_then(|id| self.causes.get(id).copied());
            if let Some(held) = self.responses.iter_mut().find(|held| held.response.request_key == key) {
                let response = &mut held.response;
                response.handled_by =
                    response.handled_by.or((failures != response.failures).then_some(Handler::Fallback));
                response.failures = failures;
                if let Some(cause) = word.map(|word| word.cause).or(last) {
                    // What stood in for another's answer is nginx's own.
                    if response.origin != Origin::Nginx {
                        (response.origin, response.status) = (Origin::Nginx, status.status);
                    }
                    response.cause = cause;
                }
                held.settled_ns = None;
                held.attempts = request.attempts;
                held.location_conf = request.location_conf;
                held.uri = request.uri;
            }
            return;
        }
        let last = failures.last().filter(|_| !superseded).and_then(|id| self.causes.get(id).copied());
        let (origin, cause) = match (&word, last) {
            (Some(word), _) => (Origin::Nginx, word.cause),
            _ if request.header_accepted == Some(true) && request.upstream_status == Some(status.status) => {
                (Origin::Upstream, Cause::UpstreamStatus)
            }
            // It answered something else, and led to what the configuration has for that.
            _ if request.header_accepted == Some(true) => (Origin::Config, Cause::ConfiguredStatus),
            (None, Some(cause)) if news => (Origin::Nginx, cause),
            _ if request.cacheable && request.attempts.is_none() && request.log_level >= NGX_LOG_ERR => {
                (Origin::Cache, Cause::ConfiguredStatus)
            }
            _ if !request.has_upstream => (Origin::Config, Cause::ConfiguredStatus),
            _ => (Origin::Nginx, Cause::Unexplained),
        };
        let LedHere { related, last_failed } = match cause {
            Cause::NoLiveUpstreams => self.led_here(&moment, request, &failures),
            _ => LedHere::default(),
        };
        let id = self.id();
        let response = Response {
            id,
            time_ns: moment.time_ns,
            status: status.status,
            client_status: None,
            origin,
            handled_by: (status.status == 500 && !request.has_upstream).then_some(Handler::AuthRequest),
            cause,
            failures,
            counted: request.counted,
            related,
            last_failed,
            request_key: key,
            worker: moment.pid,
            client: request.client.clone(),
            request: request.line.clone(),
            upstream: request.peer.clone(),
            message: word
                .map(|word| word.message)
                .or(strange.filter(|_| cause == Cause::Unexplained).map(|word| word.message)),
            host: request.host.clone(),
            configured: request.configured.clone(),
        };
        self.hold(HeldResponse {
            response,
            place: request.place(moment.pid),
            attempts: request.attempts,
            location_conf: request.location_conf,
            uri: request.uri,
            unfinished: false,
            settled_ns: None,
            ask_again_ns: 0,
        });
    }

    /// The connection that nginx closed just before this error page without logging anything, and what that means.
    pub(super) fn silently_closed(&self, moment: &Moment, status: &Status) -> Option<(usize, Decision)> {
        if status.request.log_level >= NGX_LOG_ERR || status.request.header_accepted == Some(true) {
            return None;
        }
        let just_before = |unspoken: &Unspoken| {
            unspoken.worker() == moment.pid
                && unspoken.connection_id().is_none_or(|id| !self.reported_set.contains(&id))
                && moment.time_ns.saturating_sub(unspoken.moment.time_ns) < SILENT_NS
        };
        let index = self.unspoken.iter().rposition(just_before)?;
        let decision = match &self.unspoken.get(index)?.what {
            Silent::Closed(connection) => rules::with_status(connection, status.status),
            Silent::Refused(refusal) => rules::refused_with_status(refusal, status.status),
            Silent::UnixClosed(unix) => rules::unix_with_status(unix, status.status),
        }?;
        Some((index, decision))
    }

    /// nginx logged nothing (its level is above `error`): the close just before the error page on the same thread is it.
    pub(super) fn silent_failure(&mut self, moment: &Moment, status: &Status, (index, decision): (usize, Decision)) {
        let Some(unspoken) = self.unspoken.remove(index) else { return };
        let id = self.id();
        let Some(state) = self.requests.get_mut(moment.pid, &status.request) else { return };
        state.failed(id);
        let key = state.key;
        let failure = Failure { id, ..self.kernel_failure(&unspoken, decision, Purpose::Http, Some(key)) };
        let failure = Failure { outcome: Outcome::Final, status: Some(status.status), ..failure };
        self.emit_failure(failure, status.request.request);
    }
}
