//! The data that a scenario is: what to start, what to send, and what must be said about it.

use anyhow::Result;

pub use crate::attempt::{Attempt, Confidence, attempt};
use crate::logs::Logs;
use crate::rate::Rate;
use crate::stage::Stage;
use crate::upstream::{Listen, Place};

/// One scenario. Tables of these are in [`crate::scenarios`].
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Its name, `subject/what`; `--filter` looks in it.
    pub name: &'static str,
    /// The network that it runs in.
    pub net: Net,
    /// What else it needs from the machine.
    pub needs: &'static [Need],
    /// `worker_processes`; `None` is the `--workers` of the command line.
    pub workers: Option<usize>,
    /// The upstreams; `<name>` in the configuration becomes an address.
    pub upstreams: &'static [(&'static str, Place, Listen)],
    /// Text for nginx's `http` block.
    pub http: &'static str,
    /// Text for nginx's `server` block.
    pub server: &'static str,
    /// Text outside of `http`; an `events` block in it replaces that of the lab.
    pub main: &'static str,
    /// Level of nginx's error log.
    pub error_level: &'static str,
    /// Where nginx's logs go.
    pub logs: Logs,
    /// The kinds of request.
    pub cases: &'static [Case],
    /// How the requests are sent.
    pub drive: Drive,
    /// More options for `why502 trace`.
    pub options: &'static [&'static str],
    /// Which witness the tracer has.
    pub witness: Witness,
    /// What happens before the tracer starts.
    pub before: Option<fn(&Stage) -> Result<()>>,
    /// Causes that may be reported besides those of the cases, as often as they like.
    pub optional: &'static [&'static str],
    /// The most events that the kernel may have sent, for the end record.
    pub events_below: Option<u64>,
    /// nginx without the names of its functions, as where all symbols were stripped: no uprobe can be put into it.
    pub nameless: bool,
}

/// What a scenario starts from: one host, no requirements, every case in parallel.
pub const BASE: Scenario = Scenario {
    name: "",
    net: Net::Host,
    needs: &[],
    workers: None,
    upstreams: &[],
    http: "",
    server: "",
    main: "",
    error_level: "error",
    logs: Logs::Files,
    cases: &[],
    drive: Drive::Load(Load { clients: 8, keepalive: true }),
    options: &[],
    witness: Witness::Both,
    before: None,
    optional: &[],
    events_below: None,
    nameless: false,
};

