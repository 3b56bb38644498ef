//! A case: steps of workers, played to the engine, and its verdicts told as lines.

use std::collections::HashMap;

use super::link::{JIFFY_US, Link};
use crate::{
    diagnose::engine::{Engine, Facts, Visible},
    model::{
        address::Address,
        event::{Bound, Complaint, Event, Happening, Moment, Request, RequestNow, ResponseRead, Status, Subject},
        unix::{Call, OtherEnd, Refusal, UnixConnection},
        verdict::{Failure, Response, Verdict, VerdictId},
    },
};

pub(super) const WORKER: u32 = 4000;
/// Where nginx keeps the request, unless a case says otherwise.
pub(super) const REQUEST: u64 = 0x1000;
/// When it began, by nginx's clock.
pub(super) const START_MS: u64 = 1_700_000_000_000;
/// The location that has it, and its URI.
pub(super) const LOCATION: u64 = 0x20;
pub(super) const URI: u64 = 0x30;

/// One step; 10 µs after the one before.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) after_us: u64,
    pub(super) worker: u32,
    pub(super) request: Request,
    pub(super) kind: Kind,
    /// Events lost right before it.
    pub(super) lost_before: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Complaint {
        literal: String,
        text: String,
        errno: i32,
        number: u64,
        action: &'static str,
        socket: Socket,
    },
    Other,
    Status(u16),
    Retry,
    Closed(Link, ResponseRead),
    Refused(Refusal),
    UnixClosed(UnixConnection),
    Gone,
    Appeared,
    /// Its complaints are visible, or not.
    Listens(bool),
    Lost,
    Tick,
    /// What nginx's memory has to say to all questions.
    Memory(RequestNow),
}

/// What the complaint could be bound to.
#[derive(Clone, Debug)]
pub(super) enum Socket {
    Tcp(Link),
    Unix(UnixConnection),
    None,
}

pub(super) fn step(kind: Kind) -> Step {
    let request = Request {
        request: REQUEST,
        main: REQUEST,
        connection: 7,
        has_upstream: true,
        attempts: Some(1),
        header_accepted: Some(false),
        upstream_status: None,
        log_level: 4,
        cached: Some(false),
        peer: Some("127.0.0.1:8080".to_owned()),
        client: Some("127.0.0.1".to_owned()),
        start_ms: Some(START_MS),
        line: Some("GET / HTTP/1.1".to_owned()),
        start_offset: 960,
        host: Some("example.com".to_owned()),
        cacheable: false,
        server_conf: 0x10,
        location_conf: LOCATION,
        uri: URI,
        ..Request::default()
    };
    Step { after_us: 10, worker: WORKER, request, kind, lost_before: 0 }
}

/// nginx logs this literal, `while` doing this; an empty action is none.
pub(super) fn complaint(literal: &str, action: &'static str) -> Step {
    let (literal, text) = match literal.strip_prefix("%*s ") {
        Some(text) => ("%*s".to_owned(), text.to_owned()),
        None => (literal.to_owned(), String::new()),
    };
    step(Kind::Complaint { literal, text, errno: 0, number: 0, action, socket: Socket::None })
}

pub(super) const CONNECTING: &str = "connecting to upstream";
pub(super) const HANDSHAKING: &str = "SSL handshaking to upstream";
pub(super) const SENDING: &str = "sending request to upstream";
pub(super) const HEADER: &str = "reading response header from upstream";
pub(super) const BODY: &str = "reading upstream";

/// An attempt that was refused, with nginx's word about it.
pub(super) fn refused() -> Step {
    complaint("connect() failed", CONNECTING).errno(111).on(super::link::connecting().failed(111))
}

/// The upstream closed a new connection instead of answering.
pub(super) fn closed_early() -> Step {
    complaint("upstream prematurely closed connection", HEADER).on(super::link::connection().fin(2))
}

