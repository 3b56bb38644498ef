//! The traced processes: found at the start, announced by the kernel afterwards; their binaries get the uprobes.

use std::{borrow::Cow, time::Duration};

use aya::maps::{HashMap, MapData};
use tracer_common::{
    process::{Process, TRACED},
    settings::MAX_PIDS,
};

use crate::{
    context::{
        process::{ProcessFacts, Role, Running, executable_name},
        stat::Stat,
    },
    diagnose::engine::Visible,
    exit::say,
    model::observation::{Name, Observation, State},
    nginx::{
        config::Advisor,
        log::logs::{Logs, Reach},
    },
    probe::{attach::Probes, lines::Hearing},
};

/// Whom to trace.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) names: Vec<String>,
    pub(crate) pids: Vec<u32>,
}

impl Target {
    /// Programs of these names, and these processes. One that is no nginx (a container's init, a supervisor) stands for the nginx
    /// that runs below it, too.
    pub(crate) fn new(names: &[String], pids: &[u32]) -> Self {
        let mut target = Self { names: names.to_vec(), pids: pids.to_vec() };
        let strange = |pid: &u32| ProcessFacts::read(*pid).is_some_and(|facts| !facts.looks_like_nginx());
        let inits: Vec<u32> = pids.iter().copied().filter(strange).collect();
        if !inits.is_empty() {
            let running = Running::read();
            let below = |stat: &Stat| running.ancestors(stat).any(|pid| inits.contains(&pid));
            let masters = running.find(|pid, stat| below(stat) && !pids.contains(&pid));
            let masters = masters.into_iter().filter(|facts| facts.role == Role::Master).map(|facts| facts.pid);
            target.pids.extend(masters.take(MAX_PIDS.saturating_sub(pids.len())));
        }
        target
    }

    /// The same question as the kernel programs ask (tracer-ebpf, owner.rs).
    fn wants(&self, pid: u32, stat: &Stat, running: &Running) -> bool {
        if pid == std::process::id() {
            return false;
        }
        if self.pids.contains(&pid) || self.descends(stat, running) {
            return true;
        }
        let names = || self.names.iter().map(|name| name.chars().take(15).collect::<String>());
        names().any(|name| name == stat.comm)
            || !self.names.is_empty()
                && executable_name(pid).is_some_and(|executable| names().any(|name| name == executable))
    }

    /// Its parent was given, or that one's parent (a master that another one started in a binary upgrade), all of the same name.
    fn descends(&self, stat: &Stat, running: &Running) -> bool {
        let same = |pid: &u32| running.get(*pid).is_some_and(|between| between.comm == stat.comm);
        running.ancestors(stat).take_while(same).any(|pid| self.pids.contains(&pid))
    }

    /// All processes of this kind that run now.
    pub(crate) fn running(&self) -> Vec<ProcessFacts> {
        let running = Running::read();
        let mut found = running.find(|pid, stat| self.wants(pid, stat, &running));
        found.sort_by_key(|process| process.pid);
        found
    }
}

/// Tells the kernel programs about processes that run already, so that their forks and exits are seen. One that is gone
/// by now does no harm: its number is judged anew at exec.
pub(super) fn seed(map: &mut HashMap<MapData, u32, Process>, running: &[ProcessFacts]) {
    for process in running {
        let entry = Process { verdict: TRACED, ..Process::default() };
        if let Err(error) = map.insert(process.pid, entry, 0) {
            say(&format!("cannot note process {}: {error}", process.pid));
        }
    }
}

/// Attaches the uprobes for one process; says what of its words is heard.
pub(crate) fn listen(probes: &mut Probes, pid: u32) -> Visible {
    probes.attach_nginx(pid).map_or_else(
        |_| Visible::default(),
        |binary| Visible {
            complaints: binary.no_complaints.is_none(),
            pages: binary.no_status.is_none(),
            lines: false,
        },
    )
}

/// How well the configurations of the workers that run are known; `patience` is for files that are still being read.
pub(crate) fn observe_configuration(
    observations: &mut [Observation],
    running: &[ProcessFacts],
    advisor: &mut Advisor,
    patience: Duration,
) {
    let workers = running.iter().filter(|process| process.role == Role::Worker).map(|process| process.pid);
    let workers: Vec<u32> = workers.collect();
    for observation in observations.iter_mut().filter(|observation| observation.name == Name::Configuration) {
        *observation = advisor.observation(&workers, patience);
    }
}

