//! Who ended a connection, when it was a process of this host.

use super::{Found, text};
use crate::{
    model::{
        cause::Cause,
        host::{Actor, Ending, Fate},
        verdict::{Evidence, Failure, RootKind},
    },
    record,
};

/// A close is seen before its FIN or RST arrives; a RST that the accept queue's end sends is seen after.
const SLACK_NS: u64 = 2_000_000;

/// Did this close belong to this connection, and end it? The same addresses and ports may have served another before.
pub(super) fn ended_it(failure: &Failure, closed_ns: u64) -> bool {
    failure.connection.connected_ns.is_none_or(|connected_ns| connected_ns <= closed_ns)
        && closed_ns <= failure.time_ns + SLACK_NS
}

/// The reason; None: what the rules found is better.
pub(super) fn root(failure: &Failure, actor: &Actor, fate: Option<&Fate>, closed_ns: u64) -> Option<Found> {
    let process = text::process(actor, fate, closed_ns);
    let who = text::who(actor);
    let Some(end) = text::end(actor, fate, closed_ns) else {
        // Alive. What it left unread, or a connection that was idle, says more than that it closed.
        let better = |kind| matches!(kind, RootKind::UnreadData | RootKind::PeerIdleClose);
        if failure.root.as_ref().is_some_and(|root| better(root.kind)) || failure.cause == Cause::StaleKeepalive {
            return None;
        }
        let root = record::Root {
            kind: RootKind::ApplicationClosed,
            text: format!("{who} closed the connection without answering, and was not about to exit"),
            process: Some(process),
            listener: None,
        };
        let hint = format!(
            "look in the log of {} at that second: it closed by itself (an error, or a limit of its own)",
            text::name(&actor.name)
        );
        return Some(Found { root, hint: Some(hint), evidence: Some(evidence(actor, closed_ns)) });
    };
    let kind = match actor.ending {
        _ if process.oom == Some(true) => RootKind::OomKilled,
        Ending::Killed { .. } => RootKind::ProcessKilled,
        _ => RootKind::ProcessExited,
    };
    let with = match failure.cause {
        Cause::ClosedBeforeResponse | Cause::ResetBeforeResponse | Cause::SendFailed => " with the request unanswered",
        Cause::ClosedMidResponse | Cause::ResetMidResponse => " in the middle of the response",
        Cause::StaleKeepalive => ", and took its idle connections along",
        Cause::ConnectReset => " before it accepted the connection",
        _ => "",
    };
    let hint = hint(actor, fate, closed_ns);
    let root = record::Root { kind, text: format!("{who} {end}{with}"), process: Some(process), listener: None };
    Some(Found { root, hint: Some(hint), evidence: Some(evidence(actor, closed_ns)) })
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

/// What to do about a process that ended.
pub(super) fn hint(actor: &Actor, fate: Option<&Fate>, ended_ns: u64) -> String {
    const SIGKILL: u32 = 9;
    const SIGABRT: u32 = 6;
    let name = text::name(&actor.name);
    let sender = text::sender(actor.ending, fate, ended_ns).filter(|(_, sender)| sender.pid != actor.name.pid);
    match (actor.ending, sender) {
        (Ending::Killed { .. }, _) if text::oom(actor.ending, fate, ended_ns) => {
            format!(
                "give {} more memory, or let it use less: the kernel killed pid {}",
                actor.name.comm, actor.name.pid
            )
        }
        (Ending::Killed { signal: SIGKILL | SIGABRT, .. }, Some((_, sender)))
            if actor.worker && sender.pid == actor.parent =>
        {
            format!(
                "{} killed its own worker: if that is its timeout, make it longer than the slowest request",
                text::name(sender)
            )
        }
        (Ending::Killed { signal, .. }, Some((_, sender))) => {
            format!("find out why {} sends {} to {name}", text::name(sender), text::signal(signal))
        }
        (Ending::Killed { signal, .. }, None) => {
            format!(
                "find the crash of {name} ({}): its log, or `coredumpctl info {}`",
                text::signal(signal),
                actor.name.pid
            )
        }
        (_, Some((number, sender))) => format!(
            "{} stopped {name} with {}: let it finish its requests before it exits",
            text::name(sender),
            text::signal(number)
        ),
        _ => format!("read the log of {name} at that second: it ended by itself"),
    }
}

#[cfg(test)]
mod tests {
    use super::{ended_it, root};
    use crate::{
        model::{
            cause::Cause,
            host::{Actor, Ending, Fate, Name},
            verdict::{Root, RootKind},
        },
        trace::roots::samples::failure,
    };

    fn actor(ending: Ending) -> Actor {
        Actor { name: Name { pid: 412, comm: "python3".into() }, parent: 400, worker: false, ending }
    }

    fn killed(by: u32) -> Ending {
        Ending::Killed { signal: by, core: false }
    }

    fn fate(oom_ns: Option<u64>, signal: Option<(u64, u32, u32)>) -> Fate {
        let sender = |(time, number, pid)| (time, number, Name { pid, comm: "bash".into() });
        Fate { oom_ns, signal: signal.map(sender) }
    }

    fn said(ending: Ending, fate: Option<&Fate>) -> (RootKind, String) {
        let found = root(&failure(Cause::ClosedBeforeResponse), &actor(ending), fate, 1_000).expect("a reason");
        (found.root.kind, found.root.text)
    }

    #[test]
    fn how_it_ended() {
        use RootKind::{ApplicationClosed, OomKilled, ProcessExited, ProcessKilled};
        let by_bash = fate(None, Some((900, 9, 399)));
        for (ending, fate, kind, text) in [
            (killed(9), None, ProcessKilled, "python3[412] was killed by SIGKILL with the request unanswered"),
            (
                killed(9),
                Some(&by_bash),
                ProcessKilled,
                "python3[412] was killed by SIGKILL from bash[399] with the request unanswered",
            ),
            // The signal that was sent is not the one that ended it.
            (
                killed(11),
                Some(&by_bash),
                ProcessKilled,
                "python3[412] was killed by SIGSEGV with the request unanswered",
            ),
            (
                killed(9),
                Some(&fate(Some(990), None)),
                OomKilled,
                "python3[412] was killed by the kernel for memory (OOM) with the request unanswered",
            ),
            (Ending::Exited(1), None, ProcessExited, "python3[412] exited with code 1 with the request unanswered"),
            (
                Ending::Alive,
                None,
                ApplicationClosed,
                "python3[412] closed the connection without answering, and was not about to exit",
            ),
        ] {
            assert_eq!(said(ending, fate), (kind, text.to_owned()));
        }
    }

    #[test]
    fn memory_does_not_explain_another_death() {
        let fate = fate(Some(990), None);
        assert_eq!(said(killed(11), Some(&fate)).0, RootKind::ProcessKilled);
        assert_eq!(said(Ending::Exited(0), Some(&fate)).0, RootKind::ProcessExited);
        // A victim of an earlier process of that number.
        let found = root(&failure(Cause::ClosedBeforeResponse), &actor(killed(9)), Some(&fate), 200_000_000_000);
        assert_eq!(found.expect("a reason").root.kind, RootKind::ProcessKilled);
    }

    #[test]
    fn the_same_ports_served_another_connection_before() {
        let mut failure = failure(Cause::ClosedBeforeResponse);
        failure.connection.connected_ns = Some(500);
        failure.time_ns = 10_000_000;
        assert!(!ended_it(&failure, 400), "closed before this connection was made");
        assert!(ended_it(&failure, 600));
        assert!(!ended_it(&failure, 20_000_000), "closed long after it had ended");
    }

    #[test]
    fn unread_data_says_more_than_a_close() {
        let mut failure = failure(Cause::ResetBeforeResponse);
        failure.root = Some(Root { kind: RootKind::UnreadData, text: String::new(), process: None });
        assert!(root(&failure, &actor(Ending::Alive), None, 1_000).is_none());
        let found = root(&failure, &actor(killed(9)), None, 1_000).expect("a death says more");
        assert_eq!(found.root.kind, RootKind::ProcessKilled);
    }
}
