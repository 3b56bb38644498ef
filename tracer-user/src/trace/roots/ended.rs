//! Who ended a connection, when it was a process of this host.

use super::{Found, remedy, text};
use crate::{
    collect::host::Closer,
    model::{
        address::Address,
        cause::Cause,
        host::{Actor, Ending, Fate, Name},
        verdict::{Evidence, Failure, RootKind},
    },
    record,
};

/// A close is seen before its FIN arrives; that the queue of a listener ends, after.
const SLACK_NS: u64 = 2_000_000;
/// A RST is sent first and told of then (tcp_send_active_reset(), net/ipv4/tcp_output.c), and whoever sends it may have to let
/// others go first.
const RESET_SLACK_NS: u64 = 100_000_000;

/// Did this close belong to this connection, and end it? The same addresses and ports may have served another before.
pub(super) fn ended_it(failure: &Failure, closer: &Closer) -> bool {
    let slack_ns = if closer.resets && failure.connection.reset.is_some() { RESET_SLACK_NS } else { SLACK_NS };
    failure.connection.connected_ns.is_none_or(|connected_ns| connected_ns <= closer.time_ns)
        && closer.time_ns <= failure.time_ns + slack_ns
}

/// May it be the other end that ended it, by closing or by a reset?
pub(super) const fn is_by_other_end(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::ConnectReset
            | Cause::StaleKeepalive
            | Cause::SendFailed
            | Cause::TlsPeerClosed
            | Cause::ClosedBeforeResponse
            | Cause::ClosedMidResponse
            | Cause::ResetBeforeResponse
            | Cause::ResetMidResponse
    )
}

/// A process that was told to end, or closed something on its way out, does so within this time.
pub(super) const LEAVING_NS: u64 = 1_000_000_000;

/// One that ends by itself closes what it has just before.
const ITSELF_NS: u64 = 100_000_000;

/// A close of the other end.
pub(super) struct Close<'a> {
    pub(super) by: &'a Actor,
    pub(super) time_ns: u64,
    /// How that process ended soon after, and when; None: it did not, or not yet.
    pub(super) then: Option<(Ending, u64)>,
}

impl<'a> Close<'a> {
    /// `end` is the last end of a process of that number.
    pub(super) fn new(by: &'a Actor, time_ns: u64, end: Option<&(Actor, u64)>) -> Self {
        let soon = |ended_ns: u64| time_ns <= ended_ns && ended_ns - time_ns < LEAVING_NS;
        let then = end.filter(|(_, ended_ns)| by.ending == Ending::Alive && soon(*ended_ns));
        Self { by, time_ns, then: then.map(|(actor, ended_ns)| (actor.ending, *ended_ns)) }
    }

    /// Was it told to end just before, and lives still as far as is known?
    pub(super) fn is_leaving(&self, fate: Option<&Fate>) -> bool {
        self.may_end() && self.told(fate).is_some()
    }

    /// Lives still as far as is known; its end may be told in a moment.
    pub(super) fn may_end(&self) -> bool {
        self.by.ending == Ending::Alive && self.then.is_none()
    }

    fn told<'b>(&self, fate: Option<&'b Fate>) -> Option<(u32, &'b Name, u64)> {
        told(&self.by.name, self.time_ns, fate)
    }

    /// Whether more is known of it by now than that it closed.
    pub(super) fn has_ended(&self, fate: Option<&Fate>) -> bool {
        self.end(fate).is_some()
    }

    /// How it ended soon after, unless it was another process that decided so meanwhile.
    fn end(&self, fate: Option<&Fate>) -> Option<(Ending, u64)> {
        let since = |(time_ns, _, sender): &(u64, u32, Name)| *time_ns > self.time_ns && sender.pid != self.by.name.pid;
        let told_since = fate.and_then(|fate| fate.signal.as_ref()).is_some_and(since);
        let killed_for_memory = fate.and_then(|fate| fate.oom_ns).is_some_and(|oom_ns| oom_ns > self.time_ns);
        self.then.filter(|_| !told_since && !killed_for_memory)
    }
}