/// What the uprobes now serve.
pub(crate) fn observe(observations: &mut [Observation], probes: &Probes) {
    let binaries: Vec<_> = probes.binaries().collect();
    if binaries.is_empty() {
        return;
    }
    for observation in observations {
        let failed: Vec<String> = binaries
            .iter()
            .filter_map(|binary| {
                let reason = match observation.name {
                    Name::NginxCause => &binary.no_complaints,
                    Name::NginxStatus => &binary.no_status,
                    _ => return None,
                };
                Some(format!("{}: {}", binary.path.display(), reason.as_ref()?))
            })
            .collect();
        if !matches!(observation.name, Name::NginxCause | Name::NginxStatus) {
            continue;
        }
        observation.state = match failed.len() {
            0 => State::Full,
            count if count < binaries.len() => State::Partial,
            _ => State::None,
        };
        observation.missing = (!failed.is_empty()).then(|| Cow::Owned(failed.join("; ")));
    }
}

/// Whose lines can be read along, and where the others go; `hearing` takes those as they are written.
pub(crate) fn observe_texts(
    observations: &mut [Observation],
    running: &[ProcessFacts],
    logs: &Logs,
    hearing: &Hearing,
) {
    let Some(observation) = observations.iter_mut().find(|observation| observation.name == Name::NginxLogText) else {
        return;
    };
    let mut workers: Vec<&ProcessFacts> = running.iter().filter(|process| process.role == Role::Worker).collect();
    if workers.is_empty() {
        // `master_process off`, or a title that is not nginx's.
        workers = running.iter().filter(|process| process.role == Role::Other).collect();
    }
    if workers.is_empty() {
        return;
    }
    let mut files = Vec::new();
    let mut reasons: Vec<(String, Vec<u32>)> = Vec::new();
    let mut silent = 0;
    for worker in &workers {
        let Reach { files: of_worker, elsewhere } =
            logs.reach(worker.pid).unwrap_or_else(|| Reach { files: Vec::new(), elsewhere: Vec::new() });
        let also = if of_worker.is_empty() { "logs to" } else { "logs also to" };
        silent += usize::from(of_worker.is_empty());
        let mut texts: Vec<String> = elsewhere.iter().map(|place| format!("{also} {}", place.text())).collect();
        if of_worker.is_empty() && texts.is_empty() {
            texts.push("has no error log open that can be read".to_owned());
        }
        for text in texts {
            match reasons.iter_mut().find(|(known, _)| *known == text) {
                Some((_, pids)) => pids.push(worker.pid),
                None => reasons.push((text, vec![worker.pid])),
            }
        }
        files.extend(of_worker);
    }
    files.sort_unstable();
    files.dedup();
    let reasons: Vec<String> = reasons.iter().map(|(text, pids)| format!("{} {text}", named(pids))).collect();
    let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
    let tail = (!files.is_empty()).then(|| format!("tail {}", files.join(", ")));
    let taken = hearing.hook();
    observation.state = match silent {
        _ if reasons.is_empty() || taken.is_some() => State::Full,
        all if all == workers.len() => State::None,
        _ => State::Partial,
    };
    let hooks: Vec<String> = tail.clone().into_iter().chain(taken.map(str::to_owned)).collect();
    observation.hook = (!hooks.is_empty()).then(|| Cow::Owned(hooks.join(", ")));
    observation.missing = (observation.state != State::Full).then(|| {
        let why = hearing.impossible().map(|why| format!(" ({why})")).unwrap_or_default();
        Cow::Owned(format!("{}: no server, host and referrer{why}", reasons.join("; ")))
    });
    let hook: Option<Cow<'static, str>> = tail.map(Cow::Owned);
    for observation in observations.iter_mut().filter(|observation| observation.state == State::None) {
        // Where no uprobe hears nginx, its logs speak (`fallback`).
        let instead = match (observation.name, &hook) {
            (Name::NginxCause, Some(hook)) => (hook.clone(), "lines of the error log instead, likely at most"),
            (Name::NginxStatus, Some(_)) if logs.has_access() => (
                Cow::Borrowed("tail of the access log"),
                "rows of the access log instead, where they can mean one request",
            ),
            _ => continue,
        };
        observation.state = State::Partial;
        observation.hook = Some(instead.0);
        let why = observation.missing.take().unwrap_or_default();
        observation.missing = Some(Cow::Owned(format!("{why}; {}", instead.1)));
    }
}

/// `worker 123`, or `workers 123, 124 and 6 more`.
fn named(pids: &[u32]) -> String {
    const SHOWN: usize = 3;
    let shown: Vec<String> = pids.iter().take(SHOWN).map(u32::to_string).collect();
    match pids.len() {
        1 => format!("worker {}", shown.join("")),
        count if count <= SHOWN => format!("workers {}", shown.join(", ")),
        count => format!("workers {} and {} more", shown.join(", "), count - SHOWN),
    }
}
