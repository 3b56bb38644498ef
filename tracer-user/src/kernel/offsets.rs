//! Resolves the struct members that the kernel programs read (`tracer_common::settings::Offsets`).

use tracer_common::settings::{ABSENT, Offsets};

use super::btf::{Btf, BtfError};

/// One member to resolve.
struct Wanted {
    field: fn(&mut Offsets) -> &mut u32,
    of: &'static str,
    member: &'static str,
    size: u32,
    need: Need,
}

/// What its absence means.
enum Need {
    /// No verdict is possible without it.
    Required,
    /// Some detail is lost.
    Optional,
}

macro_rules! wanted {
    ($($need:ident $field:ident = $of:literal . $member:literal : $size:expr;)+) => {
        &[$(Wanted { field: |offsets| &mut offsets.$field, of: $of, member: $member, size: $size, need: Need::$need }),+]
    };
}

const WANTED: &[Wanted] = wanted! {
    Required sock_family = "sock"."__sk_common.skc_family": 2;
    Required sock_daddr = "sock"."__sk_common.skc_daddr": 4;
    Required sock_rcv_saddr = "sock"."__sk_common.skc_rcv_saddr": 4;
    Required sock_dport = "sock"."__sk_common.skc_dport": 2;
    Optional sock_v6_daddr = "sock"."__sk_common.skc_v6_daddr": 16;
    Optional sock_v6_rcv_saddr = "sock"."__sk_common.skc_v6_rcv_saddr": 16;
    Required sock_state = "sock"."__sk_common.skc_state": 1;
    Optional sock_net = "sock"."__sk_common.skc_net": 8;
    Required sock_err = "sock"."sk_err": 4;
    Optional sock_err_soft = "sock"."sk_err_soft": 4;
    Required sock_shutdown = "sock"."sk_shutdown": 1;
    Required inet_sport = "inet_sock"."inet_sport": 2;
    Required icsk_lrcvtime = "inet_connection_sock"."icsk_ack.lrcvtime": 4;
    Required tcp_bytes_sent = "tcp_sock"."bytes_sent": 8;
    Required tcp_bytes_retrans = "tcp_sock"."bytes_retrans": 8;
    Required tcp_bytes_received = "tcp_sock"."bytes_received": 8;
    Optional tcp_rcv_nxt = "tcp_sock"."rcv_nxt": 4;
    Optional tcp_copied_seq = "tcp_sock"."copied_seq": 4;
    Required tcp_lsndtime = "tcp_sock"."lsndtime": 4;
    Optional tcp_total_retrans = "tcp_sock"."total_retrans": 4;
    Optional net_syncookies = "net"."ipv4.sysctl_tcp_syncookies": 1;
    Optional net_somaxconn = "net"."core.sysctl_somaxconn": 4;
    Optional net_max_syn_backlog = "net"."ipv4.sysctl_max_syn_backlog": 4;
    Optional net_inum = "net"."ns.inum": 4;
    Optional skb_head = "sk_buff"."head": 8;
    Optional skb_network_header = "sk_buff"."network_header": 2;
    Optional skb_transport_header = "sk_buff"."transport_header": 2;
    Required task_tgid = "task_struct"."tgid": 4;
    Optional task_pid = "task_struct"."pid": 4;
    Required task_real_parent = "task_struct"."real_parent": 8;
    Required task_comm = "task_struct"."comm": 16;
    Optional task_files = "task_struct"."files": 8;
    Optional task_mm = "task_struct"."mm": 8;
    Optional mm_exe_file = "mm_struct"."exe_file": 8;
    Optional file_dentry = "file"."f_path.dentry": 8;
    Optional dentry_name = "dentry"."d_name.name": 8;
    Optional files_fdt = "files_struct"."fdt": 8;
    Optional fdtable_fd = "fdtable"."fd": 8;
    Optional fdtable_max_fds = "fdtable"."max_fds": 4;
    Optional file_private_data = "file"."private_data": 8;
    Optional socket_sk = "socket"."sk": 8;
    Optional socket_file = "socket"."file": 8;
    Optional task_flags = "task_struct"."flags": 4;
    Optional task_exit_code = "task_struct"."exit_code": 4;
    Optional task_group_leader = "task_struct"."group_leader": 8;
    Optional task_signal = "task_struct"."signal": 8;
    Optional signal_live = "signal_struct"."live": 4;
    Optional siginfo_code = "kernel_siginfo"."si_code": 4;
    Optional cgroup_node = "cgroup"."kn": 8;
    Optional node_id = "kernfs_node"."id": 8;
    Optional sock_ack_backlog = "sock"."sk_ack_backlog": 4;
    Optional sock_max_ack_backlog = "sock"."sk_max_ack_backlog": 4;
    Optional request_queue_length = "inet_connection_sock"."icsk_accept_queue.qlen": 4;
    Optional tcp_bytes_acked = "tcp_sock"."bytes_acked": 8;
    Optional tcp_rtt_min = "tcp_sock"."rtt_min": 24;
    Optional tcp_snd_una = "tcp_sock"."snd_una": 4;
    Optional tcp_snd_nxt = "tcp_sock"."snd_nxt": 4;
    Optional skb_device = "sk_buff"."dev": 8;
    Optional device_net = "net_device"."nd_net": 8;
    Optional skb_data = "sk_buff"."data": 8;
    Optional sock_type = "sock"."sk_type": 2;
    Optional sock_socket = "sock"."sk_socket": 8;
    Optional sock_flags = "sock"."__sk_common.skc_flags": 8;
    Optional sock_receive_queue_length = "sock"."sk_receive_queue.qlen": 4;
    Optional sock_peer_pid = "sock"."sk_peer_pid": 8;
    Optional pid_number = "pid"."numbers.nr": 4;
    Optional unix_peer = "unix_sock"."peer": 8;
    Optional unix_address = "unix_sock"."addr": 8;
    Optional unix_address_length = "unix_address"."len": 4;
    Optional unix_address_name = "unix_address"."name.sun_family": 2;
    Optional file_inode = "file"."f_inode": 8;
    Optional skb_sock = "sk_buff"."sk": 8;
    Optional sock_owned = "sock"."sk_lock.owned": 4;
    Optional inode_number = "inode"."i_ino": 8;
    Optional sock_only_ipv6_bit = "sock"."__sk_common.skc_ipv6only": BIT;
};

