//! The plan: a pure function from what the kernel offers to the ways, best first, in which each observation can be tried.
//! Whether a way works shows when it is attached: `attach` goes down the list.

use super::{
    hook::{Avoided, Facility, Hook},
    table::{DROPS, FREE_SKB_REASON, LINES, Otherwise, PROBES, Probe, SEND_RESET_REASON, TTL, VICTIM_TASK, Way},
};
use crate::{
    kernel::{facts::KernelFacts, prototype::misfit},
    model::observation::{Name, Observation, State},
};

/// One observation's part of the plan.
#[derive(Clone, Debug)]
pub struct Planned {
    pub probe: &'static Probe,
    /// Best first: what is to be tried, and why the others between need not be.
    pub ways: Vec<Result<&'static Way, String>>,
}

impl Planned {
    /// The first that can be tried, and why none before it can.
    pub fn promise(&self) -> (Option<&'static Way>, Vec<String>) {
        let mut reasons = Vec::new();
        for way in &self.ways {
            match way {
                Ok(way) => return (Some(way), reasons),
                Err(reason) => reasons.push(reason.clone()),
            }
        }
        (None, reasons)
    }

    /// What the observation gets from the way that was attached; None: from none. `reasons` are of better ones that failed.
    pub fn observation(&self, attached: Option<&Way>, reasons: &[String], nginx_word: bool) -> Observation {
        let name = self.probe.name;
        let (hook, state, missing) = match (attached, self.probe.otherwise) {
            (Some(way), _) => (Some(way.names()), way.state, way.missing),
            (None, Otherwise::Partial(hook, missing)) => (Some(hook.to_owned()), State::Partial, Some(missing)),
            (None, Otherwise::Word(missing)) if nginx_word => {
                (Some("uprobe/ngx_log_error_core".to_owned()), State::Partial, Some(missing))
            }
            (None, Otherwise::Word(missing) | Otherwise::None(missing)) => (None, State::None, Some(missing)),
            (None, Otherwise::Impossible) => (None, State::None, None),
        };
        let reasons = reasons.join("; ");
        let missing = match (missing, state) {
            (None, _) => None,
            (Some(missing), _) if reasons.is_empty() => Some(missing.to_owned()),
            (Some(missing), _) => Some(format!("{missing} ({reasons})")),
        };
        Observation { name, hook: hook.map(Into::into), state, missing: missing.map(Into::into) }
    }
}

/// What will be tried, and what no hook serves.
#[derive(Clone, Debug)]
pub struct Plan {
    pub probes: Vec<Planned>,
    pub drops: Planned,
    pub ttl: Planned,
    pub lines: Planned,
    /// Required places that this kernel does not have: no verdict is possible.
    pub impossible: Vec<String>,
    /// Of the tracepoints, whose ways are known to work: the kernel's reason is passed.
    pub reset_has_reason: bool,
    pub drop_has_reason: bool,
    pub victim_is_task: bool,
    pub nginx_word: bool,
}

/// Chooses the ways. `nginx_word` is false with `--no-nginx`.
pub fn plan(facts: &KernelFacts, avoided: &[Avoided], nginx_word: bool) -> Plan {
    let probes: Vec<Planned> = PROBES.iter().map(|probe| planned(probe, facts, avoided)).collect();
    let hopeless =
        |planned: &&Planned| planned.promise().0.is_none() && planned.probe.otherwise == Otherwise::Impossible;
    let why = |planned: &Planned| obstacle(planned.probe.ways.last()?, facts, avoided);
    let impossible = probes.iter().filter(hopeless).filter_map(why).collect();
    let first_has =
        |hook: Hook| probes.iter().filter_map(|planned| planned.promise().0).any(|way| way.hooks.contains(&hook));
    let drops = planned(&DROPS, facts, avoided);
    Plan {
        impossible,
        drop_has_reason: drops.promise().0.is_some_and(|way| way.hooks.contains(&FREE_SKB_REASON)),
        reset_has_reason: first_has(SEND_RESET_REASON),
        victim_is_task: first_has(VICTIM_TASK),
        nginx_word,
        drops,
        ttl: planned(&TTL, facts, avoided),
        lines: planned(&LINES, facts, avoided),
        probes,
    }
}

fn planned(probe: &'static Probe, facts: &KernelFacts, avoided: &[Avoided]) -> Planned {
    let ways = probe.ways.iter().filter_map(|way| match obstacle(way, facts, avoided) {
        None => Some(Ok(way)),
        Some(reason) if way.facility().is_some() => Some(Err(reason)),
        // What a tracepoint lacks is said by the way that does without.
        Some(_) => None,
    });
    Planned { probe, ways: ways.collect() }
}

