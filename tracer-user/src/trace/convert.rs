//! Verdicts as records: numbers become times and names, the worker gets its facts.

use std::borrow::Cow;

use tracer_common::listener::Overflowed;

use crate::{
    context::{
        owners::Live,
        process::{ProcessFacts, Processes, Role},
    },
    diagnose::evidence::errno_name,
    explain,
    model::{
        address::Address,
        configured::Configured,
        host::{HostEvent, Place},
        observation, verdict,
    },
    nginx::{
        config::{self, Advisor, Question},
        log::told::Told,
    },
    record,
};

use super::{comeback, host::Host, roots};

/// Wall clock and processes: what verdicts lack to be records.
pub(super) struct Converter {
    /// Wall clock minus monotonic clock, re-sampled regularly.
    pub(super) wall_offset_ns: i128,
    pub(super) processes: Processes,
    pub(super) host: Host,
    pub(super) advisor: Advisor,
}

impl Converter {
    pub(super) fn time(&self, monotonic_ns: u64) -> record::Timestamp {
        record::Timestamp::from_unix_ns(i128::from(monotonic_ns) + self.wall_offset_ns)
    }

    pub(super) fn failure(&mut self, mut failure: verdict::Failure) -> record::Failure {
        let configured = failure.configured.take();
        let configured = configured.as_deref();
        let mut reason = failure.root.clone().map(root);
        let found = roots::find(&failure, &mut self.host);
        let general = explain::hint(failure.cause);
        let particular = found.as_ref().and_then(|found| found.hint.as_deref());
        // What nginx is told to do is worth knowing where it waits, not where somebody died.
        let waited = found.as_ref().is_some_and(|found| found.root.is_wait());
        let question = Question::of_failure(&failure, configured, particular.filter(|_| waited).unwrap_or(general));
        let advice = self.advisor.advise(failure.worker, &question);
        let advised = advice.hint.map_or(Cow::Borrowed(general), Cow::Owned);
        let mut hint = match particular.filter(|_| !waited) {
            Some(particular) => Cow::Owned(particular.to_owned()),
            None => advised,
        };
        if let Some(found) = found {
            if let Some(unit) = roots::unit(&found.root, &mut self.host) {
                hint = Cow::Owned(format!("{hint}; {}, {}", unit.status(), unit.log()));
            }
            reason = Some(found.root);
            failure.evidence.extend(found.evidence);
            failure.evidence.sort_by_key(|fact| fact.time_ns);
        }
        let start = failure.started_ns.unwrap_or(failure.time_ns);
        record::Failure {
            id: failure.id.0,
            time: self.time(failure.time_ns),
            started: failure.started_ns.map(|start| self.time(start)),
            cause: failure.cause,
            confidence: match failure.confidence {
                verdict::Confidence::Proven => record::Confidence::Proven,
                verdict::Confidence::Likely => record::Confidence::Likely,
                verdict::Confidence::Unknown => record::Confidence::Unknown,
            },
            status: failure.status,
            outcome: outcome(failure.outcome),
            upstream: failure.upstream.map(|address| upstream(&address)),
            purpose: match failure.purpose {
                verdict::Purpose::Http => record::Purpose::Http,
                verdict::Purpose::Unknown => record::Purpose::Unknown,
            },
            worker: self.worker(failure.worker, failure.netns),
            request_key: failure.request_key.map(key),
            phase: Some(match failure.phase {
                verdict::Phase::Connect => record::Phase::Connect,
                verdict::Phase::Tls => record::Phase::Tls,
                verdict::Phase::Send => record::Phase::Send,
                verdict::Phase::Header => record::Phase::Header,
                verdict::Phase::Body => record::Phase::Body,
            }),
            errno: failure.errno.map(|number| Cow::Owned(errno_name(number))),
            elapsed_us: failure.started_ns.map(|start| failure.time_ns.saturating_sub(start) / 1000),
            connection: Some(connection(failure.connection)),
            root: reason,
            nginx: failure.word.map(|said| word(said, configured)),
            evidence: failure
                .evidence
                .into_iter()
                .map(|fact| record::Evidence {
                    at_us: (i64::try_from(fact.time_ns).unwrap_or(i64::MAX) - i64::try_from(start).unwrap_or(i64::MAX))
                        / 1000,
                    source: Cow::Borrowed(fact.source),
                    text: Cow::Owned(fact.text),
                })
                .collect(),
            disagreement: failure.disagreement,
            hint: Some(hint),
            configuration: advice.settings.into_iter().map(setting).collect(),
        }
    }

