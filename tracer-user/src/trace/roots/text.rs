//! Processes, signals and times in words.

use std::borrow::Cow;

use crate::{
    model::host::{Actor, Ending, Fate, Name},
    record::ProcessFate,
};

/// Signals by number, as on all Linux architectures but alpha, mips, parisc and sparc: signal(7).
const SIGNALS: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];
/// A signal or a kill for memory this long before the end has nothing to do with it.
const MEMORY_NS: u64 = 120_000_000_000;

/// A signal is told of once it was delivered: by then its receiver may have died of it (__send_signal_locked(),
/// kernel/signal.c, v6.12).
const SENT_NS: u64 = 2_000_000;
/// What it takes to exit is not worth telling, below that.
const LONG_NS: u64 = 1_000_000_000;
/// A master that was told to end ends its workers within this time.
const ORDER_NS: u64 = 60_000_000_000;

pub(super) fn signal(number: u32) -> Cow<'static, str> {
    match (number as usize).checked_sub(1).and_then(|index| SIGNALS.get(index)) {
        Some(name) => Cow::Borrowed(name),
        None => Cow::Owned(format!("signal {number}")),
    }
}

/// What was seen so long before a failure is told to be that old.
const OLD_NS: u64 = 300_000_000;

/// ` (as seen 1.2 s before)`, where that is worth saying.
pub(super) fn seen_before(failure_ns: u64, seen_ns: u64) -> String {
    let before_ns = failure_ns.saturating_sub(seen_ns);
    if before_ns < OLD_NS { String::new() } else { format!(" (as seen {} before)", duration(before_ns)) }
}

/// `python3[412]`
pub(super) fn name(name: &Name) -> String {
    format!("{}[{}]", name.comm, name.pid)
}

/// `gunicorn[977], a worker of gunicorn[970],`
pub(super) fn who(actor: &Actor) -> String {
    worker_of(&actor.name, actor.master.as_ref())
}

/// The same of a process that need not be at its end.
pub(super) fn worker_of(process: &Name, master: Option<&Name>) -> String {
    match master {
        Some(master) => format!("{}, a worker of {},", name(process), name(master)),
        None => name(process),
    }
}

/// It was killed for memory: the kernel chose it, and SIGKILL ended it.
pub(super) fn oom(ending: Ending, fate: Option<&Fate>, ended_ns: u64) -> bool {
    matches!(ending, Ending::Killed { signal: 9, .. })
        && fate.and_then(|fate| fate.oom_ns).is_some_and(|oom_ns| before(oom_ns, ended_ns))
}

/// Nobody answers this one by exiting.
const SIGKILL: u32 = 9;

/// Who sent the signal that ended it, or asked it to end.
pub(super) fn sender<'a>(actor: &Actor, fate: Option<&'a Fate>, ended_ns: u64) -> Option<(u32, &'a Name)> {
    let (time_ns, signal, sender) = fate?.signal.as_ref()?;
    let fits = match actor.ending {
        Ending::Killed { signal: by, .. } => by == *signal,
        Ending::Exited(_) => *signal != SIGKILL && asks_to_end(&actor.name, *signal),
        Ending::Alive => false,
    };
    (fits && before(*time_ns, ended_ns)).then_some((*signal, sender))
}

/// A Java virtual machine answers SIGQUIT with a list of its threads, and goes on.
pub(super) fn asks_to_end(process: &Name, signal: u32) -> bool {
    const SIGQUIT: u32 = 3;
    !(signal == SIGQUIT && process.comm == "java")
}

fn before(time_ns: u64, ended_ns: u64) -> bool {
    time_ns <= ended_ns + SENT_NS && ended_ns.saturating_sub(time_ns) < MEMORY_NS
}