pub(super) fn status(status: u16) -> Step {
    step(Kind::Status(status))
}

pub(super) fn retry() -> Step {
    step(Kind::Retry)
}

pub(super) fn closed(link: Link) -> Step {
    step(Kind::Closed(link, ResponseRead::Unknown))
}

/// So many attempts by now; the header's status, 0 while there is none; in which location.
pub(super) fn memory(attempts: u32, status: u16, location_conf: u64) -> Step {
    let there =
        RequestNow::There { attempts: Some(attempts), status: Some(status), ended: false, location_conf, uri: URI };
    step(Kind::Memory(there))
}

pub(super) fn tick(after_ms: u64) -> Step {
    Step { after_us: after_ms * 1000, ..step(Kind::Tick) }
}

/// A unix connection whose other end has been closed, unless changed.
pub(super) fn unix(change: impl FnOnce(&mut UnixConnection)) -> UnixConnection {
    let mut unix = UnixConnection {
        sk: 0x77,
        connected: Some((1_000_500_000_000, "fexit/__sys_connect")),
        worker: WORKER,
        netns: 1,
        remote: Some(Address::Unix("/run/app.sock".to_owned())),
        other_end: Some(OtherEnd {
            closed: true,
            accepted: false,
            inode: None,
            unread: 0,
            listener: Some(77),
            closing: None,
        }),
        error: 0,
        ended: true,
        unread: 0,
    };
    change(&mut unix);
    unix
}

/// connect(2) to the unix socket fails.
pub(super) fn refusal(call: Call, errno: i32) -> Step {
    let remote = Some(Address::Unix("/run/app.sock".to_owned()));
    step(Kind::Refused(Refusal { call, worker: WORKER, errno, sk: Some(0x77), netns: Some(1), remote }))
}

impl Step {
    pub(super) fn errno(mut self, number: i32) -> Self {
        if let Kind::Complaint { errno, .. } = &mut self.kind {
            *errno = number;
        }
        self
    }

    /// The resolver's code.
    pub(super) fn code(mut self, code: u64) -> Self {
        if let Kind::Complaint { number, .. } = &mut self.kind {
            *number = code;
        }
        self
    }

    pub(super) fn on(mut self, link: Link) -> Self {
        if let Kind::Complaint { socket, .. } = &mut self.kind {
            *socket = Socket::Tcp(link);
        }
        self
    }

    /// On a unix socket whose other end has been closed.
    pub(super) fn on_unix(self) -> Self {
        self.on_unix_socket(unix(|_| {}))
    }

    pub(super) fn on_unix_socket(mut self, unix: UnixConnection) -> Self {
        if let Kind::Complaint { socket, .. } = &mut self.kind {
            *socket = Socket::Unix(unix);
        }
        self.peer("unix:/run/app.sock")
    }

    /// Changes what nginx says of the request.
    pub(super) fn with(mut self, change: impl FnOnce(&mut Request)) -> Self {
        change(&mut self.request);
        self
    }

    pub(super) fn attempt(self, number: u32) -> Self {
        self.with(|request| request.attempts = Some(number))
    }

    pub(super) fn cached(self, cached: bool) -> Self {
        self.with(|request| request.cached = Some(cached))
    }

    pub(super) fn peer(self, peer: &str) -> Self {
        self.with(|request| request.peer = Some(peer.to_owned()))
    }

    /// A main request at this address.
    pub(super) fn at(self, address: u64) -> Self {
        self.with(|request| (request.request, request.main) = (address, address))
    }

    /// A subrequest of the main request.
    pub(super) fn subrequest(self, address: u64) -> Self {
        self.with(|request| request.request = address)
    }

    pub(super) fn started(self, start_ms: u64) -> Self {
        self.with(|request| request.start_ms = Some(start_ms))
    }