/// Why it need not be tried.
fn obstacle(way: &Way, facts: &KernelFacts, avoided: &[Avoided]) -> Option<String> {
    way.hooks.iter().find_map(|hook| {
        if let Some(facility) = hook.kind.needs() {
            if avoided.iter().any(|avoided| avoided.facility() == facility) {
                return Some(format!("{}: switched off by --hooks", facility.name()));
            }
            if facility == Facility::Kprobe && !facts.kprobes {
                return Some("kprobe: this kernel has none".to_owned());
            }
        }
        let what = if hook.kind.is_tracepoint() { "tracepoint" } else { "function" };
        let found = facts.prototype(hook.kind.is_tracepoint(), hook.place());
        let misfit = misfit(hook.arguments, hook.kind.arity(), found)?;
        Some(format!("{what} {} {misfit}", hook.place()))
    })
}

/// Places whose arguments are others than the programs count on, whatever the way: what is tested on every kernel.
pub fn misfits(facts: &KernelFacts) -> Vec<String> {
    let hooks: Vec<&Hook> =
        PROBES.iter().chain([&DROPS, &TTL, &LINES]).flat_map(|probe| probe.ways).flat_map(|way| way.hooks).collect();
    let misfit = |hook: &Hook| {
        misfit(hook.arguments, hook.kind.arity(), facts.prototype(hook.kind.is_tracepoint(), hook.place()))
    };
    let fits = |name: &str| hooks.iter().any(|hook| hook.name == name && misfit(hook).is_none());
    let mut found: Vec<String> = hooks
        .iter()
        .filter(|hook| !fits(hook.name))
        .filter_map(|hook| Some(format!("{} {}", hook.name, misfit(hook)?)))
        .collect();
    found.dedup();
    found
}

impl Plan {
    /// What is observed without a hook of the kernel, or by one that is attached later.
    pub fn others(&self) -> Vec<Observation> {
        vec![
            Observation::partial(
                Name::RequestBoundary,
                "tcp_sock counters and times at each state change",
                "requests on one connection within a jiffy cannot be told apart by the kernel alone",
            ),
            self.drops.observation(self.drops.promise().0, &[], self.nginx_word),
            self.nginx(Name::NginxCause, "uprobe/ngx_log_error_core"),
            self.nginx(Name::NginxStatus, "uprobe/ngx_http_special_response_handler"),
            // Until a worker is found, and the files that it logs to.
            Observation::none(
                Name::NginxLogText,
                if self.nginx_word { "no nginx is running yet" } else { "switched off by --no-nginx" },
            ),
            Observation::none(Name::Configuration, "read when a worker starts"),
        ]
    }

    /// What each observation would get if the best way of each worked: for those who may not try.
    pub fn promises(&self) -> Vec<Observation> {
        let promised = |planned: &Planned| {
            let (way, reasons) = planned.promise();
            planned.observation(way, &reasons, self.nginx_word)
        };
        in_order(self.probes.iter().map(promised).chain(self.others()).collect())
    }

