//! The plan: a pure function from what the kernel offers to the hooks that will serve each observation.

use tracer_common::loss::Program;

use crate::{
    kernel::facts::KernelFacts,
    model::observation::{Name, Observation, State},
};

/// One kernel program and where it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    pub program: Program,
    /// The program's name in the eBPF object.
    pub symbol: &'static str,
    /// Fewest arguments that the tracepoint must have.
    pub arguments: usize,
    /// Nothing works without it.
    pub required: bool,
}

const fn hook(program: Program, symbol: &'static str, arguments: usize, required: bool) -> Hook {
    Hook { program, symbol, arguments, required }
}

/// The tracepoints, in attaching order: what feeds a map comes before what reads it.
pub const TRACEPOINTS: &[Hook] = &[
    hook(Program::ProcessExec, "process_exec", 1, false),
    hook(Program::ProcessFork, "process_fork", 2, false),
    hook(Program::ProcessExit, "process_exit", 1, true),
    hook(Program::MarkVictim, "mark_victim", 1, false),
    hook(Program::SignalGenerate, "signal_generate", 3, false),
    hook(Program::RetransmitSynack, "retransmit_synack", 1, false),
    hook(Program::SendReset, "send_reset", 2, false),
    hook(Program::ReceiveReset, "receive_reset", 1, true),
    hook(Program::RetransmitSkb, "retransmit_skb", 1, false),
    hook(Program::DestroySock, "destroy_sock", 1, true),
    hook(Program::SetState, "set_state", 3, true),
];

/// Attached only while it is needed: it runs for every packet freed on the host.
pub const DROPS: Hook = hook(Program::FreeSkb, "free_skb", 3, false);

/// Arguments of `mark_victim` where it passes the task; else it passes a pid.
const MARK_VICTIM_WITH_TASK: usize = 2;
/// Arguments of `tcp_send_reset` where it passes the reason (6.12 and later).
const SEND_RESET_WITH_REASON: usize = 3;

/// What will be attached, and what each observation gets from it.
#[derive(Clone, Debug)]
pub struct Plan {
    pub hooks: Vec<Hook>,
    /// Required hooks that this kernel does not have: no verdict is possible.
    pub impossible: Vec<String>,
    pub reset_has_reason: bool,
    pub victim_is_task: bool,
    /// [`DROPS`] can be attached.
    pub drops: bool,
    pub nginx_word: bool,
    pub observations: Vec<Observation>,
}

/// Chooses the hooks. `nginx_word` is false with `--no-nginx`.
pub fn plan(facts: &KernelFacts, nginx_word: bool) -> Plan {
    let mut hooks = Vec::new();
    let mut impossible = Vec::new();
    for hook in TRACEPOINTS {
        let name = hook.program.hook();
        match facts.tracepoints.get(name) {
            Some(arguments) if *arguments >= hook.arguments => hooks.push(*hook),
            found if hook.required => impossible.push(match found {
                Some(arguments) => {
                    format!("tracepoint {name} has {arguments} arguments, {} are needed", hook.arguments)
                }
                None => format!("tracepoint {name} does not exist"),
            }),
            _ => {}
        }
    }
    let reset_has_reason =
        facts.tracepoints.get("tcp_send_reset").is_some_and(|count| *count >= SEND_RESET_WITH_REASON);
    let drops = facts.tracepoints.get(DROPS.program.hook()).is_some_and(|count| *count >= DROPS.arguments);
    let victim_is_task = facts.tracepoints.get("mark_victim").is_some_and(|count| *count >= MARK_VICTIM_WITH_TASK);
    let has = |program: Program| hooks.iter().any(|hook| hook.program == program);
    let observations = vec![
        Observation::full(Name::TcpLifecycle, "tp_btf/inet_sock_set_state"),
        match (has(Program::SendReset), reset_has_reason) {
            (true, true) => Observation::full(Name::Reset, "raw_tp/tcp_receive_reset, raw_tp/tcp_send_reset"),
            (true, false) => Observation::partial(
                Name::Reset,
                "raw_tp/tcp_receive_reset, raw_tp/tcp_send_reset",
                "this kernel gives no reason for a reset it sends",
            ),
            (false, _) => Observation::partial(
                Name::Reset,
                "raw_tp/tcp_receive_reset",
                "no tracepoint tcp_send_reset: who sent a reset on this host stays unknown",
            ),
        },
        if has(Program::RetransmitSkb) {
            Observation::full(Name::SynRetransmit, "raw_tp/tcp_retransmit_skb")
        } else {
            Observation::partial(Name::SynRetransmit, "tcp_sock.total_retrans at close", "no times of retransmits")
        },
        Observation::partial(
            Name::RequestBoundary,
            "tcp_sock counters and times at each state change",
            "requests on one connection within a jiffy cannot be told apart by the kernel alone",
        ),
        if nginx_word {
            Observation::partial(
                Name::ConnectResult,
                "uprobe/ngx_log_error_core",
                "connect(2) failing at once is seen through nginx's word only",
            )
        } else {
            Observation::none(Name::ConnectResult, "connect(2) failing at once makes no state change")
        },
        Observation::none(Name::Icmp, "not hooked yet: an ICMP error shows as the error of the socket"),
        if nginx_word {
            Observation::partial(
                Name::UnixStream,
                "uprobe/ngx_log_error_core",
                "unix sockets are seen through nginx's word only",
            )
        } else {
            Observation::none(Name::UnixStream, "unix sockets make no TCP state change")
        },
        Observation::partial(
            Name::AcceptQueue,
            "backlog and limit at raw_tp/tcp_retransmit_skb, tcp_retransmit_synack, tcp_send_reset",
            "seen when something is sent again, not at each drop; not where several sockets share a port",
        ),
        if drops {
            Observation::partial(
                Name::PacketDrop,
                "raw_tp/kfree_skb",
                "looked at from the first segment that is sent again, not before",
            )
        } else {
            Observation::none(Name::PacketDrop, "this kernel gives no reasons for dropped packets")
        },
        if has(Program::ProcessFork) && has(Program::ProcessExec) {
            Observation::partial(
                Name::ProcessExit,
                "raw_tp/sched_process_exit, signal_generate, mark_victim",
                "traced processes, and those that listen or were forked by one that does",
            )
        } else {
            Observation::partial(
                Name::ProcessExit,
                "raw_tp/sched_process_exit",
                "new workers are seen at first connect",
            )
        },
        nginx(Name::NginxCause, "uprobe/ngx_log_error_core", nginx_word),
        nginx(Name::NginxStatus, "uprobe/ngx_http_special_response_handler", nginx_word),
        // Until a worker is found, and the files that it logs to.
        Observation::none(
            Name::NginxLogText,
            if nginx_word { "no nginx is running yet" } else { "switched off by --no-nginx" },
        ),
        Observation::none(Name::Configuration, "read when a worker starts"),
    ];
    Plan { hooks, impossible, reset_has_reason, victim_is_task, drops, nginx_word, observations }
}