/// The signal to end that another process sent to one that closed something just after, and how long before that was: it may handle
/// it, and exit later.
pub(super) fn told<'a>(process: &Name, closed_ns: u64, fate: Option<&'a Fate>) -> Option<(u32, &'a Name, u64)> {
    let (time_ns, signal, sender) = fate?.signal.as_ref()?;
    let ago_ns = closed_ns.checked_sub(*time_ns)?;
    let asked = text::asks_to_end(process, *signal) && sender.pid != process.pid;
    (ago_ns < LEAVING_NS && asked).then_some((*signal, sender, ago_ns))
}

/// The longest there is (HZ=100).
const JIFFY_NS: u64 = 10_000_000;

/// The reason; None: what the rules found is better.
pub(super) fn root(failure: &Failure, close: &Close<'_>, fates: impl Fn(u32) -> Option<Fate>) -> Option<Found> {
    let fates = |pid: u32| {
        let mut fate = fates(pid)?;
        fate.signal =
            fate.signal.filter(|(time_ns, ..)| pid != close.by.name.pid || !survived(failure, close, *time_ns));
        Some(fate)
    };
    let fate = fates(close.by.name.pid);
    let fate = fate.as_ref();
    if close.by.ending == Ending::Alive {
        return alive(failure, close, fate, &fates);
    }
    let (actor, closed_ns) = (close.by, close.time_ns);
    let process = text::process(actor, fate, closed_ns);
    let who = text::who(actor);
    let end = text::end(actor, fate, closed_ns)?;
    let order = match text::order(actor, &fates, closed_ns) {
        Some((signal, by)) if !text::oom(actor.ending, fate, closed_ns) => {
            format!(", as its master had {} from {},", text::signal(signal), text::name(&by))
        }
        _ => String::new(),
    };
    let with = match failure.cause {
        Cause::ClosedBeforeResponse | Cause::ResetBeforeResponse | Cause::SendFailed => " with the request unanswered",
        Cause::ClosedMidResponse | Cause::ResetMidResponse => " in the middle of the response",
        // It was there before the request, or answers its first bytes; a jiffy may lie between what is so and what is seen.
        Cause::StaleKeepalive => match failure.started_ns {
            Some(began_ns) if began_ns < failure.time_ns => " with a request just begun on a kept connection",
            Some(began_ns) if began_ns > failure.time_ns + JIFFY_NS => ", and took its idle connections along",
            _ => ", and with it ended a connection that nginx had kept",
        },
        Cause::ConnectReset => " before it accepted the connection",
        _ => "",
    };
    let hint = remedy::hint(actor, &fates, closed_ns);
    let text = format!("{who} {end}{order}{with}");
    let root = record::Root { kind: kind(actor, &process), text, process: Some(process), listener: None };
    Some(Found { root, hint: Some(hint), evidence: Some(evidence(actor, closed_ns)) })
}

/// It took a new connection long after that signal, and exits: for another reason.
fn survived(failure: &Failure, close: &Close<'_>, signal_ns: u64) -> bool {
    let after = |connected_ns: u64| connected_ns.saturating_sub(signal_ns) >= LEAVING_NS;
    !matches!(close.by.ending, Ending::Killed { .. }) && failure.connection.connected_ns.is_some_and(after)
}

/// What a process died of.
pub(super) fn kind(actor: &Actor, process: &record::ProcessFate) -> RootKind {
    match actor.ending {
        _ if process.oom == Some(true) => RootKind::OomKilled,
        Ending::Killed { .. } => RootKind::ProcessKilled,
        _ => RootKind::ProcessExited,
    }
}

