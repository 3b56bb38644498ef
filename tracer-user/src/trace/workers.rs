//! The traced processes: found at the start, announced by the kernel afterwards; their binaries get the uprobes.

use std::borrow::Cow;

use aya::maps::{HashMap, MapData};
use tracer_common::process::{Process, TRACED};

use crate::{
    context::process::{ProcessFacts, find},
    diagnose::engine::Visible,
    model::observation::{Name, Observation, State},
    probe::attach::Probes,
};

/// Whom to trace.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) names: Vec<String>,
    pub(crate) pids: Vec<u32>,
}

impl Target {
    /// The same question as the kernel programs ask (tracer-ebpf, owner.rs).
    pub(super) fn wants(&self, process: &ProcessFacts) -> bool {
        if process.pid == std::process::id() {
            return false;
        }
        if self.pids.contains(&process.pid) || self.pids.contains(&process.parent) {
            return true;
        }
        let executable = process.executable_name();
        self.names.iter().any(|name| {
            let name: String = name.chars().take(15).collect();
            name == process.comm || Some(&name) == executable.as_ref()
        })
    }

    /// All processes of this kind that run now.
    pub(crate) fn running(&self) -> Vec<ProcessFacts> {
        let mut found = find(|process| self.wants(process));
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
            eprintln!("why502: cannot note process {}: {error}", process.pid);
        }
    }
}

/// Attaches the uprobes for one process; says what of its words is heard.
pub(crate) fn listen(probes: &mut Probes, pid: u32) -> Visible {
    probes.attach_nginx(pid).map_or_else(
        |_| Visible::default(),
        |binary| Visible { complaints: binary.no_complaints.is_none(), pages: binary.no_status.is_none() },
    )
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
