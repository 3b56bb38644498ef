//! For each observation the ways to make it, best first. Data only: `plan` chooses, `attach` executes.

use tracer_common::loss::Program;

use super::hook::{Facility, Hook, Kind};
use crate::{
    kernel::prototype::Argument,
    model::observation::{Name, State},
};

/// One way to make an observation: all of these hooks together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// In attaching order: what feeds a map comes before what reads it.
    pub hooks: &'static [Hook],
    pub state: State,
    /// What it hides.
    pub missing: Option<&'static str>,
}

impl Way {
    /// All its hooks.
    pub fn names(&self) -> String {
        self.hooks.iter().map(|hook| hook.name).collect::<Vec<_>>().join(", ")
    }

    /// What the kernel must be able to do for it.
    pub fn facility(&self) -> Option<Facility> {
        self.hooks.iter().find_map(|hook| hook.kind.needs())
    }
}

/// What is left where no way works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Otherwise {
    /// No verdict is possible.
    Impossible,
    /// Something else serves: where it is read, and what that hides.
    Partial(&'static str, &'static str),
    /// nginx's word tells of it; without that, nothing does.
    Word(&'static str),
    None(&'static str),
}

/// An observation, and how to make it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    pub name: Name,
    pub ways: &'static [Way],
    pub otherwise: Otherwise,
}

const fn hook(
    program: Program,
    kind: Kind,
    name: &'static str,
    symbol: &'static str,
    arguments: &'static [Argument],
) -> Hook {
    Hook { program, kind, name, symbol, arguments }
}

const fn full(hooks: &'static [Hook]) -> Way {
    Way { hooks, state: State::Full, missing: None }
}

const fn partial(hooks: &'static [Hook], missing: &'static str) -> Way {
    Way { hooks, state: State::Partial, missing: Some(missing) }
}

const SOCK: Argument = Argument::Struct("sock");
const SK_BUFF: Argument = Argument::Struct("sk_buff");
const TASK: Argument = Argument::Struct("task_struct");
const GROUP: Argument = Argument::Struct("cgroup");
/// `int`, `unsigned int`, an enum.
const INT: Argument = Argument::Integer(4);
const LONG: Argument = Argument::Integer(8);
const POINTER: Argument = Argument::Pointer;

const EXEC: Hook = hook(Program::ProcessExec, Kind::RawTp, "raw_tp/sched_process_exec", "process_exec", &[TASK]);
const FORK: Hook = hook(Program::ProcessFork, Kind::RawTp, "raw_tp/sched_process_fork", "process_fork", &[TASK, TASK]);
const EXIT: Hook = hook(Program::ProcessExit, Kind::RawTp, "raw_tp/sched_process_exit", "process_exit", &[TASK]);
const SIGNAL: Hook = hook(
    Program::SignalGenerate,
    Kind::RawTp,
    "raw_tp/signal_generate",
    "signal_generate",
    &[INT, Argument::Struct("kernel_siginfo"), TASK],
);
/// Newer kernels pass the task.
pub const VICTIM_TASK: Hook = hook(Program::MarkVictim, Kind::RawTp, "raw_tp/mark_victim", "mark_victim", &[TASK]);
const VICTIM_PID: Hook = hook(Program::MarkVictim, Kind::RawTp, "raw_tp/mark_victim", "mark_victim", &[INT]);
const FREEZE: Hook = hook(Program::CgroupFreeze, Kind::RawTp, "raw_tp/cgroup_freeze", "cgroup_freeze", &[GROUP]);
const UNFREEZE: Hook =
    hook(Program::CgroupUnfreeze, Kind::RawTp, "raw_tp/cgroup_unfreeze", "cgroup_unfreeze", &[GROUP]);
const SERVERS: &str = "traced processes, and those that listen or were forked by one that does";

const RECEIVE_RESET: Hook =
    hook(Program::ReceiveReset, Kind::RawTp, "raw_tp/tcp_receive_reset", "receive_reset", &[SOCK]);
