//! The maps. Names are what `bpftool map` shows; sizes are defaults that user space may raise before loading.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};
use tracer_common::{
    loss::COUNTERS,
    process::Process,
    reset::{ResetKey, ResetSent},
    socket::Socket,
    upstream::{UpstreamCounts, UpstreamKey},
};

/// The one ring buffer: its order is the order of events.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(4 * 1024 * 1024, 0);

/// Live traced sockets by the address of their `struct sock`. A plain hash: evicting a live socket would be a lie.
/// Preallocated: before 6.1 a tracing program must not allocate in interrupt context.
#[map]
pub(crate) static SOCKETS: HashMap<u64, Socket> = HashMap::with_max_entries(65_536, 0);

/// Processes judged, by tgid. Losing an untraced one costs a new judgement, so the least recent may go.
#[map]
pub(crate) static PROCESSES: LruHashMap<u32, Process> = LruHashMap::with_max_entries(16_384, 0);

/// Counts per upstream.
#[map]
pub(crate) static UPSTREAMS: PerCpuHashMap<UpstreamKey, UpstreamCounts> =
    PerCpuHashMap::with_max_entries(2048, BPF_F_NO_PREALLOC);

/// RSTs sent by this host a moment ago.
#[map]
pub(crate) static RESETS: LruHashMap<ResetKey, ResetSent> = LruHashMap::with_max_entries(4096, 0);

/// Losses by [`tracer_common::loss::counter`].
#[map]
pub(crate) static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// Events written into the ring, per CPU: entry 0.
#[map]
pub(crate) static EMITTED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// When nginx last complained about a socket that could not be told, in ns: entry 0. Spares every other close a look-up.
#[map]
pub(crate) static LAST_UNBOUND: Array<u64> = Array::with_max_entries(1, 0);

/// Where a new `Socket` is made: one entry for each program that makes them, since one may interrupt the other.
#[map]
pub(crate) static NEW_SOCKET: PerCpuArray<Socket> = PerCpuArray::with_max_entries(2, 0);

/// Entries of [`NEW_SOCKET`].
pub(crate) const NEW_AT_CONNECT: u32 = 0;
pub(crate) const NEW_AT_COMPLAINT: u32 = 1;

/// A copy of the head of an `ngx_http_request_t`, for a moment.
#[map]
pub(crate) static SCRATCH: PerCpuArray<[u64; SCRATCH_WORDS]> = PerCpuArray::with_max_entries(1, 0);

/// Longer than the way to `request_line` in any known version (1.18: ~1000 bytes), shorter than the struct.
pub(crate) const SCRATCH_WORDS: usize = 150;
