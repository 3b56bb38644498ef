//! `why502 doctor`: can it run here; each observation, the hook that serves it, what is missing and what that hides.
//!
//! It tries the real thing: loads and attaches everything, looks, and lets go of it again.

mod report;

use std::time::Duration;

use crate::{
    context::{host, process::ProcessFacts},
    kernel::{facts::KernelFacts, permission::missing_capabilities},
    model::observation::Observation,
    nginx::{
        config::Advisor,
        log::{logs::Logs, tail::Start},
    },
    probe::plan::{misfits, plan},
    settings::DoctorSettings,
    trace::{Prepared, Target, Wanted, listen, observe, observe_configuration, observe_texts, possible, prepare},
};

/// How long it waits for the files of nginx's configuration.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was found.
#[derive(Debug)]
pub struct Report {
    pub kernel: String,
    pub missing_capabilities: Vec<&'static str>,
    /// What keeps it from giving verdicts at all.
    pub problems: Vec<String>,
    pub observations: Vec<Observation>,
    pub processes: Vec<ProcessFacts>,
    /// Details that this kernel's BTF does not have.
    pub missing_members: Vec<String>,
    /// Places in the kernel that are called with other arguments than the programs count on.
    pub misfits: Vec<String>,
    /// Programs at work, and how many instructions the verifier looked at.
    pub programs: Vec<(&'static str, Option<u32>)>,
}

impl Report {
    pub fn verdicts_possible(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Looks at this host.
pub fn examine(settings: &DoctorSettings) -> Report {
    let target = Target::new(&settings.processes, &settings.pids);
    let mut report = Report {
        kernel: host::kernel(),
        missing_capabilities: missing_capabilities(),
        problems: Vec::new(),
        observations: Vec::new(),
        processes: target.running(),
        missing_members: Vec::new(),
        misfits: Vec::new(),
        programs: Vec::new(),
    };
    let wanted = Wanted {
        names: &target.names,
        pids: &target.pids,
        nginx_witness: settings.nginx_witness,
        avoided: &settings.avoided,
        debug_probes: false,
    };
    match possible(wanted.names, wanted.pids).and_then(|()| prepare(wanted)) {
        Ok(Prepared { facts, plan, mut probes }) => {
            report.misfits = misfits(&facts);
            report.programs = probes.verified();
            report.missing_members = facts.missing_members;
            report.observations = probes.observations(&plan);
            if settings.nginx_witness {
                let mut logs = Logs::default();
                for process in &report.processes {
                    listen(&mut probes, process.pid);
                    logs.follow(process.pid, Start::End);
                    if logs.misses_lines(process.pid) {
                        probes.hear_lines(process.pid);
                    }
                }
                observe(&mut report.observations, &probes);
                observe_texts(&mut report.observations, &report.processes, &logs, probes.hearing());
            }
        }
        Err(error) => {
            // The advice is the outermost part of the error; what and why follow it.
            let parts: Vec<String> = error.chain().map(ToString::to_string).collect();
            report.problems.push(parts.split_first().map_or_else(String::new, |(advice, why)| {
                if why.is_empty() { advice.clone() } else { format!("{} ({advice})", why.join(": ")) }
            }));
            // What this kernel would offer can be said even without permission.
            if let Ok(facts) = KernelFacts::read() {
                report.observations = plan(&facts, &settings.avoided, settings.nginx_witness).promises();
            }
        }
    }
    let mut advisor = Advisor::default();
    observe_configuration(&mut report.observations, &report.processes, &mut advisor, PATIENCE);
    report
}
