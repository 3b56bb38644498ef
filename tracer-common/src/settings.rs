//! What user space tells the programs before they are loaded: one frozen `.rodata` global.
//!
//! Written once by the loader, read by every program through a volatile read. Freezing makes each field a constant to
//! the verifier, so that a branch on an absent offset or a switched-off feature is never walked.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An offset that the running kernel's BTF does not have. Compare before use.
pub const ABSENT: u32 = u32::MAX;
/// Bytes of a process name, as `TASK_COMM_LEN` in `include/linux/sched.h`.
pub const COMM_LEN: usize = 16;
/// How many `--process` names the kernel compares.
pub const MAX_NAMES: usize = 8;
/// How many `--pid` values the kernel compares.
pub const MAX_PIDS: usize = 16;

/// Words of 64 drop reasons each: reasons above are subsystems' own.
pub const DROP_REASON_WORDS: usize = 4;

/// Byte offsets of the struct members that the programs read, resolved from `/sys/kernel/btf/vmlinux`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Offsets {
    pub sock_family: u32,
    pub sock_daddr: u32,
    pub sock_rcv_saddr: u32,
    pub sock_dport: u32,
    pub sock_v6_daddr: u32,
    pub sock_v6_rcv_saddr: u32,
    pub sock_state: u32,
    pub sock_net: u32,
    pub sock_err: u32,
    pub sock_err_soft: u32,
    pub sock_shutdown: u32,
    pub inet_sport: u32,
    pub icsk_lrcvtime: u32,
    pub tcp_bytes_sent: u32,
    pub tcp_bytes_retrans: u32,
    pub tcp_bytes_received: u32,
    pub tcp_rcv_nxt: u32,
    pub tcp_copied_seq: u32,
    pub tcp_lsndtime: u32,
    pub tcp_total_retrans: u32,
    pub net_inum: u32,
    pub skb_head: u32,
    pub skb_network_header: u32,
    pub skb_transport_header: u32,
    pub task_tgid: u32,
    pub task_pid: u32,
    pub task_real_parent: u32,
    pub task_comm: u32,
    pub task_files: u32,
    pub task_mm: u32,
    pub mm_exe_file: u32,
    pub file_dentry: u32,
    pub dentry_name: u32,
    pub files_fdt: u32,
    pub fdtable_fd: u32,
    pub fdtable_max_fds: u32,
    pub file_private_data: u32,
    pub socket_sk: u32,
    pub socket_file: u32,
    pub task_flags: u32,
    pub task_exit_code: u32,
    pub task_group_leader: u32,
    pub task_signal: u32,
    pub signal_live: u32,
    pub siginfo_code: u32,
    pub cgroup_node: u32,
    pub node_id: u32,
    pub sock_ack_backlog: u32,
    pub sock_max_ack_backlog: u32,
    pub request_queue_length: u32,
    pub net_syncookies: u32,
    pub net_max_syn_backlog: u32,
    pub net_somaxconn: u32,
    pub tcp_bytes_acked: u32,
    /// `rtt_min`: three samples (`struct minmax`, include/linux/win_minmax.h), the best first, each a time and a value.
    pub tcp_rtt_min: u32,
    pub tcp_snd_una: u32,
    pub tcp_snd_nxt: u32,
    pub skb_device: u32,
    pub device_net: u32,
    pub skb_data: u32,
    pub sock_type: u32,
    pub sock_socket: u32,
    pub sock_flags: u32,
    pub sock_receive_queue_length: u32,
    pub sock_peer_pid: u32,
    pub pid_number: u32,
    pub unix_peer: u32,
    pub unix_address: u32,
    pub unix_address_length: u32,
    pub unix_address_name: u32,
    pub file_inode: u32,
    pub inode_number: u32,
    /// In bits: one of a byte.
    pub sock_only_ipv6_bit: u32,
    pub skb_sock: u32,
    pub sock_owned: u32,
}

