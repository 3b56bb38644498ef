//! All that is asked of the kernel before loading, in one value.

use std::collections::BTreeMap;

use tracer_common::settings::Offsets;

use super::{
    btf::{Btf, BtfError},
    offsets,
};

/// Tracepoints that any probe could use.
const TRACEPOINTS: &[&str] = &[
    "inet_sock_set_state",
    "tcp_destroy_sock",
    "tcp_receive_reset",
    "tcp_send_reset",
    "tcp_retransmit_skb",
    "sched_process_exec",
    "sched_process_fork",
    "sched_process_exit",
    "mark_victim",
    "signal_generate",
    "tcp_retransmit_synack",
    "kfree_skb",
];

/// What the running kernel offers.
#[derive(Debug)]
pub struct KernelFacts {
    pub offsets: Offsets,
    /// Optional struct members that this kernel does not have, as sentences.
    pub missing_members: Vec<String>,
    /// Arguments of each known tracepoint that exists.
    pub tracepoints: BTreeMap<&'static str, usize>,
    /// `enum sk_rst_reason`: number to name, without the prefix.
    pub reset_reasons: BTreeMap<u32, String>,
    /// `enum skb_drop_reason`: number to name, without the prefix.
    pub drop_reasons: BTreeMap<u32, String>,
}

impl KernelFacts {
    /// Reads them from the running kernel.
    pub fn read() -> Result<Self, BtfError> {
        Self::from_btf(&Btf::running()?)
    }

    /// Reads them from BTF.
    pub fn from_btf(btf: &Btf) -> Result<Self, BtfError> {
        let resolved = offsets::resolve(btf)?;
        let tracepoints =
            TRACEPOINTS.iter().filter_map(|name| Some((*name, btf.tracepoint_arguments(name)?))).collect();
        let reset_reasons = btf
            .enum_names("sk_rst_reason")
            .into_iter()
            .map(|(number, name)| (number, name.trim_start_matches("SK_RST_REASON_").to_owned()))
            .collect();
        let drop_reasons = btf
            .enum_names("skb_drop_reason")
            .into_iter()
            .map(|(number, name)| (number, name.trim_start_matches("SKB_DROP_REASON_").to_owned()))
            .collect();
        Ok(Self {
            offsets: resolved.offsets,
            missing_members: resolved.missing.iter().map(ToString::to_string).collect(),
            tracepoints,
            reset_reasons,
            drop_reasons,
        })
    }
}