fn nginx(name: Name, hook: &'static str, wanted: bool) -> Observation {
    if wanted {
        // Until a binary is found and attached to.
        Observation {
            name,
            hook: Some(hook.into()),
            state: State::None,
            missing: Some("no nginx is running yet".into()),
        }
    } else {
        Observation::none(name, "switched off by --no-nginx")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tracer_common::settings::Offsets;

    use super::plan;
    use crate::{
        kernel::facts::KernelFacts,
        model::observation::{Name, State},
    };

    fn kernel(tracepoints: &[(&'static str, usize)]) -> KernelFacts {
        KernelFacts {
            offsets: Offsets::ABSENT,
            missing_members: Vec::new(),
            tracepoints: tracepoints.iter().copied().collect(),
            reset_reasons: BTreeMap::new(),
            drop_reasons: BTreeMap::new(),
        }
    }

    const LINUX_5_10: &[(&str, usize)] = &[
        ("inet_sock_set_state", 3),
        ("tcp_destroy_sock", 1),
        ("tcp_receive_reset", 1),
        ("tcp_send_reset", 2),
        ("tcp_retransmit_skb", 2),
        ("sched_process_exec", 3),
        ("sched_process_fork", 2),
        ("sched_process_exit", 1),
    ];

    fn state(plan: &super::Plan, name: Name) -> State {
        plan.observations.iter().find(|observation| observation.name == name).expect("listed").state
    }

    #[test]
    fn linux_5_10_can_do_all_but_reset_reasons() {
        let plan = plan(&kernel(LINUX_5_10), true);
        assert!(plan.impossible.is_empty());
        assert!(!plan.reset_has_reason);
        assert_eq!(state(&plan, Name::TcpLifecycle), State::Full);
        assert_eq!(state(&plan, Name::Reset), State::Partial);
        assert_eq!(plan.hooks.len(), 8);
    }

    #[test]
    fn a_third_argument_of_tcp_send_reset_is_the_reason() {
        let mut newer = LINUX_5_10.to_vec();
        newer.retain(|(name, _)| *name != "tcp_send_reset");
        newer.push(("tcp_send_reset", 3));
        assert_eq!(state(&plan(&kernel(&newer), true), Name::Reset), State::Full);
    }

    #[test]
    fn without_set_state_nothing_is_possible() {
        let without: Vec<_> = LINUX_5_10.iter().copied().filter(|(name, _)| *name != "inet_sock_set_state").collect();
        assert_eq!(plan(&kernel(&without), true).impossible, ["tracepoint inet_sock_set_state does not exist"]);
    }

    #[test]
    fn every_observation_is_listed_once() {
        let plan = plan(&kernel(LINUX_5_10), false);
        for name in Name::ALL {
            assert_eq!(plan.observations.iter().filter(|observation| observation.name == *name).count(), 1, "{name:?}");
        }
    }
}