/// It was not exiting when it closed: on its way out, or by itself.
fn alive(
    failure: &Failure,
    close: &Close<'_>,
    fate: Option<&Fate>,
    fates: &impl Fn(u32) -> Option<Fate>,
) -> Option<Found> {
    let Close { by: actor, time_ns: closed_ns, then: _ } = close;
    let (told, then) = (close.told(fate), close.end(fate));
    if told.is_none() && then.is_none() {
        // What it left unread, or a connection that was idle, says more than that it closed.
        let better = |kind| matches!(kind, RootKind::UnreadData | RootKind::PeerIdleClose);
        if failure.root.as_ref().is_some_and(|root| better(root.kind)) || failure.cause == Cause::StaleKeepalive {
            return None;
        }
    }
    let (who, closed) = (text::who(actor), closed(failure));
    let ended = then.map(|(ending, ended_ns)| (Actor { ending, ..(*actor).clone() }, ended_ns));
    let after = told.map_or_else(String::new, |(signal, sender, ago_ns)| {
        let ago = if ago_ns < 1_000_000 { "right".to_owned() } else { text::duration(ago_ns) };
        format!(", {ago} after {} from {}", text::signal(signal), text::name(sender))
    });
    let (kind, process, text, hint) = match &ended {
        Some((ended, ended_ns)) => {
            let process = text::process(ended, fate, *ended_ns);
            // Whom it had the signal from is said before.
            let end = text::end(ended, fate.filter(|_| told.is_none()), *ended_ns)?;
            let later = text::duration(ended_ns - closed_ns);
            let text = format!("{who} {closed}{after}, and {end} {later} later");
            if told.is_none() && ended_ns - closed_ns >= ITSELF_NS {
                // The one may have to do with the other, or not.
                let process = text::process(actor, fate, *closed_ns);
                (RootKind::ApplicationClosed, process, text, closed_by_itself(&actor.name))
            } else {
                (kind(ended, &process), process, text, remedy::hint(ended, fates, *ended_ns))
            }
        }
        None => {
            let process = text::process(actor, fate, *closed_ns);
            let text = match told {
                Some(_) => format!("{who} {closed}{after}"),
                None => format!("{who} {closed}, and was not exiting then"),
            };
            // It is about to end, as far as its signal says.
            let leaving = Actor { ending: Ending::Exited(0), ..(*actor).clone() };
            let hint = match told {
                Some(_) => remedy::hint(&leaving, fates, *closed_ns),
                None => closed_by_itself(&actor.name),
            };
            (RootKind::ApplicationClosed, process, text, hint)
        }
    };
    let root = record::Root { kind, text, process: Some(process), listener: None };
    Some(Found { root, hint: Some(hint), evidence: Some(evidence(actor, *closed_ns)) })
}

/// What it did, beside its answer: a close that sends a RST is remembered whether it had answered or not.
fn closed(failure: &Failure) -> &'static str {
    let nothing_came = failure.connection.bytes_received.is_none_or(|bytes| bytes == 0);
    match failure.cause {
        Cause::ClosedMidResponse | Cause::ResetMidResponse => "closed the connection in the middle of the response",
        Cause::StaleKeepalive => "closed a connection that nginx had kept",
        Cause::ClosedBeforeResponse | Cause::ResetBeforeResponse | Cause::ConnectReset if nothing_came => {
            "closed the connection without answering"
        }
        _ => "closed the connection",
    }
}

fn closed_by_itself(process: &Name) -> String {
    let name = text::name(process);
    format!("look in the log of {name} at that second: it closed by itself (an error, or a limit of its own)")
}

/// Somebody who was not exiting closed it, and had it from who listens there; `note` is about that place.
pub(super) fn by_server(failure: &Failure, at: &Address, note: &str, owner: &Name, fate: Option<&Fate>) -> Found {
    let who = text::name(owner);
    let after = told(owner, failure.time_ns, fate).map_or_else(String::new, |(signal, sender, ago_ns)| {
        format!(", {} after {} from {} to {who}", text::duration(ago_ns), text::signal(signal), text::name(sender))
    });
    let text = format!(
        "{who}, which listens on {at}{note}, or a process that it let have the connection, closed it and was not seen exiting then{after}"
    );
    let listener = record::Listener { address: at.to_string(), limit: None, queued: None, owner: Some(owner.into()) };
    let root = record::Root { kind: RootKind::ApplicationClosed, text, process: None, listener: Some(listener) };
    let hint = format!("look in the log of {who} at that second: an error, or a limit of its own");
    Found { root, hint: Some(hint), evidence: None }
}

fn evidence(actor: &Actor, closed_ns: u64) -> Evidence {
    let exiting = match actor.ending {
        Ending::Alive => String::new(),
        Ending::Exited(code) => format!(" while it exited with code {code}"),
        Ending::Killed { signal, .. } => format!(" while it died of {}", text::signal(signal)),
    };
    let text = format!("{} closed the other end{exiting}", text::name(&actor.name));
    Evidence { time_ns: closed_ns, source: "tp_btf/inet_sock_set_state", text }
}

#[cfg(test)]
mod tests;
