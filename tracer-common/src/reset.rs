//! Resets that this host sent: kept for a moment so that the receiver's end can say who reset it and why.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::address::Ip;

/// The connection as the *receiver* of the RST sees it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ResetKey {
    pub local_address: Ip,
    pub remote_address: Ip,
    pub local_port: u16,
    pub remote_port: u16,
    /// Of a loopback connection, whose addresses every namespace has for itself; else 0.
    pub netns: u32,
}

crate::wire_pod!(ResetKey, 40);

#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ResetSent {
    pub time_ns: u64,
    /// `enum sk_rst_reason` of the running kernel; [`crate::socket::NO_REASON`] or [`crate::socket::NO_SOCKET`] where the kernel
    /// gives none.
    pub reason: u32,
    /// The process whose close sent it; 0: none's, a segment was answered or a timer ran out.
    pub tgid: u32,
    pub comm: crate::process::Comm,
    /// [`QUEUE_FULL`], [`ANSWER`].
    pub flags: u32,
    /// Network namespace of the sender.
    pub netns: u32,
}

crate::wire_pod!(ResetSent, 40);

/// A listener sent it whose accept queue was over its limit (`tcp_abort_on_overflow`).
pub const QUEUE_FULL: u32 = 1;
/// It answers a segment.
pub const ANSWER: u32 = 2;

/// A place in the table of resets. Two processors may write it at once: `check` then fits neither's half.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ResetSlot {
    pub key: ResetKey,
    pub sent: ResetSent,
    pub check: u64,
}

crate::wire_pod!(ResetSlot, 88);

/// Pairs of places: a reset is put into the older place of the pair that its receiver's port chooses.
pub const RESET_PAIRS: u32 = 8192;

impl ResetKey {
    /// Which pair: by the receiver's port alone, which differs from connection to connection, and which address translation
    /// mostly leaves as it is.
    #[inline(always)]
    pub const fn pair(local_port: u16) -> u32 {
        ((local_port as u32).wrapping_mul(0x9e37_79b1) >> 8) % RESET_PAIRS
    }

    /// Is it this connection's?
    #[inline(always)]
    pub const fn is(&self, local: (Ip, u16), remote: (Ip, u16), netns: u32) -> bool {
        let ports = (self.local_port ^ local.1) | (self.remote_port ^ remote.1);
        let addresses = (self.local_address[0] ^ local.0[0]) | (self.local_address[1] ^ local.0[1]);
        let addresses = addresses | (self.remote_address[0] ^ remote.0[0]) | (self.remote_address[1] ^ remote.0[1]);
        ports == 0 && addresses == 0 && self.netns == netns
    }
}

impl ResetSlot {
    /// What `check` must be: all words, each turned by another amount, so that a mixture of two resets has another one.
    #[inline(always)]
    pub const fn sum(key: &ResetKey, sent: &ResetSent) -> u64 {
        let ports = (key.local_port as u64) << 48 | (key.remote_port as u64) << 32 | key.netns as u64;
        let cause = (sent.reason as u64) << 32 | sent.tgid as u64;
        let addresses = key.local_address[0].rotate_left(1) ^ key.local_address[1].rotate_left(8);
        let addresses = addresses ^ key.remote_address[0].rotate_left(15) ^ key.remote_address[1].rotate_left(22);
        let sender = sent.comm[0].rotate_left(29) ^ sent.comm[1].rotate_left(36);
        addresses
            ^ sender
            ^ ports.rotate_left(43)
            ^ sent.time_ns
            ^ cause.rotate_left(50)
            ^ (sent.flags as u64) << 7
            ^ (sent.netns as u64).rotate_left(57)
    }
}

#[cfg(test)]
mod tests {
    use super::{RESET_PAIRS, ResetKey, ResetSent, ResetSlot};
    use crate::address::mapped;

    fn key(port: u16) -> ResetKey {
        let address = mapped(0x0100_007f);
        ResetKey { local_address: address, remote_address: address, local_port: port, remote_port: 80, netns: 1 }
    }

    fn sent(time_ns: u64, tgid: u32) -> ResetSent {
        ResetSent { time_ns, reason: 3, tgid, comm: [u64::from(tgid), 0], flags: 0, netns: 7 }
    }

    #[test]
    fn a_mixture_of_two_resets_is_neither() {
        let sums = [(40_000, 5, 7), (40_001, 5, 7), (40_000, 6, 7), (40_000, 5, 8)]
            .map(|(port, time_ns, tgid)| ResetSlot::sum(&key(port), &sent(time_ns, tgid)));
        for (index, sum) in sums.iter().enumerate() {
            assert!(sums.iter().skip(index + 1).all(|other| other != sum), "{sums:x?}");
        }
        let is = |port| key(1).is((key(port).local_address, port), (key(1).remote_address, 80), 1);
        assert!(is(1) && !is(2));
    }

    #[test]
    fn consecutive_ports_are_spread() {
        let mut used = [0_u8; RESET_PAIRS as usize];
        (32_768..32_768 + RESET_PAIRS).for_each(|port| used[ResetKey::pair(port as u16) as usize] += 1);
        assert!(used.iter().all(|count| *count <= 4), "{:?}", used.iter().max());
    }
}
