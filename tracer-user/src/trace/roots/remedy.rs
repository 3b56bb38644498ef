//! What to do about a process of this host that ended.

use super::{program::Program, text};
use crate::model::host::{Actor, Ending, Fate, Name};

/// Where nobody serves any more: a process that its supervisor has ended need not have been at work.
pub(super) fn again(actor: &Actor, fates: &impl Fn(u32) -> Option<Fate>, ended_ns: u64) -> String {
    let fate = fates(actor.name.pid);
    let is_master = |pid: u32| actor.master.as_ref().is_some_and(|master| master.pid == pid);
    let why = match text::sender(actor, fate.as_ref(), ended_ns) {
        Some((signal, sender)) if is_master(sender.pid) && !text::oom(actor.ending, fate.as_ref(), ended_ns) => {
            format!("find out why {} ended it with {}", text::name(sender), text::signal(signal))
        }
        _ => hint(actor, fates, ended_ns),
    };
    format!("start {} again; {why}", actor.name.comm)
}

/// By what ended it, and by whom it was told to.
pub(super) fn hint(actor: &Actor, fates: &impl Fn(u32) -> Option<Fate>, ended_ns: u64) -> String {
    const SIGKILL: u32 = 9;
    const SIGABRT: u32 = 6;
    const SIGSEGV: u32 = 11;
    let fate = fates(actor.name.pid);
    let fate = fate.as_ref();
    let name = text::name(&actor.name);
    let program = Program::of(Some(&actor.name));
    let sender = text::sender(actor, fate, ended_ns).filter(|(_, sender)| sender.pid != actor.name.pid);
    let by_master = actor.master.as_ref().filter(|master| sender.is_some_and(|(_, by)| by.pid == master.pid));
    if text::oom(actor.ending, fate, ended_ns) {
        let Name { pid, comm } = &actor.name;
        return format!("give {comm} more memory, or let it use less: the kernel killed pid {pid}");
    }
    if let Some((signal, by)) = text::order(actor, fates, ended_ns) {
        let master = actor.master.as_ref().map_or_else(String::new, text::name);
        let finish = program.finish().map_or_else(String::new, |setting| format!(" ({setting})"));
        return format!(
            "{} told {master} to end or reload with {}: let its workers finish their requests first{finish}",
            text::name(&by),
            text::signal(signal)
        );
    }
    if let Some(master) = by_master {
        let timeout = program.timeout().unwrap_or("its timeout");
        let did = if matches!(actor.ending, Ending::Killed { .. }) { "killed" } else { "ended" };
        return format!(
            "{} {did} its own worker: if that is {timeout}, make it longer than the slowest request",
            text::name(master)
        );
    }
    match (actor.ending, sender) {
        (Ending::Killed { signal: signal @ (SIGKILL | SIGABRT | SIGSEGV), .. }, Some((_, sender))) => {
            format!("find out why {} sends {} to {name}", text::name(sender), text::signal(signal))
        }
        (Ending::Alive, _) => format!("read the log of {name} at that second"),
        (_, Some((number, sender))) => {
            let finish = program.finish().map_or_else(String::new, |setting| format!(" ({setting})"));
            format!(
                "{} stopped {name} with {}: let it finish its requests before it exits{finish}",
                text::name(sender),
                text::signal(number)
            )
        }
        (Ending::Killed { signal, .. }, None) if text::sender(actor, fate, ended_ns).is_some() => {
            format!("read the log of {name} at that second: it sent itself {}", text::signal(signal))
        }
        // Nobody crashes of it.
        (Ending::Killed { signal: SIGKILL, .. }, None) => {
            format!("find out who sends SIGKILL to {name}: the log of whatever manages it, or the kernel's")
        }
        (Ending::Killed { signal, .. }, None) => {
            let pid = actor.name.pid;
            format!("find the crash of {name} ({}): its log, or `coredumpctl info {pid}`", text::signal(signal))
        }
        (Ending::Exited(_), None) => format!("read the log of {name} at that second: it ended by itself"),
    }
}
