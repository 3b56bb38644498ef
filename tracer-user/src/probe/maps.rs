//! The maps of the loaded programs, each to be taken once by who reads it.

use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuHashMap, RingBuf},
};
use tracer_common::{
    call::Call,
    drop::{DropKey, Dropped},
    icmp::IcmpError,
    listener::{ListenerKey, Overflowed},
    peer::{Fate, PeerClosed, PeerKey, Stop},
    process::Process,
    reset::ResetSlot,
    storm::{Storm, StormKey},
    ttl::Ttls,
    upstream::{IdleCloses, UpstreamCounts, UpstreamKey},
};

use super::attach::{AttachError, Probes};

/// How large the map of dropped packets has to be: each processor may keep some of it for itself, unused (LOCAL_FREE_TARGET,
/// kernel/bpf/bpf_lru_list.c, until 6.16).
pub(super) fn drops_capacity(processors: usize) -> u32 {
    const ROOM: usize = 16_384;
    const LOCAL: usize = 128;
    u32::try_from(ROOM + LOCAL * processors).unwrap_or(u32::MAX)
}

impl Probes {
    /// The ring buffer; once.
    pub fn take_events(&mut self) -> Result<RingBuf<MapData>, AttachError> {
        self.take("EVENTS")
    }

    /// Processes judged by the kernel programs.
    pub fn take_processes(&mut self) -> Result<HashMap<MapData, u32, Process>, AttachError> {
        self.take("PROCESSES")
    }

    /// Counts per upstream.
    pub fn take_upstreams(&mut self) -> Result<PerCpuHashMap<MapData, UpstreamKey, UpstreamCounts>, AttachError> {
        self.take("UPSTREAMS")
    }

    /// Complaints that are counted instead of told.
    pub fn take_storms(&mut self) -> Result<HashMap<MapData, StormKey, Storm>, AttachError> {
        self.take("STORMS")
    }

    /// Whether any is.
    pub fn take_storming(&mut self) -> Result<Array<MapData, u32>, AttachError> {
        self.take("STORMING")
    }

    /// Ends closed lately.
    pub fn take_peers(&mut self) -> Result<HashMap<MapData, PeerKey, PeerClosed>, AttachError> {
        self.take("PEERS")
    }

    /// What was done to processes lately.
    pub fn take_fates(&mut self) -> Result<HashMap<MapData, u32, Fate>, AttachError> {
        self.take("FATES")
    }

    /// Processes that stand still.
    pub fn take_stops(&mut self) -> Result<HashMap<MapData, u32, Stop>, AttachError> {
        self.take("STOPS")
    }

    /// Control groups that are frozen, and since when.
    pub fn take_freezes(&mut self) -> Result<HashMap<MapData, u64, u64>, AttachError> {
        self.take("FREEZES")
    }

    /// Servers told to reload.
    pub fn take_orders(&mut self) -> Result<HashMap<MapData, u32, Stop>, AttachError> {
        self.take("ORDERS")
    }

    /// Processes that listen.
    pub fn take_servers(&mut self) -> Result<HashMap<MapData, u32, u32>, AttachError> {
        self.take("SERVERS")
    }

    /// Drops at listeners.
    pub fn take_overflows(&mut self) -> Result<PerCpuHashMap<MapData, ListenerKey, Overflowed>, AttachError> {
        self.take("OVERFLOWS")
    }

    /// Packets dropped lately.
    pub fn take_drops(&mut self) -> Result<HashMap<MapData, DropKey, Dropped>, AttachError> {
        self.take("DROPS")
    }

    /// How far segments have come lately.
    pub fn take_ttls(&mut self) -> Result<HashMap<MapData, DropKey, Ttls>, AttachError> {
        self.take("TTLS")
    }

    /// RSTs sent lately.
    pub fn take_resets(&mut self) -> Result<Array<MapData, ResetSlot>, AttachError> {
        self.take("RESETS")
    }

    /// Calls under way.
    pub fn take_calls(&mut self) -> Result<HashMap<MapData, u32, Call>, AttachError> {
        self.take("CALLS")
    }

    /// ICMP errors received lately.
    pub fn take_icmp(&mut self) -> Result<HashMap<MapData, DropKey, IcmpError>, AttachError> {
        self.take("ICMP")
    }

    /// Where the code is in which packets are dropped.
    pub fn take_drop_code(&mut self) -> Result<Array<MapData, [u64; 2]>, AttachError> {
        self.take("DROP_CODE")
    }

    /// When a traced connection last had to send something again.
    pub fn take_last_retransmit(&mut self) -> Result<Array<MapData, u64>, AttachError> {
        self.take("LAST_RETRANSMIT")
    }

    /// What has passed by programs that much passes by.
    pub fn take_passed(&mut self) -> Result<PerCpuArray<MapData, u64>, AttachError> {
        self.take("PASSED")
    }

    /// Idle times at which upstreams closed connections.
    pub fn take_idle(&mut self) -> Result<PerCpuHashMap<MapData, UpstreamKey, IdleCloses>, AttachError> {
        self.take("IDLE")
    }

    /// Losses, by `tracer_common::loss::counter`.
    pub fn take_losses(&mut self) -> Result<PerCpuArray<MapData, u64>, AttachError> {
        self.take("LOSSES")
    }

    fn take<M: TryFrom<Map, Error = MapError>>(&mut self, name: &'static str) -> Result<M, AttachError> {
        take(&mut self.ebpf, name)
    }
}

pub(super) fn take<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, AttachError> {
    let map = ebpf.take_map(name).ok_or(AttachError::Absent(name))?;
    M::try_from(map).map_err(|source| AttachError::Map { name, source })
}
