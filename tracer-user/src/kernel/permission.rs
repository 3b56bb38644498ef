//! May we trace at all? Asked before anything is loaded, so that the answer is one clear sentence.

use std::fs;

/// Numbers from include/uapi/linux/capability.h.
const CAPABILITIES: [(u8, &str); 3] = [(39, "CAP_BPF"), (38, "CAP_PERFMON"), (19, "CAP_SYS_PTRACE")];
/// Includes the former two, and all that older kernels knew.
const CAP_SYS_ADMIN: u8 = 21;

/// What is missing for loading and attaching the programs and for looking at nginx's processes; empty: nothing.
pub fn missing_capabilities() -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    missing(effective)
}

fn missing(effective: u64) -> Vec<&'static str> {
    let has = |number: u8| effective >> number & 1 == 1;
    let by_admin = |name: &str| name != "CAP_SYS_PTRACE" && has(CAP_SYS_ADMIN);
    CAPABILITIES.into_iter().filter(|(number, name)| !has(*number) && !by_admin(name)).map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::missing;

    #[test]
    fn root_misses_nothing() {
        assert!(missing(u64::MAX).is_empty());
    }

    #[test]
    fn a_user_misses_all_three() {
        assert_eq!(missing(0), ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"]);
    }

    #[test]
    fn sys_admin_stands_for_the_newer_two() {
        assert_eq!(missing(1 << 21), ["CAP_SYS_PTRACE"]);
        assert!(missing(1 << 21 | 1 << 19).is_empty());
    }
}
