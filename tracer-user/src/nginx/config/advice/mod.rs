//! What to do about a failure, in terms of the lines that lead there and of what is in force. Pure.
//!
//! (cause, facts, what memory has, files) → a sentence and the directives that matter; nothing where nothing is certain.

mod host;
mod name;
mod response;
mod scope;
mod setting;
mod tls;

pub use setting::Setting;

use scope::Scope;
use setting::Measure;

use super::view::View;
use crate::model::{
    address::Address,
    cause::Cause,
    configured::{Configured, Pass},
    verdict::{Failure, Response},
};

/// Directives listed with a failure.
const SETTINGS: usize = 16;

/// What there is to say something about.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub cause: Cause,
    pub upstream: Option<&'a Address>,
    /// What nginx answered, or would have.
    pub status: Option<u16>,
    /// How long the connection lay idle before this request, in µs.
    pub idle_us: Option<u64>,
    /// What the worker's memory has; None: it was not read.
    pub configured: Option<&'a Configured>,
    /// What to do in general, for the sentence to go on with.
    pub general: &'a str,
}

impl<'a> Question<'a> {
    pub fn of_failure(failure: &'a Failure, configured: Option<&'a Configured>, general: &'a str) -> Self {
        Self {
            cause: failure.cause,
            upstream: failure.upstream.as_ref(),
            status: failure.status,
            idle_us: failure.connection.idle_us,
            configured,
            general,
        }
    }

    /// `upstream`: that of the response, which has it as text.
    pub fn of_response(
        response: &Response,
        upstream: Option<&'a Address>,
        configured: Option<&'a Configured>,
        general: &'a str,
    ) -> Self {
        let status = Some(response.status);
        Self { cause: response.cause, upstream, status, idle_us: None, configured, general }
    }

    /// How long it lay idle, as precise as matters.
    fn idle(&self) -> Option<String> {
        match self.idle_us? {
            0 => None,
            idle @ 10_000_000.. => Some(format!("{} s", idle / 1_000_000)),
            idle @ 1_000_000.. => Some(format!("{}.{} s", idle / 1_000_000, idle / 100_000 % 10)),
            idle => Some(format!("{} ms", (idle / 10_000 * 10).max(1))),
        }
    }

    /// The same for questions with the same answer.
    pub(super) fn key(&self) -> String {
        let idle = self.idle().filter(|_| self.cause == Cause::StaleKeepalive);
        let Self { cause, upstream, status, idle_us: _, configured, general } = self;
        format!("{cause} {upstream:?} {status:?} {idle:?} {configured:?} {general}")
    }
}

/// What is said beyond the general.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// In place of the general hint; one line, no full stop.
    pub hint: Option<String>,
    /// Directives that have to do with it.
    pub settings: Vec<Setting>,
    /// Servers of an `upstream` block, and for how long they are left alone after failures, in ms.
    pub left_alone: Vec<(Address, u64)>,
}

impl Advice {
    /// For how long this peer is left alone, in ms; a peer that was found by name has the time that all have.
    pub fn fail_timeout_ms(&self, peer: &Address) -> Option<u64> {
        let (_, first) = self.left_alone.first()?;
        let of_peer = self.left_alone.iter().find(|(server, _)| server == peer).map(|(_, time)| *time);
        of_peer.or_else(|| self.left_alone.iter().all(|(_, time)| time == first).then_some(*first))
    }
}

/// The advice for one failure, or response without one; `view` is None where the files cannot be used.
pub(super) fn advise(question: &Question<'_>, view: Option<View<'_>>) -> Advice {
    let scope = Scope::find(view, question.upstream, question.configured);
    let mut advice = about(question, &scope);
    advice.settings.truncate(SETTINGS);
    let nowhere = advice.settings.iter().all(|setting| setting.place.is_none());
    if let (Some(hint), true, Some(file)) = (&mut advice.hint, nowhere, view.and_then(|view| view.changed())) {
        *hint = format!("{hint} ({file} was changed since the workers were started: no line can be named)");
    }
    advice
}