    /// The upstream's own status is the one that nginx answers with, if that is what this is about.
    pub(super) fn accepted_header(self) -> Self {
        let own = if let Kind::Status(status) = self.kind { status } else { 200 };
        self.with(|request| (request.header_accepted, request.upstream_status) = (Some(true), Some(own)))
    }

    /// nginx's cache has to do with it.
    pub(super) fn cacheable(self) -> Self {
        self.with(|request| request.cacheable = true)
    }

    /// A request that has nothing to do with an upstream.
    pub(super) fn no_upstream(self) -> Self {
        self.unread().with(|request| (request.has_upstream, request.peer, request.cached) = (false, None, None))
    }

    /// Nothing but the request itself could be read.
    pub(super) fn unread(self) -> Self {
        self.with(|request| (request.attempts, request.header_accepted) = (None, None))
    }

    /// `error_log … crit`
    pub(super) fn log_level(self, level: u32) -> Self {
        self.with(|request| request.log_level = level)
    }

    pub(super) fn worker(self, worker: u32) -> Self {
        Self { worker, ..self }
    }

    pub(super) fn after(self, ms: u64) -> Self {
        Self { after_us: ms * 1000, ..self }
    }

    /// Events of the worker were lost just before.
    pub(super) fn after_loss_of(self, events: u64) -> Self {
        Self { lost_before: events, ..self }
    }

    fn event(&self, now_ns: u64, sequence: u64, started: &mut HashMap<u64, u64>) -> Event {
        let (pid, comm) = (self.worker, || "nginx".to_owned());
        let happening = match &self.kind {
            Kind::Complaint { literal, text, errno, number, action, socket } => Happening::Complaint(Complaint {
                subject: Subject::Http(self.request.clone()),
                bound: match socket {
                    Socket::Tcp(link) => Bound::Tcp(link.build(now_ns, pid, started)),
                    Socket::Unix(unix) => Bound::Unix(UnixConnection { worker: pid, ..unix.clone() }),
                    Socket::None => Bound::None,
                },
                level: 4,
                errno: *errno,
                number: *number,
                literal: literal.clone(),
                text: text.clone(),
                action: (*action).to_owned(),
                kind: None,
            }),
            Kind::Other => Happening::Complaint(Complaint {
                subject: Subject::Other,
                bound: Bound::None,
                level: 4,
                errno: 111,
                number: 0,
                literal: "connect() failed".to_owned(),
                text: String::new(),
                action: CONNECTING.to_owned(),
                kind: None,
            }),
            Kind::Status(status) => Happening::Status(Status { request: self.request.clone(), status: *status }),
            Kind::Retry => Happening::Retry { request: self.request.request },
            Kind::Closed(link, response) => {
                Happening::Closed { connection: link.build(now_ns, pid, started), response: *response }
            }
            Kind::Refused(refusal) => Happening::Refused(refusal.clone()),
            Kind::UnixClosed(unix) => Happening::UnixClosed(unix.clone()),
            Kind::Gone => Happening::Gone { pid, comm: comm() },
            Kind::Appeared => Happening::Appeared { pid, comm: comm() },
            Kind::Listens(_) | Kind::Lost | Kind::Tick | Kind::Memory(_) => unreachable!("no event"),
        };
        let source = if matches!(self.kind, Kind::Complaint { .. }) { "uprobe/ngx_log_error_core" } else { "raw_tp" };
        Event { moment: Moment { time_ns: now_ns, pid, sequence, source }, happening }
    }
}

/// What the engine is told.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "a few thousand of them, for a moment")]
pub(super) enum Act {
    Event(Event),
    Tick(u64),
    Lost(u64),
    Listens(u32, bool),
    Memory(u64, RequestNow),
}