/// Since 6.10 the reason is passed (`enum sk_rst_reason`).
pub const SEND_RESET_REASON: Hook =
    hook(Program::SendReset, Kind::RawTp, "raw_tp/tcp_send_reset", "send_reset", &[SOCK, SK_BUFF, INT]);
const SEND_RESET: Hook = hook(Program::SendReset, Kind::RawTp, "raw_tp/tcp_send_reset", "send_reset", &[SOCK, SK_BUFF]);
/// The socket, or none, and the segment that is answered.
const ANSWER: &[Argument] = &[SOCK, SK_BUFF];
const REFUSE: Hook = hook(Program::Refuse, Kind::Fentry, "fentry/tcp_v4_send_reset", "refuse", ANSWER);
const REFUSE6: Hook = hook(Program::Refuse6, Kind::Fentry, "fentry/tcp_v6_send_reset", "refuse6", ANSWER);
const REFUSE_KPROBE: Hook = hook(Program::Refuse, Kind::Kprobe, "kprobe/tcp_v4_send_reset", "refuse_kprobe", ANSWER);
const REFUSE6_KPROBE: Hook = hook(Program::Refuse6, Kind::Kprobe, "kprobe/tcp_v6_send_reset", "refuse6_kprobe", ANSWER);
const NO_REASON: &str = "this kernel gives no reason for a reset it sends";

const SYNACK: Hook =
    hook(Program::RetransmitSynack, Kind::RawTp, "raw_tp/tcp_retransmit_synack", "retransmit_synack", &[SOCK]);
const REQUEST: &[Argument] = &[POINTER, POINTER, SOCK, SK_BUFF];

/// A descriptor, an address in user space, its length.
const CALL: &[Argument] = &[INT, POINTER, INT];
const SOCKET_CALL: &[Argument] = &[INT, INT, INT];

const RELEASE: &[Argument] = &[SOCK, INT];

const ERROR_V4: &[Argument] = &[SK_BUFF, INT];
const ERROR_V6: &[Argument] = &[SK_BUFF, POINTER, Argument::Integer(1), Argument::Integer(1)];

const WRITE: &[Argument] = &[POINTER, POINTER, LONG];
const SEND: &[Argument] = &[INT, POINTER, LONG];

/// Since 5.17 the reason is passed (`enum skb_drop_reason`).
pub const FREE_SKB_REASON: Hook =
    hook(Program::FreeSkb, Kind::RawTp, "raw_tp/kfree_skb", "free_skb", &[SK_BUFF, POINTER, INT]);
const FREE_SKB: Hook = hook(Program::FreeSkb, Kind::RawTp, "raw_tp/kfree_skb", "free_skb", &[SK_BUFF, POINTER]);

/// Looked at where there is little to look at, or while it is needed: it runs for every packet freed on the host.
pub const DROPS: Probe = Probe {
    name: Name::PacketDrop,
    ways: &[
        partial(
            &[FREE_SKB_REASON],
            "where the host drops many packets, looked at from the first segment that is sent again, or refused for no known reason, \
             not before",
        ),
        partial(
            &[FREE_SKB],
            "where the host drops many packets, looked at from the first segment that is sent again, or refused for no known reason, \
             not before; this kernel gives no reasons: only what netfilter, routes and neighbours drop is told",
        ),
    ],
    otherwise: Otherwise::None("dropped packets cannot be looked at"),
};

/// Looked at where there are few, or while other hosts reset connections: it runs for every segment received on the host.
pub const TTL: Probe = Probe {
    name: Name::Reset,
    ways: &[full(&[hook(Program::TcpProbe, Kind::RawTp, "raw_tp/tcp_probe", "segment", &[SOCK, SK_BUFF])])],
    otherwise: Otherwise::None("how far a reset has come is not told"),
};