/// Instead of a size: a bit-field of one bit, whose offset is in bits.
const BIT: u32 = 0;

/// The offsets, and what could not be resolved of the optional ones.
#[derive(Debug)]
pub struct Resolved {
    pub offsets: Offsets,
    pub missing: Vec<BtfError>,
}

/// Resolves all members. A required one that is absent, or of another size, is an error.
pub fn resolve(btf: &Btf) -> Result<Resolved, BtfError> {
    let mut offsets = Offsets::ABSENT;
    let mut missing = Vec::new();
    for wanted in WANTED {
        let found = match wanted.size {
            BIT => btf.bit(wanted.of, wanted.member),
            size => {
                let found = btf.member(wanted.of, wanted.member, size).or_else(|error| match size {
                    // A small number that was an `int` once (5.10): its lowest byte comes first.
                    1 => btf.member(wanted.of, wanted.member, 4).map_err(|_| error),
                    _ => Err(error),
                });
                found.map(|member| member.offset)
            }
        };
        let offset = match (found, &wanted.need) {
            (Ok(offset), _) => offset,
            (Err(error), Need::Required) => return Err(error),
            (Err(error), Need::Optional) => {
                missing.push(error);
                ABSENT
            }
        };
        *(wanted.field)(&mut offsets) = offset;
    }
    Ok(Resolved { offsets, missing })
}

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes as _;

    use super::{WANTED, resolve};
    use crate::kernel::btf::Btf;

    #[test]
    fn every_offset_has_a_source() {
        let mut offsets = tracer_common::settings::Offsets::ABSENT;
        for wanted in WANTED {
            *(wanted.field)(&mut offsets) = 0;
        }
        assert!(offsets.as_bytes().iter().all(|byte| *byte == 0), "an offset is never resolved");
    }

    #[test]
    fn the_running_kernel_has_them_all() {
        let Ok(btf) = Btf::running() else { return };
        let resolved = resolve(&btf).expect("required members");
        assert!(resolved.missing.is_empty(), "{:?}", resolved.missing);
    }
}
