//! Everything before the first event: may we, can we, which offsets and hooks; then load.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use tracer_common::settings::{COMM_LEN, MAX_NAMES, MAX_PIDS, Settings};

use crate::{
    collect::drop,
    exit::advise,
    kernel::{facts::KernelFacts, heap, permission::missing_capabilities},
    probe::{
        attach::Probes,
        begun::Begun,
        hook::Avoided,
        plan::{Plan, plan},
    },
};

/// The programs, loaded and attached.
pub(crate) struct Prepared {
    pub(crate) facts: KernelFacts,
    pub(crate) plan: Plan,
    pub(crate) probes: Probes,
}

/// Whom the kernel programs must trace.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) names: &'a [String],
    pub(crate) pids: &'a [u32],
    pub(crate) nginx_witness: bool,
    pub(crate) avoided: &'a [Avoided],
    pub(crate) debug_probes: bool,
}

/// Whether it may trace, and whom: before anything is opened or written.
pub fn possible(names: &[String], pids: &[u32]) -> anyhow::Result<()> {
    let missing = missing_capabilities();
    if !missing.is_empty() {
        let error = anyhow!("cannot trace: it takes root, and this process lacks {}", missing.join(", "));
        return Err(advise(error, "run it as root: sudo why502"));
    }
    if names.len() > MAX_NAMES || pids.len() > MAX_PIDS {
        let error = anyhow!("at most {MAX_NAMES} --process and {MAX_PIDS} --pid can be given");
        return Err(advise(error, "give the pid of the master instead of those of its workers"));
    }
    if let Some(pid) = pids.iter().find(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
        let error = anyhow!("there is no process {pid} to trace");
        return Err(advise(
            error,
            "`pgrep -ao nginx` shows nginx's master; without --pid every nginx is traced, also one that starts later",
        ));
    }
    Ok(())
}

/// Loads and attaches what is [`possible`], or says what is in the way and what to do.
pub(crate) fn prepare(wanted: Wanted<'_>) -> anyhow::Result<Prepared> {
    heap::share();
    // Meanwhile, for each takes as long as the other.
    let begun = Begun::begin();
    let facts = KernelFacts::read().context("cannot learn the kernel's data structures").map_err(|error| {
        advise(error, "a kernel with BTF is needed (CONFIG_DEBUG_INFO_BTF=y; 5.10 or later of most distributions)")
    })?;
    let plan = plan(&facts, wanted.avoided, wanted.nginx_witness);
    let probes = Probes::load(&plan, &settings(wanted, &facts, &plan), begun).map_err(|error| {
        advise(error.into(), "`why502 doctor` says what this kernel offers; lockdown or a container may forbid it")
    })?;
    heap::give_back();
    Ok(Prepared { facts, plan, probes })
}

fn settings(wanted: Wanted<'_>, facts: &KernelFacts, plan: &Plan) -> Settings {
    let mut settings = Settings {
        offsets: facts.offsets,
        own_pid: std::process::id(),
        reset_has_reason: u32::from(plan.reset_has_reason),
        drop_reasons: drop::wanted(&facts.drop_reasons),
        drop_has_reason: u32::from(plan.drop_has_reason),
        drop_not_specified: drop::not_specified(&facts.drop_reasons),
        victim_is_task: u32::from(plan.victim_is_task),
        debug: u32::from(wanted.debug_probes),
        ..Settings::DEFAULT
    };
    for (slot, name) in settings.names.iter_mut().zip(wanted.names) {
        let mut bytes = [0; COMM_LEN];
        let length = name.len().min(COMM_LEN - 1);
        bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
        let bytes = u128::from_le_bytes(bytes);
        *slot = [bytes as u64, (bytes >> 64) as u64];
        settings.name_count += 1;
    }
    for (slot, pid) in settings.pids.iter_mut().zip(wanted.pids) {
        *slot = *pid;
        settings.pid_count += 1;
    }
    settings
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tracer_common::settings::Offsets;

    use super::{Wanted, plan, settings};
    use crate::kernel::facts::KernelFacts;

    #[test]
    fn names_are_cut_as_the_kernel_cuts_them() {
        let facts = KernelFacts {
            offsets: Offsets::ABSENT,
            missing_members: Vec::new(),
            tracepoints: BTreeMap::new(),
            functions: BTreeMap::new(),
            kprobes: false,
            reset_reasons: BTreeMap::new(),
            drop_reasons: BTreeMap::new(),
        };
        let names = ["nginx".to_owned(), "a-very-long-process-name".to_owned()];
        let wanted = Wanted { names: &names, pids: &[7], nginx_witness: true, avoided: &[], debug_probes: false };
        let settings = settings(wanted, &facts, &plan(&facts, &[], true));
        let name = |index: usize| settings.names[index].map(u64::to_le_bytes).concat();
        assert_eq!(name(0), b"nginx\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(name(1), b"a-very-long-pro\0");
        assert_eq!((settings.name_count, settings.pid_count, settings.pids[0]), (2, 1, 7));
    }
}
