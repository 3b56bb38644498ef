//! Reading kernel and user memory, and turning a `struct sock` into the wire's types.

use core::{ffi::c_void, mem::MaybeUninit};

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_jiffies64, bpf_ktime_get_ns, generated};
use tracer_common::{
    address::{Ip, mapped},
    process::Comm,
    settings::ABSENT,
    socket::{ALL_ACKNOWLEDGED, Live, Socket, UNACKNOWLEDGED},
};

use crate::settings::setting;

pub(crate) const AF_INET: u16 = 2;
pub(crate) const AF_INET6: u16 = 10;

/// Reads a `T` of kernel memory at `base + offset`; zero when the address is bad or the field absent.
///
/// No branch on the result: the helper zeroes the destination when it fails (bpf_probe_read_kernel_common(),
/// kernel/trace/bpf_trace.c), and each branch here would double what the verifier has to walk.
#[inline(always)]
pub(crate) fn kernel<T: Copy + Default>(base: u64, offset: u32) -> T {
    if offset == ABSENT {
        return T::default();
    }
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the helper checks the address, and initialises the destination in any case; T is plain data.
    unsafe {
        generated::bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            base.wrapping_add(u64::from(offset)) as *const c_void,
        );
        value.assume_init()
    }
}

/// Reads a `T` of the current process's memory at `base + offset`; zero when it is not mapped or not resident.
#[inline(always)]
pub(crate) fn user<T: Copy + Default>(base: u64, offset: u64) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: as in `kernel` (bpf_probe_read_user_common()).
    unsafe {
        generated::bpf_probe_read_user(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            base.wrapping_add(offset) as *const c_void,
        );
        value.assume_init()
    }
}

/// Reads `N` words of the current process's memory at `base + offset`; zeroes as with [`user`]. In place: returned, they
/// would be on the stack twice. Not zeroed before: that is a call which goes byte by byte, and takes longer than the read.
#[inline(always)]
pub(crate) fn words<const N: usize>(into: &mut MaybeUninit<[u64; N]>, base: u64, offset: u64) -> &mut [u64; N] {
    // SAFETY: a `MaybeUninit` may be written to, and has been.
    unsafe {
        words_at(into.as_mut_ptr(), base, offset);
        into.assume_init_mut()
    }
}

/// As [`words`], over what was read before.
#[inline(always)]
pub(crate) fn words_again<const N: usize>(into: &mut [u64; N], base: u64, offset: u64) {
    // SAFETY: an array may be written to.
    unsafe { words_at(into, base, offset) };
}

/// # Safety
/// `into` must be writable.
#[inline(always)]
unsafe fn words_at<const N: usize>(into: *mut [u64; N], base: u64, offset: u64) {
    // SAFETY: the helper checks the address, and writes the whole destination in any case.
    unsafe {
        let address = base.wrapping_add(offset) as *const c_void;
        generated::bpf_probe_read_user(into.cast(), size_of::<[u64; N]>() as u32, address);
    }
}

/// Name of the current thread.
#[inline(always)]
pub(crate) fn current_comm() -> Comm {
    let mut comm = [0; 2];
    // SAFETY: the destination is as long as it is said to be.
    unsafe { generated::bpf_get_current_comm((&raw mut comm).cast(), size_of::<Comm>() as u32) };
    comm
}

/// A `struct sock`, and how its fields are read.
pub(crate) trait Sock: Copy {
    /// Where it is in memory.
    fn address(self) -> u64;
    /// An integer field.
    fn field<T: Copy + Default>(self, offset: u32) -> T;
    /// A `struct in6_addr`.
    fn in6_addr(self, offset: u32) -> Ip;
    /// The inode number of its network namespace.
    fn network_namespace(self) -> u32;
}

/// By address, wherever that came from: a call of a helper for each field, 32 ns as measured on 6.18.
impl Sock for u64 {
    #[inline(always)]
    fn address(self) -> u64 {
        self
    }

    #[inline(always)]
    fn field<T: Copy + Default>(self, offset: u32) -> T {
        kernel(self, offset)
    }

    #[inline(always)]
    fn in6_addr(self, offset: u32) -> Ip {
        kernel(self, offset)
    }