    /// Begins to look who listens on the unix sockets of the configurations, if it is time for that.
    pub(super) fn survey(&mut self) {
        let Self { host, advisor, .. } = self;
        host.sockets.survey(|| advisor.sockets());
    }

    /// A process that served upstreams ended.
    pub(super) fn exit(&self, event: &HostEvent, upstreams: Vec<String>) -> record::Exit {
        let record::ProcessFate { pid, comm, code, signal, oom } = roots::fate(event, &self.host);
        record::Exit { time: self.time(event.time_ns), pid, comm, code, signal, oom, upstreams }
    }

    /// Connections were dropped at a listener; of each of its queues that was full.
    pub(super) fn overflows(&self, place: Place, seen: &Overflowed) -> impl Iterator<Item = record::Overflow> {
        let owner = self.host.owners.live(place).and_then(Live::owner);
        let of = |queue, seen_to_drop: u64, exact: bool, queued, limit| {
            (seen_to_drop > 0).then(|| record::Overflow {
                time: self.time(seen.last_ns),
                address: place.address.to_string(),
                queue,
                limit: Some(limit),
                queued: Some(queued),
                count: exact.then_some(seen_to_drop),
                owner: owner.map(record::Owner::from),
            })
        };
        let accept = of(record::Queue::Accept, seen.accept, self.host.overflows.exact, seen.queued, seen.limit);
        let syn = of(record::Queue::Syn, seen.syn, false, seen.half_open, seen.half_open_limit);
        accept.into_iter().chain(syn)
    }

    /// As `failure`; only a response that its last failure did not decide has advice of its own.
    pub(super) fn response(&mut self, mut response: verdict::Response) -> record::Response {
        let configured = response.configured.take();
        let configured = configured.as_deref();
        let general = explain::hint(response.cause);
        let advice = (!response.is_of_last_failure()).then(|| {
            let upstream = response.upstream.as_deref().map(Address::from_nginx);
            let question = Question::of_response(&response, upstream.as_ref(), configured, general);
            self.advisor.advise(response.worker, &question)
        });
        let hint = advice.as_ref().map(|advice| {
            let back = comeback::told(&response.last_failed, response.time_ns, advice);
            match &advice.hint {
                Some(hint) => Cow::Owned(format!("{hint}{back}")),
                None if !back.is_empty() => Cow::Owned(format!("{general}{back}")),
                None => Cow::Borrowed(general),
            }
        });
        record::Response {
            id: response.id.0,
            time: self.time(response.time_ns),
            status: response.status,
            client_status: response.client_status,
            origin: match response.origin {
                verdict::Origin::Nginx => record::Origin::Nginx,
                verdict::Origin::Upstream => record::Origin::Upstream,
                verdict::Origin::Config => record::Origin::Config,
                verdict::Origin::Cache => record::Origin::Cache,
            },
            handled_by: response.handled_by.map(|handler| match handler {
                verdict::Handler::ErrorPage => record::Handler::ErrorPage,
                verdict::Handler::Fallback => record::Handler::Fallback,
                verdict::Handler::AuthRequest => record::Handler::AuthRequest,
            }),
            cause: response.cause,
            failures: response.failures.iter().map(|id| id.0).collect(),
            counted: response.counted,
            related: response.related.iter().map(|id| id.0).collect(),
            request_key: Some(key(response.request_key)),
            worker: self.worker(response.worker, None),
            client: response.client,
            server: server(configured),
            request: response.request,
            host: response.host,
            upstream: response.upstream,
            message: response.message,
            hint,
            configuration: advice.into_iter().flat_map(|advice| advice.settings).map(setting).collect(),
        }
    }

    pub(super) fn update(&self, update: &verdict::Update) -> record::Update {
        record::Update {
            time: self.time(update.time_ns),
            failure: update.failure.0,
            outcome: Some(outcome(update.outcome)),
            root: None,
            hint: None,
            nginx: None,
        }
    }