/// Lines taken as nginx writes them: only while a process has no log that can be read, for every write of the host passes
/// there.
pub const LINES: Probe = Probe {
    name: Name::NginxLogText,
    ways: &[
        full(&[
            hook(Program::WriteLine, Kind::Fentry, "fentry/vfs_write", "write_line", WRITE),
            hook(Program::SendLine, Kind::Fentry, "fentry/__sys_sendto", "send_line", SEND),
        ]),
        full(&[
            hook(Program::WriteLine, Kind::Kprobe, "kprobe/vfs_write", "write_line_kprobe", WRITE),
            hook(Program::SendLine, Kind::Kprobe, "kprobe/__sys_sendto", "send_line_kprobe", SEND),
        ]),
    ],
    otherwise: Otherwise::None("lines are read from files only"),
};

/// Bytes are not counted, by none of them.
const UNCOUNTED: &str = "bytes are not counted: whether a response was complete is nginx's word";

/// Before the exits: what an exiting server has open is looked up before the server is forgotten.
const UNIX: Probe = Probe {
    name: Name::UnixStream,
    ways: &[
        partial(
            &[hook(Program::UnixRelease, Kind::Fentry, "fentry/unix_release_sock", "unix_release", RELEASE)],
            UNCOUNTED,
        ),
        partial(
            &[hook(Program::UnixRelease, Kind::Kprobe, "kprobe/unix_release_sock", "unix_release_kprobe", RELEASE)],
            UNCOUNTED,
        ),
        partial(
            &[hook(Program::UnixExit, Kind::RawTp, "raw_tp/sched_process_exit", "unix_exit", &[TASK])],
            "who closed the other end is seen only where it exited",
        ),
    ],
    otherwise: Otherwise::None("what becomes of a unix connection is nginx's word"),
};