/// The network of a scenario.
#[derive(Clone, Copy, Debug)]
pub enum Net {
    /// Loopback of the host.
    Host,
    /// A namespace of its own with `lo` and these settings under /proc/sys/net.
    Private(&'static [(&'static str, &'static str)]),
    /// nginx behind a router, see [`crate::namespace::Routed`]; the settings are those of nginx's side.
    Routed(&'static [(&'static str, &'static str)]),
}

/// What a scenario needs from the machine, beyond root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// ::1.
    Ipv6,
    /// nginx's stream module.
    Stream,
    /// nginx with TLS.
    Tls,
    /// nginx with HTTP/2 for clients.
    Http2,
    /// This file among nginx's dynamic modules.
    Module(&'static str),
    /// nginx of this version or a later one.
    Version(u16, u16, u16),
    /// python3.
    Python,
    /// nft, and a kernel that it works on.
    Nft,
    /// The same, and rules that rewrite addresses.
    Nat,
    /// A device whose packets a program reads and writes (TUN).
    Tun,
    /// A program of this name, or of this name with a version.
    Program(&'static str),
    /// A kernel that gives reasons for dropped packets.
    DropReasons,
    /// A kernel on which why502 makes this observation as well as it can anywhere.
    Observation(&'static str),
}

/// Who may testify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// Kernel and nginx.
    Both,
    /// `--no-nginx`: the kernel alone, so no responses, no requests by name, and no certainty.
    Kernel,
}

/// How requests are sent.
#[derive(Clone, Copy, Debug)]
pub enum Drive {
    /// All cases at once in random order.
    Load(Load),
    /// One after the other on one client connection each: these turns, repeated for the number of requests.
    Turns(&'static [Turn]),
    /// At a steady rate, for as long as the command line says.
    Rate(Rate),
    /// By hand: the function sends every request itself.
    By(fn(&Stage) -> Result<()>),
}

/// Parallel traffic.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Clients at once.
    pub clients: usize,
    /// Whether clients keep their connection between requests.
    pub keepalive: bool,
}

/// A step of [`Drive::Turns`].
#[derive(Clone, Copy, Debug)]
pub enum Turn {
    /// Sends a request of the case with this path.
    Go(&'static str),
    /// Leaves everything idle for so many milliseconds.
    Idle(u64),
    /// Waits until nginx has no connection to this upstream any more.
    Gone(&'static str),
}

/// How many requests of a case.
#[derive(Clone, Copy, Debug)]
pub enum Amount {
    /// `--requests`.
    Requests,
    /// A hundred times `--requests`: healthy bulk.
    Bulk,
    /// So many, or `--requests` where that is less.
    AtMost(usize),
}

/// A kind of request, its fate, and what must be reported about it.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Prefix of the URI, with the leading slash; requests are `PATH/NUMBER`.
    pub path: &'static str,
    /// The method.
    pub method: &'static str,
    /// Length of the request body.
    pub body: usize,
    /// More request headers, each with CRLF.
    pub headers: &'static str,
    /// How many.
    pub amount: Amount,
    /// The status that nginx logs.
    pub status: u16,
    /// The failed attempts of each such request, in order.
    pub attempts: &'static [Attempt],
    /// What nginx logs about it besides the attempts' messages, in order.
    pub says: &'static [&'static str],
    /// What nginx may log about it as well, or not, as the race goes.
    pub may_say: &'static [&'static str],
    /// The `response` record of each such request.
    pub reply: Reply,
    /// The `handled_by` of that record, `|` between alternatives; `""` is null.
    pub handled: &'static str,
}

/// The `response` record that a request must have.
#[derive(Clone, Copy, Debug)]
pub enum Reply {
    /// The cause of the last attempt if nginx made a 502 or 504 of it, none otherwise.
    Follows,
    /// This cause, the status that nginx first decided on, and this origin.
    Is(&'static str, u16, &'static str),
    /// None, whatever the attempts came to: a subrequest's failure is not the request's.
    None,
    /// None, or one of this origin.
    Maybe(&'static str),
}

/// A GET that succeeds.
pub const fn get(path: &'static str) -> Case {
    Case {
        path,
        method: "GET",
        body: 0,
        headers: "",
        amount: Amount::Requests,
        status: 200,
        attempts: &[],
        says: &[],
        may_say: &[],
        reply: Reply::Follows,
        handled: "",
    }
}

/// A POST with a small body that succeeds.
pub const fn post(path: &'static str) -> Case {
    Case { method: "POST", body: 11, ..get(path) }
}

impl Case {
    /// It ends with this status after these failed attempts.
    pub const fn fails(self, status: u16, attempts: &'static [Attempt]) -> Self {
        Self { status, attempts, ..self }
    }

    /// It ends with this status.
    pub const fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    /// So many.
    pub const fn amount(self, amount: Amount) -> Self {
        Self { amount, ..self }
    }

    /// With a body of this length.
    pub const fn body(self, body: usize) -> Self {
        Self { body, ..self }
    }

    /// With another method.
    pub const fn method(self, method: &'static str) -> Self {
        Self { method, ..self }
    }

    /// With these request headers.
    pub const fn headers(self, headers: &'static str) -> Self {
        Self { headers, ..self }
    }

    /// With this response record.
    pub const fn reply(self, reply: Reply) -> Self {
        Self { reply, ..self }
    }

    /// Whose 502 or 504 the configuration turned into something else.
    pub const fn handled(self, handled: &'static str) -> Self {
        Self { handled, ..self }
    }

    /// With these messages that nginx may log or not.
    pub const fn may_say(self, may_say: &'static [&'static str]) -> Self {
        Self { may_say, ..self }
    }

    /// With these messages besides those of the attempts.
    pub const fn says(self, says: &'static [&'static str]) -> Self {
        Self { says, ..self }
    }
}
