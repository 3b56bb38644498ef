//! Control groups of version 2 that are frozen, and thawed.
//!
//! Hook: raw tracepoints `cgroup:cgroup_freeze` and `cgroup:cgroup_unfreeze`, `(struct cgroup *, const char *)`, 5.2 and
//! later. Context: whoever writes to `cgroup.freeze`, once for each group below. Cost: nothing otherwise.

use aya_ebpf::{
    bindings::BPF_NOEXIST, helpers::bpf_ktime_get_ns, macros::raw_tracepoint, programs::RawTracePointContext,
};

use crate::{maps::FREEZES, read, settings::setting};

#[raw_tracepoint(tracepoint = "cgroup_freeze")]
pub(crate) fn cgroup_freeze(context: RawTracePointContext) -> i32 {
    // SAFETY: no arguments, no effects.
    let time_ns = unsafe { bpf_ktime_get_ns() };
    // An LRU map: there is always room. What is frozen already stays so since the first time.
    let _ = FREEZES.insert(id(context.arg(0)), time_ns, u64::from(BPF_NOEXIST));
    0
}

#[raw_tracepoint(tracepoint = "cgroup_unfreeze")]
pub(crate) fn cgroup_unfreeze(context: RawTracePointContext) -> i32 {
    let _ = FREEZES.remove(id(context.arg(0)));
    0
}

/// The number of its directory.
#[inline(always)]
fn id(group: u64) -> u64 {
    let node: u64 = read::kernel(group, setting!(offsets.cgroup_node));
    read::kernel(node, setting!(offsets.node_id))
}