fn about(question: &Question<'_>, scope: &Scope<'_>) -> Advice {
    let pass = question.configured.and_then(|configured| configured.pass.as_ref());
    let timeout = |suffix: &str, of: fn(&Pass) -> u64| {
        let setting = of_module(scope, suffix, pass.map(|pass| Measure::Milliseconds(of(pass))));
        in_force(question, scope, setting)
    };
    match question.cause {
        Cause::ConnectRefused
        | Cause::ConnectUnreachable
        | Cause::ConnectTimeoutKernel
        | Cause::ConnectReset
        | Cause::ConnectDenied
        | Cause::PortsExhausted
        | Cause::ConnectFailed
        | Cause::SocketMissing
        | Cause::SocketDenied
        | Cause::SocketRefused
        | Cause::SocketBacklogFull
        | Cause::HeaderInvalid
        | Cause::ResponseInvalid
        | Cause::UpstreamMisconfigured => leading(question, scope),
        Cause::ClosedBeforeResponse
        | Cause::ResetBeforeResponse
        | Cause::ResponseTimeoutKernel
        | Cause::ClosedMidResponse
        | Cause::ResetMidResponse
        | Cause::UpstreamStatus => Advice { hint: None, settings: scope.leads(), ..Advice::default() },
        Cause::ConnectTimeout | Cause::TlsTimeout => timeout("connect_timeout", |pass| pass.connect_timeout_ms),
        Cause::ResponseTimeout | Cause::ResponseStalled => timeout("read_timeout", |pass| pass.read_timeout_ms),
        Cause::SendTimeout => timeout("send_timeout", |pass| pass.send_timeout_ms),
        Cause::SendFailed => in_force(question, scope, scope.setting("client_max_body_size", None)),
        Cause::HeaderTooBig => response::header_too_big(question, scope),
        Cause::StaleKeepalive => response::stale_keepalive(question, scope),
        Cause::NoLiveUpstreams => name::no_live(question, scope),
        Cause::DnsTimeout | Cause::DnsFailed => name::resolver(question, scope),
        Cause::NoResolver => name::no_resolver(question, scope),
        Cause::TlsHandshakeFailed | Cause::TlsPeerClosed => tls::handshake(question, scope),
        Cause::TlsVerifyFailed => tls::verify(question, scope),
        Cause::FdsExhausted => host::descriptors(question, scope),
        Cause::WorkerConnections => host::connections(question, scope),
        Cause::BindFailed => host::bind(question, scope),
        Cause::TempfileFailed => host::temporary(scope),
        Cause::ConfiguredStatus => host::configured_status(question, scope),
        Cause::ClientClosed | Cause::Unexplained => Advice::default(),
    }
}

/// A directive of the module that passes the request on.
fn of_module(scope: &Scope<'_>, suffix: &str, in_force: Option<Measure>) -> Option<Setting> {
    scope.setting(&format!("{}_{suffix}", scope.module?.prefix()), in_force)
}

/// What to do, and with which line.
fn leading(question: &Question<'_>, scope: &Scope<'_>) -> Advice {
    let settings = scope.leads();
    let hint = settings.first().map(|line| format!("{}: {}", question.general, line.line()));
    Advice { hint, settings, ..Advice::default() }
}

/// What is in force, then what to do.
fn in_force(question: &Question<'_>, scope: &Scope<'_>, setting: Option<Setting>) -> Advice {
    let Some(setting) = setting else { return Advice { hint: None, settings: scope.leads(), ..Advice::default() } };
    let hint = format!("{}: {}", setting.sentence(scope.home().as_deref()), question.general);
    Advice { hint: Some(hint), settings: [vec![setting], scope.leads()].concat(), ..Advice::default() }
}

#[cfg(test)]
mod tests;