    fn worker(&mut self, pid: u32, netns: Option<u32>) -> record::Worker {
        let facts = self.processes.get(pid);
        record::Worker {
            pid,
            comm: facts.map(|facts| facts.comm.clone()).unwrap_or_default(),
            netns: netns.map(u64::from).or_else(|| facts.and_then(|facts| facts.netns)),
            cgroup: facts.and_then(|facts| facts.cgroup.clone()),
        }
    }
}

/// A directive as records describe it.
fn setting(setting: config::Setting) -> record::Setting {
    let config::Setting { directive, value, place, in_force } = setting;
    let (file, line) = place.map(|place| (place.file, place.line)).unzip();
    record::Setting { directive, value, file, line, in_force }
}

/// A process as records describe it.
pub(super) fn process(facts: &ProcessFacts) -> record::Process {
    record::Process {
        pid: facts.pid,
        comm: facts.comm.clone(),
        exe: facts.executable.as_ref().map(|path| path.to_string_lossy().into_owned()),
        role: match facts.role {
            Role::Master => Some(record::Role::Master),
            Role::Worker => Some(record::Role::Worker),
            Role::Cache => Some(record::Role::Helper),
            Role::Other => None,
        },
        netns: facts.netns,
    }
}

pub(crate) fn observation(observation: &observation::Observation) -> record::Observation {
    record::Observation {
        name: Cow::Borrowed(observation.name.id()),
        hook: observation.hook.clone(),
        state: match observation.state {
            observation::State::Full => record::ObservationState::Full,
            observation::State::Partial => record::ObservationState::Partial,
            observation::State::None => record::ObservationState::None,
        },
        missing: observation.missing.as_ref().map(|text| text.clone().into_owned()),
    }
}

fn upstream(address: &Address) -> record::Upstream {
    record::Upstream {
        address: address.to_string(),
        transport: match address {
            Address::Tcp(_) => Some(record::Transport::Tcp),
            Address::Unix(_) => Some(record::Transport::Unix),
            Address::Name(_) => None,
        },
    }
}

const fn outcome(outcome: verdict::Outcome) -> record::Outcome {
    match outcome {
        verdict::Outcome::Retried => record::Outcome::Retried,
        verdict::Outcome::Final => record::Outcome::Final,
        verdict::Outcome::Truncated => record::Outcome::Truncated,
        verdict::Outcome::ClientGone => record::Outcome::ClientGone,
        verdict::Outcome::Unknown => record::Outcome::Unknown,
    }
}

fn key(key: verdict::RequestKey) -> String {
    format!("{}-{}-{}", key.worker, key.connection, key.ordinal)
}

fn connection(facts: verdict::ConnectionFacts) -> record::Connection {
    record::Connection {
        local: facts.local.map(|address| address.to_string()),
        reused: facts.reused,
        preexisting: facts.preexisting,
        requests: facts.requests.map(u64::from),
        idle_us: facts.idle_us,
        bytes_sent: facts.bytes_sent,
        bytes_received: facts.bytes_received,
        syn_retransmits: facts.syn_retransmits,
    }
}

fn root(root: verdict::Root) -> record::Root {
    record::Root {
        kind: root.kind,
        text: root.text,
        process: root.process.map(|(pid, comm)| record::ProcessFate { pid, comm, code: None, signal: None, oom: None }),
        listener: None,
    }
}

/// The server's name, as nginx logs it.
fn server(configured: Option<&Configured>) -> Option<String> {
    configured?.server.as_ref().map(|server| server.name.clone())
}

fn word(word: verdict::Word, configured: Option<&Configured>) -> record::NginxWord {
    const LEVELS: [&str; 5] = ["stderr", "emerg", "alert", "crit", "error"];
    record::NginxWord {
        source: record::NginxSource::Uprobe,
        level: LEVELS.get(word.level as usize).copied().map(Cow::Borrowed),
        connection: (word.connection != 0).then_some(word.connection),
        message: word.message,
        client: word.client,
        server: server(configured),
        request: word.request,
        host: word.host,
        upstream: None,
        referrer: None,
    }
}

/// Adds what the line of the error log says, unless nginx's memory has said it. The word itself was heard by the uprobe: that
/// stays its source.
pub(super) fn tell(word: &mut record::NginxWord, told: &Told) {
    let Told { message, server, subrequest: _, upstream, host, referrer } = told.clone();
    word.message = message;
    word.server = word.server.take().or(server);
    word.host = word.host.take().or(host);
    (word.upstream, word.referrer) = (upstream, referrer);
}
