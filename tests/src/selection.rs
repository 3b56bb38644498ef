//! Which scenarios run where: all of them with the installed nginx on the host, of the others what could differ there.

use crate::scenarios::{self, Entry};

/// What runs in a VM: one or more of each family. An emulated processor is ten times slower, and faults that are a race
/// between two processes (a RST before the first write) cannot be injected reliably on it.
const IN_A_VM: &[&str] = &[
    "connect/refused",
    "connect/timeout_filtered",
    "connect/timeout_kernel",
    "connect/rejected_by_icmp_port",
    "connect/icmp_",
    "firewall/",
    "nat/",
    "unix/missing",
    "unix/closed",
    "unix/processes_that_end",
    "unix/listeners_that_end",
    "unix/full_with_numbers",
    "roots/swallowed",
    "roots/processes_that_end",
    "roots/killed_for_memory",
    "roots/nobody_listens",
    "roots/accept_queue_full",
    "roots/full_at_the_final_ack",
    "roots/syn_",
    "roots/queue_of_nginx_itself",
    "roots/stands_still",
    "tls/plain_http",
    "tls/peer_reset",
    "sending/timeout",
    "response/",
    "protocols/fastcgi",
    "keepalive/stale_",
    "body/closed",
    "body/reset",
    "no_attempt/no_live",
    "mixed/eight_fates",
    "handled/auth_request",
    "witness/log_to_stderr",
    "kernel_only/",
    "negative/shapes_of_answers",
    "negative/rst_after_answer",
    "negative/client_leaves",
    "negative/stream_module",
    "healthy/pool",
    "cli/duration",
    "capture/kill_9",
    "commands/doctor",
    "hooks/",
];

/// What is seen through other hooks where the best are missing.
const BY_HOOKS: &[&str] = &[
    "connect/icmp_",
    "unix/missing",
    "unix/closed",
    "unix/reset_with",
    "unix/processes_that_end",
    "roots/accept_queue_full",
    "roots/queue_of_nginx_itself",
    "witness/log_to_stderr",
    "kernel_only/unix",
    "kernel_only/unreachable_at_once",
    "hooks/",
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
    "mixed/rate",
    "unix/processes_that_end",
    "unix/listeners_that_end",
    "unix/full_with_numbers",
];

/// The scenarios whose name contains one of `filters`; all where there is none.
pub fn chosen(filters: &[String]) -> impl Iterator<Item = Entry> {
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter));
    scenarios::all().filter(move |entry| wanted(entry.name()))
}

fn is_of(entry: &Entry, families: &[&str]) -> bool {
    families.iter().any(|family| entry.name().starts_with(family))
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