    fn nginx(&self, name: Name, hook: &'static str) -> Observation {
        if self.nginx_word {
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
}

/// In the order of the record format.
pub fn in_order(mut observations: Vec<Observation>) -> Vec<Observation> {
    observations.sort_by_key(|observation| Name::ALL.iter().position(|name| *name == observation.name));
    observations
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tracer_common::settings::Offsets;

    use super::plan;
    use crate::{
        kernel::{facts::KernelFacts, prototype::Found},
        model::observation::{Name, Observation, State},
        probe::{hook::Avoided, table::PROBES},
    };

    type Prototypes = BTreeMap<&'static str, Vec<Found>>;

    fn to(name: &str) -> Found {
        Found::Struct(name.to_owned())
    }

    const INT: Found = Found::Integer(4);

    fn tracepoints() -> Prototypes {
        let (sock, task) = (|| to("sock"), || to("task_struct"));
        [
            ("inet_sock_set_state", vec![sock(), INT, INT]),
            ("tcp_destroy_sock", vec![sock()]),
            ("tcp_receive_reset", vec![sock()]),
            ("tcp_send_reset", vec![sock(), to("sk_buff")]),
            ("tcp_retransmit_skb", vec![sock(), to("sk_buff")]),
            ("tcp_retransmit_synack", vec![sock(), to("request_sock")]),
            ("sched_process_exec", vec![task(), INT, to("linux_binprm")]),
            ("sched_process_fork", vec![task(), task()]),
            ("sched_process_exit", vec![task()]),
            ("mark_victim", vec![INT]),
            ("signal_generate", vec![INT, to("kernel_siginfo"), task(), INT, INT]),
        ]
        .into()
    }

    fn functions() -> Prototypes {
        let call = || vec![INT, to("sockaddr"), INT];
        [
            ("__sys_connect", call()),
            ("__sys_bind", call()),
            ("__sys_socket", vec![INT, INT, INT]),
            ("unix_release_sock", vec![to("sock"), INT]),
        ]
        .into()
    }

    fn kernel(tracepoints: Prototypes, functions: Prototypes) -> KernelFacts {
        KernelFacts {
            offsets: Offsets::ABSENT,
            missing_members: Vec::new(),
            tracepoints,
            functions,
            kprobes: true,
            reset_reasons: BTreeMap::new(),
            drop_reasons: BTreeMap::new(),
        }
    }

    fn promised(facts: &KernelFacts, avoided: &[Avoided], name: Name) -> Observation {
        let promises = plan(facts, avoided, true).promises();
        promises.into_iter().find(|observation| observation.name == name).expect("listed")
    }

    #[test]
    fn the_best_way_is_tried_first() {
        let facts = kernel(tracepoints(), functions());
        let hook = |avoided: &[Avoided]| promised(&facts, avoided, Name::ConnectResult).hook.expect("a hook");
        assert_eq!(hook(&[]), "fexit/__sys_socket, fexit/__sys_bind, fexit/__sys_connect");
        assert!(hook(&[Avoided::NoFentry]).starts_with("kretprobe/__sys_socket"));
        assert_eq!(hook(&[Avoided::NoFentry, Avoided::NoKprobe]), "uprobe/ngx_log_error_core");
    }

    #[test]
    fn what_is_not_tried_is_said() {
        let facts = KernelFacts { kprobes: false, ..kernel(tracepoints(), functions()) };
        let observation = promised(&facts, &[Avoided::NoFentry], Name::UnixStream);
        assert_eq!(observation.state, State::Partial);
        let missing = observation.missing.expect("something is missing");
        assert!(missing.contains("fentry: switched off by --hooks; kprobe: this kernel has none"), "{missing}");
        let complete = promised(&kernel(tracepoints(), functions()), &[], Name::ConnectResult);
        assert_eq!((complete.state, complete.missing), (State::Full, None));
    }

    #[test]
    fn a_function_with_other_arguments_is_left_alone() {
        let mut functions = functions();
        functions.insert("__sys_connect", vec![INT, to("sockaddr"), INT, INT]);
        let facts = kernel(tracepoints(), functions);
        let hook = promised(&facts, &[], Name::ConnectResult).hook.expect("a hook");
        assert!(hook.starts_with("kretprobe"), "a return value would be looked for in the wrong place: {hook}");
    }

    #[test]
    fn a_third_argument_of_tcp_send_reset_is_the_reason() {
        let mut newer = tracepoints();
        assert_eq!(promised(&kernel(newer.clone(), functions()), &[], Name::Reset).state, State::Partial);
        newer.insert("tcp_send_reset", vec![to("sock"), to("sk_buff"), INT]);
        let facts = kernel(newer, functions());
        assert_eq!(promised(&facts, &[], Name::Reset).state, State::Full);
        assert!(plan(&facts, &[], true).reset_has_reason);
    }

    #[test]
    fn a_victim_is_a_task_or_a_pid() {
        let mut newer = tracepoints();
        assert!(!plan(&kernel(newer.clone(), functions()), &[], true).victim_is_task);
        newer.insert("mark_victim", vec![to("task_struct"), INT]);
        assert!(plan(&kernel(newer, functions()), &[], true).victim_is_task);
    }

    #[test]
    fn without_set_state_nothing_is_possible() {
        let mut without = tracepoints();
        without.remove("inet_sock_set_state");
        let plan = plan(&kernel(without, functions()), &[], true);
        assert_eq!(plan.impossible, ["tracepoint inet_sock_set_state does not exist"]);
    }

    #[test]
    fn every_observation_is_listed_once_and_in_order() {
        for word in [true, false] {
            let promises = plan(&kernel(Prototypes::new(), Prototypes::new()), &[], word).promises();
            let names: Vec<Name> = promises.iter().map(|observation| observation.name).collect();
            assert_eq!(names, Name::ALL);
        }
    }

    #[test]
    fn a_worse_way_hides_more_or_costs_more() {
        for probe in PROBES {
            let states: Vec<State> = probe.ways.iter().map(|way| way.state).collect();
            assert!(states.is_sorted_by_key(|state| *state == State::Partial), "{:?}", probe.name);
        }
    }
}
