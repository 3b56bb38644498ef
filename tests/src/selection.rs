//! Which scenarios run where: all of them with the installed nginx on the host, of the others what could differ there.

use crate::scenarios::{self, Entry};

/// What runs in a VM: what the kernel, its hooks or the layout of its structures could make a difference to. A name, or a
/// family that ends with a slash. An emulated processor is ten times slower, and faults that are a race between two processes
/// (a RST before the first write) cannot be injected reliably on it.
const IN_A_VM: &[&str] = &[
    "connect/refused",
    "connect/timeout_filtered",
    "connect/timeout_kernel",
    "connect/rejected_by_icmp_port",
    "connect/icmp_with_its_sender",
    "connect/icmp_of_a_firewall",
    "connect/ports_exhausted",
    "firewall/",
    "nat/published_port",
    "nat/container",
    "remote/",
    "unix/missing",
    "unix/closed",
    "unix/processes_that_end",
    "unix/listeners_that_end",
    "unix/queue_of_one_that_ends",
    "unix/full_with_numbers",
    "roots/swallowed_by_a_filter",
    "roots/processes_that_end",
    "roots/killed_for_memory",
    "roots/killed_with_its_queue",
    "roots/worker_killed_by_its_master",
    "roots/nobody_listens_any_more",
    "roots/one_family_of_two",
    "roots/who_listened",
    "roots/accept_queue_full",
    "roots/full_for_the_only_syn",
    "roots/full_at_the_final_ack",
    "roots/syn_queue_full",
    "roots/syn_flood",
    "roots/queue_of_nginx_itself",
    "roots/stands_still",
    "roots/leaves_with_nginx",
    "tls/peer_reset",
    "response/closed",
    "response/closed_with_unread_request",
    "response/reset",
    "response/timeout_kernel",
    "keepalive/stale_fin_post",
    "keepalive/stale_rst_post",
    "body/reset",
    "mixed/eight_fates",
    "witness/log_to_stderr",
    "kernel_only/reset",
    "kernel_only/unix_at_once",
    "kernel_only/unix_unread",
    "kernel_only/bound_to_nothing",
    "kernel_only/no_descriptor_left",
    "kernel_only/unreachable_at_once",
    "negative/shapes_of_answers",
    "negative/rst_after_answer",
    "negative/client_leaves",
    "healthy/pool",
    "capture/kill_9_leaves_whole_lines",
    "commands/doctor",
];

/// What is seen through other hooks where the best are missing.
const BY_HOOKS: &[&str] = &[
    "connect/icmp_with_its_sender",
    "firewall/rejected",
    "unix/missing",
    "unix/closed",
    "unix/reset_with_unread_request",
    "unix/processes_that_end",
    "roots/accept_queue_full",
    "roots/queue_of_nginx_itself",
    "witness/log_to_stderr",
    "kernel_only/unix_at_once",
    "kernel_only/unix_unread",
    "kernel_only/unreachable_at_once",
];
/// Hook modes besides the best.
pub const OTHER_HOOKS: [&str; 2] = ["no-fentry", "no-fentry,no-kprobe"];

/// What tells of the host, of its kernel or of why502 itself: another nginx does nothing else there.
const OF_THE_HOST: &[&str] = &[
    "roots/",
    "real/",
    "firewall/",
    "nat/",
    "remote/",
    "storm/",
    "capture/",
    "cli/",
    "commands/",
    "hooks/",
    "traced/",
    "mixed/rate",
    "unix/processes_that_end",
    "unix/listeners_that_end",
    "unix/queue_of_one_that_ends",
    "unix/full_with_numbers",
];

/// The scenarios whose name contains one of `filters`; all where there is none.
pub fn chosen(filters: &[String]) -> impl Iterator<Item = Entry> {
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter));
    scenarios::all().filter(move |entry| wanted(entry.name()))
}

/// Whether it is one of these, or of one of these families.
fn is_of(entry: &Entry, these: &[&str]) -> bool {
    let name = entry.name();
    these.iter().any(|this| if this.ends_with('/') { name.starts_with(this) } else { name == *this })
}

/// Whether it runs in a VM.
pub fn in_a_vm(entry: &Entry) -> bool {
    is_of(entry, IN_A_VM)
}

/// Whether it runs in [`OTHER_HOOKS`], too.
pub fn by_hooks(entry: &Entry) -> bool {
    is_of(entry, BY_HOOKS)
}

/// Whether another version of nginx could make a difference.
pub fn of_nginx(entry: &Entry) -> bool {
    !is_of(entry, OF_THE_HOST)
}

#[cfg(test)]
mod tests {
    use super::{BY_HOOKS, IN_A_VM, OF_THE_HOST, is_of};
    use crate::scenarios;

    #[test]
    fn there_is_a_scenario_of_every_name() {
        for name in [IN_A_VM, BY_HOOKS, OF_THE_HOST].concat() {
            assert!(scenarios::all().any(|entry| is_of(&entry, &[name])), "{name}");
        }
    }
}