/// `was killed by SIGKILL from bash[400]`, `exited with code 1`; None: it did not end.
pub(super) fn end(actor: &Actor, fate: Option<&Fate>, ended_ns: u64) -> Option<String> {
    let sent = sender(actor, fate, ended_ns);
    let own = sent.is_some_and(|(_, sender)| sender.pid == actor.name.pid);
    let sent = sent.filter(|_| !own);
    Some(match actor.ending {
        Ending::Alive => return None,
        Ending::Killed { .. } if oom(actor.ending, fate, ended_ns) => {
            "was killed by the kernel for memory (OOM)".to_owned()
        }
        Ending::Killed { signal: number, core } => {
            let by = match sent {
                Some((_, sender)) => format!(" from {}", name(sender)),
                None => String::new(),
            };
            let its = if own { "its own " } else { "" };
            let core = if core { ", core dumped" } else { "" };
            format!("was killed by {its}{}{by}{core}", signal(number))
        }
        Ending::Exited(code) => {
            let after = sent.map_or_else(String::new, |(number, sender)| {
                let sent_ns = fate.and_then(|fate| fate.signal.as_ref()).map_or(ended_ns, |(time_ns, ..)| *time_ns);
                let ago_ns = ended_ns.saturating_sub(sent_ns);
                let told = format!("after {} from {}", signal(number), name(sender));
                if ago_ns < LONG_NS { format!(" {told}") } else { format!(" ({} {told})", duration(ago_ns)) }
            });
            format!("exited with code {code}{after}")
        }
    })
}

/// The signal that a master was told to end or reload by, before it ended its workers; and who sent it. None: the worker's end
/// was not its master's doing. A worker that crashes soon after a reload does so for another reason.
pub(super) fn order(actor: &Actor, fate: &impl Fn(u32) -> Option<Fate>, ended_ns: u64) -> Option<(u32, Name)> {
    let master = actor.master.as_ref()?;
    if actor.ending != Ending::Exited(0) && !by_master(actor, master, fate(actor.name.pid).as_ref(), ended_ns) {
        return None;
    }
    let fate = fate(master.pid)?;
    let recent = |time_ns: u64| time_ns <= ended_ns && ended_ns - time_ns < ORDER_NS;
    let told = [fate.signal, fate.reload]
        .into_iter()
        .flatten()
        .filter(|(time_ns, _, sender)| recent(*time_ns) && sender.pid != master.pid && sender.pid != actor.name.pid);
    told.max_by_key(|(time_ns, ..)| *time_ns).map(|(_, signal, sender)| (signal, sender))
}

/// The signal that ended it, or that it ended after, came from its master.
fn by_master(actor: &Actor, master: &Name, fate: Option<&Fate>, ended_ns: u64) -> bool {
    let reload = fate.and_then(|fate| fate.reload.as_ref()).filter(|(time_ns, ..)| {
        matches!(actor.ending, Ending::Exited(_)) && *time_ns <= ended_ns && ended_ns - *time_ns < ORDER_NS
    });
    let reload = reload.map(|(_, _, sender)| sender);
    let sender = sender(actor, fate, ended_ns).map(|(_, sender)| sender);
    sender.into_iter().chain(reload).any(|sender| sender.pid == master.pid)
}

/// The process as records name it.
pub(super) fn process(actor: &Actor, fate: Option<&Fate>, ended_ns: u64) -> ProcessFate {
    let Name { pid, comm } = actor.name.clone();
    let (code, killed) = match actor.ending {
        Ending::Alive => (None, None),
        Ending::Exited(code) => (Some(code), None),
        Ending::Killed { signal: number, .. } => (None, Some(signal(number))),
    };
    let ended = actor.ending != Ending::Alive;
    ProcessFate { pid, comm, code, signal: killed, oom: ended.then(|| oom(actor.ending, fate, ended_ns)) }
}

/// Of what takes microseconds or a few hundred milliseconds: `230 µs`, `4.1 ms`.
pub(super) fn round_trip(microseconds: u32) -> String {
    match microseconds {
        0..1000 => format!("{microseconds} µs"),
        1000..10_000 => format!("{}.{} ms", microseconds / 1000, microseconds % 1000 / 100),
        _ => format!("{} ms", microseconds / 1000),
    }
}

/// `once`, `2 times`
pub(super) fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// `40 ms`, `2.1 s`, `3 min`, `5 h`
pub(super) fn duration(nanoseconds: u64) -> String {
    let milliseconds = nanoseconds / 1_000_000;
    match milliseconds {
        0..1000 => format!("{milliseconds} ms"),
        1000..120_000 => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
        120_000..7_200_000 => format!("{} min", milliseconds / 60_000),
        _ => format!("{} h", milliseconds / 3_600_000),
    }
}