    #[inline(always)]
    fn network_namespace(self) -> u32 {
        let net: u64 = kernel(self, setting!(offsets.sock_net));
        kernel(net, setting!(offsets.net_inum))
    }
}

/// A pointer that the verifier knows as `struct tcp_sock`: each field is a plain load.
///
/// The verifier lets it through because the settings are frozen: it sees every offset as a constant, and checks it
/// against the kernel's BTF (check_ptr_to_btf_access(), kernel/bpf/verifier.c).
#[derive(Clone, Copy)]
pub(crate) struct TcpSock(u64);

impl TcpSock {
    /// Of a `struct sock` that is an argument of a `tp_btf` program; None: another protocol's (MPTCP and SCTP share
    /// tracepoints with TCP).
    #[inline(always)]
    pub(crate) fn of(sk: u64) -> Option<Self> {
        // SAFETY: the verifier admits nothing else than such a pointer.
        let tcp = unsafe { generated::bpf_skc_to_tcp_sock(sk as *mut c_void) } as u64;
        if tcp == 0 { None } else { Some(Self(tcp)) }
    }

    #[inline(always)]
    fn load<T: Copy>(address: u64, offset: u32) -> T {
        // SAFETY: a live socket, whose layout the verifier checks; a fault reads as zero. Volatile: of this very size.
        unsafe { core::ptr::read_volatile(address.wrapping_add(u64::from(offset)) as *const T) }
    }
}

impl Sock for TcpSock {
    #[inline(always)]
    fn address(self) -> u64 {
        self.0
    }

    #[inline(always)]
    fn field<T: Copy + Default>(self, offset: u32) -> T {
        if offset == ABSENT { T::default() } else { Self::load(self.0, offset) }
    }

    #[inline(always)]
    fn in6_addr(self, offset: u32) -> Ip {
        if offset == ABSENT {
            return [0; 2];
        }
        [Self::load(self.0, offset), Self::load(self.0, offset + 8)]
    }

    #[inline(always)]
    fn network_namespace(self) -> u32 {
        if setting!(offsets.sock_net) == ABSENT || setting!(offsets.net_inum) == ABSENT {
            return 0;
        }
        let net: u64 = Self::load(self.0, setting!(offsets.sock_net));
        Self::load(net, setting!(offsets.net_inum))
    }
}

#[inline(always)]
pub(crate) fn remote_address(sk: impl Sock, family: u16) -> Ip {
    if family == AF_INET {
        mapped(sk.field(setting!(offsets.sock_daddr)))
    } else {
        sk.in6_addr(setting!(offsets.sock_v6_daddr))
    }
}

#[inline(always)]
pub(crate) fn local_address(sk: impl Sock, family: u16) -> Ip {
    if family == AF_INET {
        mapped(sk.field(setting!(offsets.sock_rcv_saddr)))
    } else {
        sk.in6_addr(setting!(offsets.sock_v6_rcv_saddr))
    }
}

/// Source port. `skc_num` is 0 at →CLOSE; `inet_sport` survives.
#[inline(always)]
pub(crate) fn local_port(sk: impl Sock) -> u16 {
    u16::from_be(sk.field::<u16>(setting!(offsets.inet_sport)))
}

#[inline(always)]
pub(crate) fn remote_port(sk: impl Sock) -> u16 {
    u16::from_be(sk.field::<u16>(setting!(offsets.sock_dport)))
}

/// That of the device that a packet is at.
#[inline(always)]
pub(crate) fn device_namespace(skb: u64) -> u32 {
    let device: u64 = kernel(skb, setting!(offsets.skb_device));
    let net: u64 = kernel(device, setting!(offsets.device_net));
    kernel(net, setting!(offsets.net_inum))
}

/// Gives a new `Socket` its identity. Our own end's address is chosen after the connect begins; `local` fills it in when it
/// is wanted.
#[inline(always)]
pub(crate) fn identity(socket: &mut Socket, sk: impl Sock, family: u16, flags: u32) {
    let owner = bpf_get_current_pid_tgid();
    socket.sk = sk.address();
    // SAFETY: no arguments, no effects.
    socket.started_ns = unsafe { bpf_ktime_get_ns() };
    socket.tgid = (owner >> 32) as u32;
    socket.tid = owner as u32;
    socket.netns = sk.network_namespace();
    socket.flags = flags;
    socket.remote_address = remote_address(sk, family);
    socket.remote_port = remote_port(sk);
    socket.family = family;
}