/// The steps with their times and numbers, as the ring would deliver them.
pub(super) fn acts(steps: impl IntoIterator<Item = Step>) -> Vec<Act> {
    let mut now_ns = 1_000_500_000_000;
    let mut sequences: HashMap<u32, u64> = HashMap::new();
    let mut started = HashMap::new();
    let mut act = |step: Step| {
        now_ns += step.after_us * 1000;
        match step.kind {
            Kind::Tick => Act::Tick(now_ns),
            Kind::Lost => Act::Lost(now_ns),
            Kind::Memory(now) => Act::Memory(now_ns, now),
            Kind::Listens(visible) => Act::Listens(step.worker, visible),
            _ => {
                let sequence = sequences.entry(step.worker).or_insert(0);
                *sequence += 1 + step.lost_before;
                Act::Event(step.event(now_ns, *sequence, &mut started))
            }
        }
    };
    steps.into_iter().map(&mut act).collect()
}

pub(super) fn tell(engine: &mut Engine, act: Act) {
    match act {
        Act::Event(event) => engine.event(event),
        Act::Tick(now_ns) => engine.tick(now_ns),
        Act::Lost(time_ns) => engine.lost(time_ns),
        Act::Listens(worker, visible) => {
            engine.listens(worker, Visible { complaints: visible, pages: visible, lines: false });
        }
        Act::Memory(now_ns, now) => {
            for question in engine.questions(now_ns) {
                assert_eq!((question.place.worker, question.place.start_offset), (WORKER, 960));
                engine.answer(&question, now_ns, now);
            }
        }
    }
}

/// Plays the steps to an engine that hears [`WORKER`]; verdicts of all of it, the end included.
pub(super) fn play(steps: impl IntoIterator<Item = Step>) -> Vec<Verdict> {
    let mut engine = Engine::new(Facts { jiffy_us: JIFFY_US });
    engine.listens(WORKER, Visible { complaints: true, pages: true, lines: false });
    for act in acts(steps) {
        tell(&mut engine, act);
    }
    engine.finish();
    engine.take().collect()
}

/// The verdicts as lines, failures numbered as they come: `#1 connect_refused proven final`, `502 nginx connect_refused #1`.
pub(super) fn told(verdicts: &[Verdict]) -> Vec<String> {
    let ids: Vec<VerdictId> = failures(verdicts).map(|failure| failure.id).collect();
    let number = |id: &VerdictId| match ids.iter().position(|known| known == id) {
        Some(index) => format!(" #{}", index + 1),
        None => " #?".to_owned(),
    };
    let word = |word: &dyn std::fmt::Debug| format!("{word:?}").to_lowercase();
    let line = |verdict: &Verdict| match verdict {
        Verdict::Failure(Failure { id, cause, confidence, outcome, .. }) => {
            format!("{} {cause} {} {}", number(id).trim(), word(confidence), word(outcome))
        }
        Verdict::Response(Response { status, client_status, origin, cause, failures, related, handled_by, .. }) => {
            let mut line = format!("{status} {} {cause}", word(origin));
            line.extend(client_status.map(|status| format!(" as {status}")));
            line.extend(failures.iter().map(number));
            line.extend((!related.is_empty()).then(|| " related".to_owned()));
            line.extend(related.iter().map(number));
            line.extend(handled_by.map(|handler| format!(" by {}", word(&handler))));
            line
        }
        Verdict::Update(update) => format!("{} turns {}", number(&update.failure).trim(), word(&update.outcome)),
    };
    verdicts.iter().map(line).collect()
}

#[track_caller]
pub(super) fn check(steps: impl IntoIterator<Item = Step>, expected: &[&str]) {
    assert_eq!(told(&play(steps)), expected);
}

pub(super) fn failures(verdicts: &[Verdict]) -> impl Iterator<Item = &Failure> {
    verdicts.iter().filter_map(|verdict| if let Verdict::Failure(failure) = verdict { Some(failure) } else { None })
}

pub(super) fn responses(verdicts: &[Verdict]) -> impl Iterator<Item = &Response> {
    verdicts.iter().filter_map(|verdict| if let Verdict::Response(response) = verdict { Some(response) } else { None })
}