impl Offsets {
    pub const ABSENT: Self = Self {
        sock_family: ABSENT,
        sock_daddr: ABSENT,
        sock_rcv_saddr: ABSENT,
        sock_dport: ABSENT,
        sock_v6_daddr: ABSENT,
        sock_v6_rcv_saddr: ABSENT,
        sock_state: ABSENT,
        sock_net: ABSENT,
        sock_err: ABSENT,
        sock_err_soft: ABSENT,
        sock_shutdown: ABSENT,
        inet_sport: ABSENT,
        icsk_lrcvtime: ABSENT,
        tcp_bytes_sent: ABSENT,
        tcp_bytes_retrans: ABSENT,
        tcp_bytes_received: ABSENT,
        tcp_rcv_nxt: ABSENT,
        tcp_copied_seq: ABSENT,
        tcp_lsndtime: ABSENT,
        tcp_total_retrans: ABSENT,
        net_inum: ABSENT,
        skb_head: ABSENT,
        skb_network_header: ABSENT,
        skb_transport_header: ABSENT,
        task_tgid: ABSENT,
        task_pid: ABSENT,
        task_real_parent: ABSENT,
        task_comm: ABSENT,
        task_files: ABSENT,
        task_mm: ABSENT,
        mm_exe_file: ABSENT,
        file_dentry: ABSENT,
        dentry_name: ABSENT,
        files_fdt: ABSENT,
        fdtable_fd: ABSENT,
        fdtable_max_fds: ABSENT,
        file_private_data: ABSENT,
        socket_sk: ABSENT,
        socket_file: ABSENT,
        task_flags: ABSENT,
        task_exit_code: ABSENT,
        task_group_leader: ABSENT,
        task_signal: ABSENT,
        signal_live: ABSENT,
        siginfo_code: ABSENT,
        cgroup_node: ABSENT,
        node_id: ABSENT,
        sock_ack_backlog: ABSENT,
        sock_max_ack_backlog: ABSENT,
        request_queue_length: ABSENT,
        net_syncookies: ABSENT,
        net_max_syn_backlog: ABSENT,
        net_somaxconn: ABSENT,
        tcp_bytes_acked: ABSENT,
        tcp_rtt_min: ABSENT,
        tcp_snd_una: ABSENT,
        tcp_snd_nxt: ABSENT,
        skb_device: ABSENT,
        device_net: ABSENT,
        skb_data: ABSENT,
        sock_type: ABSENT,
        sock_socket: ABSENT,
        sock_flags: ABSENT,
        sock_receive_queue_length: ABSENT,
        sock_peer_pid: ABSENT,
        pid_number: ABSENT,
        unix_peer: ABSENT,
        unix_address: ABSENT,
        unix_address_length: ABSENT,
        unix_address_name: ABSENT,
        file_inode: ABSENT,
        inode_number: ABSENT,
        sock_only_ipv6_bit: ABSENT,
        skb_sock: ABSENT,
        sock_owned: ABSENT,
    };
}

/// Everything the programs must know; `Settings::DEFAULT` traces nothing.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Settings {
    /// Bit n of the whole: packets dropped for reason n (`enum skb_drop_reason`) are looked at.
    pub drop_reasons: [u64; DROP_REASON_WORDS],
    /// Process names (comm or basename of the executable); the first `name_count` count.
    pub names: [crate::process::Comm; MAX_NAMES],
    pub offsets: Offsets,
    /// Process ids (host pid namespace) to trace beside the names; a process whose parent is listed is traced too.
    pub pids: [u32; MAX_PIDS],
    pub name_count: u32,
    pub pid_count: u32,
    /// Our own process, never traced.
    pub own_pid: u32,
    /// 1: `tcp_send_reset` passes the kernel's reason as its third argument.
    pub reset_has_reason: u32,
    /// 1: `mark_victim` passes the task, as newer kernels do; 0: the pid.
    pub victim_is_task: u32,
    /// 1: `kfree_skb` passes the kernel's reason as its third argument.
    pub drop_has_reason: u32,
    /// `SKB_DROP_REASON_NOT_SPECIFIED`.
    pub drop_not_specified: u32,
    /// 1: programs log through aya-log (`--debug-probes`).
    pub debug: u32,
    pub reserved: u32,
}

impl Settings {
    pub const DEFAULT: Self = Self {
        offsets: Offsets::ABSENT,
        names: [[0; 2]; MAX_NAMES],
        pids: [0; MAX_PIDS],
        name_count: 0,
        pid_count: 0,
        own_pid: 0,
        reset_has_reason: 0,
        drop_reasons: [0; DROP_REASON_WORDS],
        drop_has_reason: 0,
        drop_not_specified: 0,
        victim_is_task: 0,
        debug: 0,
        reserved: 0,
    };
}

crate::wire_pod!(Settings, 75 * 4 + 16 * 8 + 16 * 4 + 9 * 4 + 8 * DROP_REASON_WORDS);
