//! ICMP errors about connections of this host.

use std::{collections::BTreeMap, net::IpAddr};

use aya::maps::{HashMap, MapData};
use tracer_common::{drop::DropKey, icmp::IcmpError, loss::Program};

use super::address::{from_wire, segments};
use crate::model::{address::Address, host::Ends};

/// The last error about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    pub time_ns: u64,
    pub sender: IpAddr,
    /// Type and code, as the version of IP has them.
    pub kind: u8,
    pub code: u8,
    pub is_v6: bool,
    /// The hook that saw it.
    pub source: &'static str,
}

/// Errors by connection.
#[expect(missing_debug_implementations, reason = "aya's map has none")]
pub struct Icmps {
    map: HashMap<MapData, DropKey, IcmpError>,
    /// Of IPv4 and IPv6.
    sources: [&'static str; 2],
}

impl Icmps {
    /// `sources`: what the programs are attached to, by their numbers.
    pub fn new(map: HashMap<MapData, DropKey, IcmpError>, sources: &BTreeMap<u16, &'static str>) -> Self {
        let source = |program: Program| sources.get(&(program as u16)).copied().unwrap_or("unknown");
        Self { map, sources: [source(Program::IcmpError), source(Program::Icmp6Error)] }
    }

    /// The last error about what was sent on the connection.
    pub fn about(&self, ends: &Ends) -> Option<Icmp> {
        let Ends { netns, local, remote } = *ends;
        let key = segments(local, remote, netns);
        let IcmpError { time_ns, sender, kind, code, version, reserved: _ } = self.map.get(&key, 0).ok()?;
        let Address::Tcp(sender) = from_wire(sender, 0) else { return None };
        let is_v6 = version == 6;
        Some(Icmp { time_ns, sender: sender.ip(), kind, code, is_v6, source: self.sources[usize::from(is_v6)] })
    }
}
