//! Packets of a connection that this host's kernel dropped, and why.

use std::{collections::BTreeMap, net::SocketAddr};

use aya::maps::{Array, HashMap, MapData};
use tracer_common::{
    drop::{DropKey, Dropped},
    settings::DROP_REASON_WORDS,
};

use super::address::on_wire;

/// Drops that tell of the network, and not of a connection that ends: by the names of `enum skb_drop_reason`.
const REASONS: [&str; 23] = [
    "NETFILTER_DROP",
    "SOCKET_FILTER",
    "BPF_CGROUP_EGRESS",
    "XDP",
    "TC_INGRESS",
    "TC_EGRESS",
    "SECURITY_HOOK",
    "QDISC_DROP",
    "IP_OUTNOROUTES",
    "IP_INNOROUTES",
    "IP_INADDRERRORS",
    "IP_RPFILTER",
    "IP_INVALID_SOURCE",
    "IP_INVALID_DEST",
    "IP_LOCALNET",
    "IP_LOCAL_SOURCE",
    "NEIGH_FAILED",
    "NEIGH_QUEUEFULL",
    "PKT_TOO_BIG",
    "XFRM_POLICY",
    "OTHERHOST",
    "DEV_READY",
    "IPV6DISABLED",
];

/// The reasons to look at, as the kernel program wants them.
pub fn wanted(names: &BTreeMap<u32, String>) -> [u64; DROP_REASON_WORDS] {
    let mut words = [0; DROP_REASON_WORDS];
    for (number, _) in names.iter().filter(|(_, name)| REASONS.contains(&name.as_str())) {
        if let Some(word) = words.get_mut((number >> 6) as usize) {
            *word |= 1_u64 << (number & 63);
        }
    }
    words
}

/// Drops of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drop {
    /// The kernel's name of the reason, or its number.
    pub reason: String,
    pub count: u32,
    pub first_ns: u64,
    pub last_ns: u64,
    /// Segments from the worker; else answers to it.
    pub outgoing: bool,
}

/// Drops by connection.
#[expect(missing_debug_implementations, reason = "aya's maps have none")]
pub struct Drops {
    map: HashMap<MapData, DropKey, Dropped>,
    last_retransmit: Array<MapData, u64>,
    reasons: BTreeMap<u32, String>,
}

impl Drops {
    pub const fn new(
        map: HashMap<MapData, DropKey, Dropped>,
        last_retransmit: Array<MapData, u64>,
        reasons: BTreeMap<u32, String>,
    ) -> Self {
        Self { map, last_retransmit, reasons }
    }

    /// When a traced connection last had to send something again; 0: never.
    pub fn last_retransmit_ns(&self) -> u64 {
        self.last_retransmit.get(&0, 0).unwrap_or(0)
    }

    /// What was dropped of the connection from `local` to `remote`, in either direction.
    pub fn of(&self, netns: u32, local: SocketAddr, remote: SocketAddr) -> Option<Drop> {
        let one_way = |from: SocketAddr, to: SocketAddr, outgoing| {
            let key = DropKey {
                source: on_wire(from),
                destination: on_wire(to),
                source_port: from.port(),
                destination_port: to.port(),
                netns: if to.ip().is_loopback() { netns } else { 0 },
            };
            let Dropped { first_ns, last_ns, reason, count } = self.map.get(&key, 0).ok()?;
            let reason = self.reasons.get(&reason).cloned().unwrap_or_else(|| reason.to_string());
            Some(Drop { reason, count, first_ns, last_ns, outgoing })
        };
        one_way(local, remote, true).or_else(|| one_way(remote, local, false))
    }
}

#[cfg(test)]
mod tests {
    use super::wanted;

    #[test]
    fn reasons_are_wanted_by_name() {
        let names = [(3, "NO_SOCKET"), (12, "NETFILTER_DROP"), (88, "IP_INNOROUTES"), (1 << 16, "XDP")];
        let names = names.into_iter().map(|(number, name)| (number, name.to_owned())).collect();
        assert_eq!(wanted(&names), [1 << 12, 1 << (88 - 64), 0, 0]);
    }
}
