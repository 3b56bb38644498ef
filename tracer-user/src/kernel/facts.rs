//! All that is asked of the kernel before loading, in one value.

use std::{collections::BTreeMap, path::Path};

use tracer_common::{loss::Program, settings::Offsets};

use super::{
    btf::{Btf, BtfError},
    offsets,
    prototype::Found,
};

/// What the running kernel offers.
#[derive(Debug)]
pub struct KernelFacts {
    pub offsets: Offsets,
    /// Optional struct members that this kernel does not have, as sentences.
    pub missing_members: Vec<String>,
    /// Of the places that programs go to, those that exist as tracepoints, and as functions.
    pub tracepoints: BTreeMap<&'static str, Vec<Found>>,
    pub functions: BTreeMap<&'static str, Vec<Found>>,
    /// The kernel has kprobes.
    pub kprobes: bool,
    /// `enum sk_rst_reason`: number to name, without the prefix.
    pub reset_reasons: BTreeMap<u32, String>,
    /// `enum skb_drop_reason`: number to name, without the prefix.
    pub drop_reasons: BTreeMap<u32, String>,
}

impl KernelFacts {
    /// Reads them from the running kernel.
    pub fn read() -> Result<Self, BtfError> {
        // The PMU that probes are opened with (perf_kprobe, kernel/events/core.c).
        let kprobes = Path::new("/sys/bus/event_source/devices/kprobe").exists();
        Ok(Self { kprobes, ..Self::from_btf(&Btf::running()?)? })
    }

    /// Reads them from BTF, which does not tell whether there are kprobes.
    pub fn from_btf(btf: &Btf) -> Result<Self, BtfError> {
        let resolved = offsets::resolve(btf)?;
        let places = || Program::ALL.into_iter().filter(|program| program.is_in_kernel()).map(Program::hook);
        Ok(Self {
            offsets: resolved.offsets,
            missing_members: resolved.missing.iter().map(ToString::to_string).collect(),
            tracepoints: places().filter_map(|place| Some((place, btf.tracepoint(place)?))).collect(),
            functions: places().filter_map(|place| Some((place, btf.function(place)?))).collect(),
            kprobes: false,
            reset_reasons: names(btf, "sk_rst_reason", "SK_RST_REASON_"),
            drop_reasons: names(btf, "skb_drop_reason", "SKB_DROP_REASON_"),
        })
    }

    /// Arguments of a tracepoint, or of a function.
    pub fn prototype(&self, tracepoint: bool, place: &str) -> Option<&[Found]> {
        let of = if tracepoint { &self.tracepoints } else { &self.functions };
        of.get(place).map(Vec::as_slice)
    }
}

fn names(btf: &Btf, name: &str, prefix: &str) -> BTreeMap<u32, String> {
    let values = btf.enum_names(name).into_iter();
    values.map(|(number, name)| (number, name.trim_start_matches(prefix).to_owned())).collect()
}