/// All of them, in attaching order.
pub const PROBES: &[Probe] = &[
    UNIX,
    Probe {
        name: Name::ProcessExit,
        ways: &[
            partial(&[EXEC, FORK, EXIT, VICTIM_TASK, SIGNAL, FREEZE, UNFREEZE], SERVERS),
            partial(&[EXEC, FORK, EXIT, VICTIM_PID, SIGNAL, FREEZE, UNFREEZE], SERVERS),
            partial(&[EXEC, FORK, EXIT, VICTIM_TASK, SIGNAL], SERVERS),
            partial(&[EXEC, FORK, EXIT, VICTIM_PID, SIGNAL], SERVERS),
            partial(&[EXEC, FORK, EXIT, SIGNAL], "no word of the kernel about processes killed for memory"),
            partial(&[EXEC, FORK, EXIT], "who sent a signal, and deaths for memory, stay unknown"),
            partial(&[EXIT], "new workers are seen at first connect"),
        ],
        otherwise: Otherwise::Impossible,
    },
    Probe {
        name: Name::AcceptQueue,
        ways: &[
            full(&[
                hook(Program::ConnRequest, Kind::Fentry, "fentry/tcp_conn_request", "conn_request", REQUEST),
                SYNACK,
            ]),
            full(&[
                hook(Program::ConnRequest, Kind::Kprobe, "kprobe/tcp_conn_request", "conn_request_kprobe", REQUEST),
                SYNACK,
            ]),
            partial(&[SYNACK], "seen when something is sent again, else looked at each second: drops are not counted"),
        ],
        otherwise: Otherwise::Partial(
            "backlog and limit at raw_tp/tcp_retransmit_skb, tcp_send_reset",
            "seen when something is sent again, not at each drop; not where several sockets share a port",
        ),
    },
    Probe {
        name: Name::Reset,
        ways: &[
            full(&[SEND_RESET_REASON, RECEIVE_RESET]),
            partial(&[REFUSE, REFUSE6, SEND_RESET, RECEIVE_RESET], NO_REASON),
            partial(&[REFUSE_KPROBE, REFUSE6_KPROBE, SEND_RESET, RECEIVE_RESET], NO_REASON),
            partial(
                &[SEND_RESET, RECEIVE_RESET],
                "this kernel gives no reason for a reset it sends, nor tells of those for want of a socket",
            ),
            partial(&[RECEIVE_RESET], "no tracepoint tcp_send_reset: who sent a reset on this host stays unknown"),
        ],
        otherwise: Otherwise::Impossible,
    },
    Probe {
        name: Name::SynRetransmit,
        ways: &[full(&[hook(
            Program::RetransmitSkb,
            Kind::RawTp,
            "raw_tp/tcp_retransmit_skb",
            "retransmit_skb",
            &[SOCK, SK_BUFF],
        )])],
        otherwise: Otherwise::Partial("tcp_sock.total_retrans at close", "no times of retransmits"),
    },
    Probe {
        name: Name::Icmp,
        ways: &[
            full(&[
                hook(Program::IcmpError, Kind::Fentry, "fentry/tcp_v4_err", "icmp_error", ERROR_V4),
                hook(Program::Icmp6Error, Kind::Fentry, "fentry/tcp_v6_err", "icmp6_error", ERROR_V6),
            ]),
            full(&[
                hook(Program::IcmpError, Kind::Kprobe, "kprobe/tcp_v4_err", "icmp_error_kprobe", ERROR_V4),
                hook(Program::Icmp6Error, Kind::Kprobe, "kprobe/tcp_v6_err", "icmp6_error_kprobe", ERROR_V6),
            ]),
        ],
        otherwise: Otherwise::Partial(
            "sk_err, sk_err_soft",
            "an ICMP error shows as the error of the socket, without its sender",
        ),
    },
    Probe {
        name: Name::ConnectResult,
        ways: &[
            full(&[
                hook(Program::Socket, Kind::Fexit, "fexit/__sys_socket", "socket", SOCKET_CALL),
                hook(Program::Bind, Kind::Fexit, "fexit/__sys_bind", "bind", CALL),
                hook(Program::Connect, Kind::Fexit, "fexit/__sys_connect", "connect", CALL),
            ]),
            partial(
                &[
                    hook(Program::Socket, Kind::Kretprobe, "kretprobe/__sys_socket", "socket_kretprobe", SOCKET_CALL),
                    hook(Program::Bind, Kind::Kretprobe, "kretprobe/__sys_bind", "bind_kretprobe", CALL),
                    hook(Program::Bind, Kind::Kprobe, "kprobe/__sys_bind", "bind_kprobe", CALL),
                    hook(Program::Connect, Kind::Kretprobe, "kretprobe/__sys_connect", "connect_kretprobe", CALL),
                    hook(Program::Connect, Kind::Kprobe, "kprobe/__sys_connect", "connect_kprobe", CALL),
                ],
                // register_kretprobe(), kernel/kprobes.c: maxactive.
                "returns are missed (and counted) while the host has more such calls waiting than the kernel keeps room for",
            ),
        ],
        otherwise: Otherwise::Word("connect(2) failing at once is seen through nginx's word only"),
    },
    Probe {
        name: Name::TcpLifecycle,
        ways: &[full(&[
            hook(Program::DestroySock, Kind::TpBtf, "tp_btf/tcp_destroy_sock", "destroy_sock", &[SOCK]),
            hook(Program::SetState, Kind::TpBtf, "tp_btf/inet_sock_set_state", "set_state", &[SOCK, INT, INT]),
        ])],
        otherwise: Otherwise::Impossible,
    },
];

#[cfg(test)]
mod tests {
    use super::{DROPS, LINES, PROBES, TTL};

    #[test]
    fn a_hook_is_called_after_its_kind_and_its_place() {
        for hook in PROBES.iter().chain([&DROPS, &TTL, &LINES]).flat_map(|probe| probe.ways).flat_map(|way| way.hooks) {
            assert_eq!(hook.name, format!("{}/{}", hook.kind.name(), hook.place()));
        }
    }
}
