//! The maps. Names are what `bpftool map` shows; sizes are defaults that user space may raise before loading.

use aya_ebpf::{
    bindings::BPF_F_NO_PREALLOC,
    macros::map,
    maps::{Array, HashMap, LruHashMap, LruPerCpuHashMap, PerCpuArray, PerCpuHashMap, ProgramArray, RingBuf},
};
use tracer_common::{
    call::Call,
    drop::{DROP_PLACES, DropKey, Dropped},
    icmp::IcmpError,
    listener::{ListenerKey, Listening, Overflowed},
    loss::COUNTERS,
    peer::{Fate, PeerClosed, PeerKey, Stop},
    process::Process,
    reset::{RESET_PAIRS, ResetSlot},
    socket::{NO_REASON, Socket},
    storm::{CALM, RequestId, Spoken, Storm, StormKey},
    ttl::{Ttls, UpstreamTtl},
    unix::{UnixClosed, UnixConnect},
    upstream::{IdleCloses, UpstreamCounts, UpstreamKey},
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

/// Processes whose lines are taken as they write them: tgid. The files of others can be read.
#[map]
pub(crate) static WRITERS: HashMap<u32, u8> = HashMap::with_max_entries(4096, BPF_F_NO_PREALLOC);

/// Where the code of these functions begins, and where it ends: packets dropped in them without a reason are looked at. Written by
/// user space once it has found them; zeros: not known.
#[map]
pub(crate) static DROP_CODE: Array<[u64; 2]> = Array::with_max_entries(DROP_PLACES as u32, 0);

/// Counts per upstream.
#[map]
pub(crate) static UPSTREAMS: PerCpuHashMap<UpstreamKey, UpstreamCounts> =
    PerCpuHashMap::with_max_entries(2048, BPF_F_NO_PREALLOC);

/// Idle times at which upstreams closed connections.
#[map]
pub(crate) static IDLE: LruPerCpuHashMap<UpstreamKey, IdleCloses> = LruPerCpuHashMap::with_max_entries(512, 0);

/// RSTs sent by this host a moment ago, by [`tracer_common::reset::ResetKey::pair`]. No hash map: RSTs are sent for every refused connect of the
/// host, each with a key of its own, and to insert one of those costs more than all else that is done about it.
#[map]
pub(crate) static RESETS: Array<ResetSlot> = Array::with_max_entries(2 * RESET_PAIRS, 0);

/// How far traced connections' segments have come, while that is looked at.
#[map]
pub(crate) static TTLS: LruHashMap<DropKey, Ttls> = LruHashMap::with_max_entries(4096, 0);

/// The last time to live of a segment, no RST, by upstream, while that is looked at.
#[map]
pub(crate) static UPSTREAM_TTL: LruHashMap<UpstreamKey, UpstreamTtl> = LruHashMap::with_max_entries(512, 0);

/// Ends closed by processes of this host a moment ago, where something about it was not plainly healthy.
#[map]
pub(crate) static PEERS: LruHashMap<PeerKey, PeerClosed> = LruHashMap::with_max_entries(8192, 0);

/// Live unix connections of traced processes by the address of their `struct sock`, where connects are seen.
#[map]
pub(crate) static UNIX: HashMap<u64, UnixConnect> = HashMap::with_max_entries(16_384, 0);

/// Other ends of unix connections closed a moment ago, by the inode number of the end that remains: addresses are reused
/// at once, inode numbers are not.
#[map]
pub(crate) static UNIX_CLOSED: LruHashMap<u64, UnixClosed> = LruHashMap::with_max_entries(2048, 0);

/// Calls of traced threads that have not returned, where only kretprobes tell: thread id.
#[map]
pub(crate) static CALLS: LruHashMap<u32, Call> = LruHashMap::with_max_entries(1024, 0);

/// What was done to processes a moment ago.
#[map]
pub(crate) static FATES: LruHashMap<u32, Fate> = LruHashMap::with_max_entries(1024, 0);

/// Control groups that were told to stand still, in ns, by their id.
#[map]
pub(crate) static FREEZES: LruHashMap<u64, u64> = LruHashMap::with_max_entries(1024, 0);

/// Servers that were told to reload, by tgid.
#[map]
pub(crate) static ORDERS: LruHashMap<u32, Stop> = LruHashMap::with_max_entries(512, 0);

/// Processes that were told to stand still, and not to go on, by tgid.
#[map]
pub(crate) static STOPS: LruHashMap<u32, Stop> = LruHashMap::with_max_entries(1024, 0);

/// Processes that listen, or were forked by one that does, by tgid: [`tracer_common::server`].
#[map]
pub(crate) static SERVERS: LruHashMap<u32, u32> = LruHashMap::with_max_entries(8192, 0);

/// Live listeners. One that finds no room is not looked at when a connect to it goes unanswered.
#[map]
pub(crate) static LISTENERS: HashMap<ListenerKey, Listening> = HashMap::with_max_entries(8192, 0);

/// Drops at listeners.
#[map]
pub(crate) static OVERFLOWS: LruPerCpuHashMap<ListenerKey, Overflowed> = LruPerCpuHashMap::with_max_entries(1024, 0);

/// Whether user space has named a kind of complaint, and keeps up: entry 0, one of [`tracer_common::storm`].
#[map]
pub(crate) static STORMING: Array<u32> = Array::with_max_entries(1, 0);

/// Kinds of complaints that user space has named, and how many there were. A plain hash: counts must not be evicted.
#[map]
pub(crate) static STORMS: HashMap<StormKey, Storm> = HashMap::with_max_entries(1024, 0);

/// What was said of main requests, so that all of one is told or all of it is counted.
#[map]
pub(crate) static REQUESTS: LruHashMap<RequestId, Spoken> = LruHashMap::with_max_entries(16_384, 0);

/// What a new entry of [`REQUESTS`] begins as: on the stack it would take an eighth of it.
pub(crate) static NOTHING_SPOKEN: Spoken = Spoken {
    start_ms: 0,
    attempts: 0,
    told: 0,
    counted: 0,
    answered: 0,
    counted_as: StormKey { literal: 0, action: 0, location: 0, peer: 0, tgid: 0, errno: 0 },
};

/// Packets dropped a moment ago.
#[map]
pub(crate) static DROPS: LruHashMap<DropKey, Dropped> = LruHashMap::with_max_entries(16_384, 0);

/// ICMP errors received a moment ago, by the segment that they are about.
#[map]
pub(crate) static ICMP: LruHashMap<DropKey, IcmpError> = LruHashMap::with_max_entries(1024, 0);

/// 1 where a hook is attached that others then leave the counting to: [`tracer_common::hooked`].
#[map]
pub(crate) static HOOKED: Array<u32> = Array::with_max_entries(tracer_common::hooked::COUNT, 0);

/// Threads that have closed a listener a moment ago, and when: by thread id.
#[map]
pub(crate) static CLOSERS: LruHashMap<u32, u64> = LruHashMap::with_max_entries(1024, 0);

/// When a traced connection last had to send something again, in ns: entry 0.
#[map]
pub(crate) static LAST_RETRANSMIT: Array<u64> = Array::with_max_entries(1, 0);

/// What has passed by programs, per CPU: [`tracer_common::passing`].
#[map]
pub(crate) static PASSED: PerCpuArray<u64> = PerCpuArray::with_max_entries(tracer_common::passing::COUNT, 0);

/// Losses by [`tracer_common::loss::counter`].
#[map]
pub(crate) static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// Events written into the ring, per CPU: entry 0.
#[map]
pub(crate) static EMITTED: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// When nginx last complained about a socket that could not be told, in ns: entry 0. Spares every other close a look-up.
#[map]
pub(crate) static LAST_UNBOUND: Array<u64> = Array::with_max_entries(1, 0);

/// Empty for ever: see `probe::nginx::on_the_kernel_stack`.
#[map]
pub(crate) static NOWHERE: ProgramArray = ProgramArray::with_max_entries(1, 0);

/// What a new entry of [`SOCKETS`] begins as, to be filled in place: on the stack it would take a third of it, and a
/// scratch entry per CPU could be overwritten by a preempting worker.
pub(crate) static NEW_SOCKET: Socket = Socket {
    sk: 0,
    started_ns: 0,
    established_ns: 0,
    ended_ns: 0,
    ended_bytes_sent: 0,
    ended_bytes_received: 0,
    fin_ns: 0,
    last_retransmit_ns: 0,
    tgid: 0,
    tid: 0,
    netns: 0,
    flags: 0,
    ended_error: 0,
    ended_since_sent_jiffies: 0,
    ended_since_received_jiffies: 0,
    retransmits: 0,
    reset_reason: NO_REASON,
    reset_by_tgid: 0,
    reset_by_comm: [0; 2],
    local_address: [0; 2],
    remote_address: [0; 2],
    local_port: 0,
    remote_port: 0,
    family: 0,
    ended_state: 0,
    reset_state: 0,
};

/// A copy of the head of an `ngx_http_request_t`, for a moment.
#[map]
pub(crate) static SCRATCH: PerCpuArray<[u64; SCRATCH_WORDS]> = PerCpuArray::with_max_entries(1, 0);

/// Longer than the way to `request_line` in any known version (1.18: ~1000 bytes), shorter than the struct.
pub(crate) const SCRATCH_WORDS: usize = 150;

/// Is anything counted instead of told?
#[inline(always)]
pub(crate) fn storming() -> u32 {
    // SAFETY: a live map entry, read only.
    STORMING.get_ptr(0).map_or(CALM, |storming| unsafe { *storming })
}

/// Is this one attached?
#[inline(always)]
pub(crate) fn hooked(which: u32) -> bool {
    // SAFETY: a live map entry, read only.
    HOOKED.get_ptr(which).is_some_and(|hooked| unsafe { *hooked } == 1)
}