/// Fills in our own end's address.
#[inline(always)]
pub(crate) fn local(socket: &mut Socket, sk: impl Sock) {
    if socket.local_port == 0 {
        socket.local_port = local_port(sk);
        socket.local_address = local_address(sk, socket.family);
    }
}

/// Payload counters and the ages of the last payload in each direction.
#[derive(Clone, Copy)]
pub(crate) struct Traffic {
    pub(crate) bytes_sent: u64,
    /// As the kernel counts: a FIN is one byte.
    pub(crate) bytes_received: u64,
    pub(crate) since_sent_jiffies: u32,
    pub(crate) since_received_jiffies: u32,
}

#[inline(always)]
pub(crate) fn traffic(sk: impl Sock) -> Traffic {
    // SAFETY: no arguments, no effects.
    let jiffies = unsafe { bpf_jiffies64() } as u32;
    let sent: u64 = sk.field(setting!(offsets.tcp_bytes_sent));
    let retransmitted: u64 = sk.field(setting!(offsets.tcp_bytes_retrans));
    let last_sent: u32 = sk.field(setting!(offsets.tcp_lsndtime));
    let last_received: u32 = sk.field(setting!(offsets.icsk_lrcvtime));
    Traffic {
        // Retransmits can outrun bytes_sent only if the counter wrapped: not in this universe, but no underflow either.
        bytes_sent: sent.wrapping_sub(retransmitted),
        bytes_received: sk.field(setting!(offsets.tcp_bytes_received)),
        since_sent_jiffies: jiffies.wrapping_sub(last_sent),
        since_received_jiffies: jiffies.wrapping_sub(last_received),
    }
}

impl Traffic {
    /// A request is outstanding as far as counters tell: something was sent, and either nothing ever came back or the
    /// last thing sent is (a jiffy or more) younger than the last thing received. A tie proves nothing.
    #[inline(always)]
    pub(crate) fn outstanding(&self, fin: u64) -> bool {
        let received = self.bytes_received.wrapping_sub(fin);
        self.bytes_sent > 0 && (received == 0 || self.since_sent_jiffies < self.since_received_jiffies)
    }
}

/// snd_una and snd_nxt are the same when nothing is on its way.
#[inline(always)]
fn sending(sk: impl Sock) -> u8 {
    let (first, next) = (setting!(offsets.tcp_snd_una), setting!(offsets.tcp_snd_nxt));
    if first == ABSENT || next == ABSENT {
        return 0;
    }
    if sk.field::<u32>(first) == sk.field::<u32>(next) { ALL_ACKNOWLEDGED } else { UNACKNOWLEDGED }
}

/// The value of the best sample: all ones before there is any (tcp_init_sock(), net/ipv4/tcp.c).
#[inline(always)]
fn min_rtt_us(sk: impl Sock) -> u32 {
    let samples = setting!(offsets.tcp_rtt_min);
    if samples == ABSENT {
        return 0;
    }
    let value: u32 = sk.field(samples + size_of::<u32>() as u32);
    if value == u32::MAX { 0 } else { value }
}

#[inline(always)]
pub(crate) fn live(sk: impl Sock, state: u8, traffic: &Traffic) -> Live {
    let received_next: u32 = sk.field(setting!(offsets.tcp_rcv_nxt));
    let copied: u32 = sk.field(setting!(offsets.tcp_copied_seq));
    Live {
        bytes_sent: traffic.bytes_sent,
        bytes_received: traffic.bytes_received,
        unread: received_next.wrapping_sub(copied),
        total_retransmits: sk.field(setting!(offsets.tcp_total_retrans)),
        error: sk.field(setting!(offsets.sock_err)),
        soft_error: sk.field(setting!(offsets.sock_err_soft)),
        since_sent_jiffies: traffic.since_sent_jiffies,
        since_received_jiffies: traffic.since_received_jiffies,
        state,
        shutdown: sk.field(setting!(offsets.sock_shutdown)),
        bytes_acked: sk.field(setting!(offsets.tcp_bytes_acked)),
        sending: sending(sk),
        reserved: 0,
        min_rtt_us: min_rtt_us(sk),
    }
}
