//! IP addresses as they cross the wire.

/// The 16 octets of an IPv6 address, or of an IPv4 address mapped into it, as two words in memory order: code for eBPF
/// copies and compares bytes one at a time.
pub type Ip = [u64; 2];

/// From octets.
pub fn from_octets(octets: [u8; 16]) -> Ip {
    let (mut first, mut second) = ([0; 8], [0; 8]);
    first.copy_from_slice(&octets[..8]);
    second.copy_from_slice(&octets[8..]);
    [first, second].map(u64::from_ne_bytes)
}

/// The octets.
pub fn octets([first, second]: Ip) -> [u8; 16] {
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&first.to_ne_bytes());
    octets[8..].copy_from_slice(&second.to_ne_bytes());
    octets
}

/// An IPv4 address, its octets as they are in memory.
pub const fn mapped(address: u32) -> Ip {
    // 00 00 ff ff, then the address.
    if cfg!(target_endian = "little") {
        [0, (address as u64) << 32 | 0xffff_0000]
    } else {
        [0, 0x0000_ffff_0000_0000 | address as u64]
    }
}

/// 127.0.0.0/8 (mapped) or ::1.
pub const fn is_loopback([first, second]: Ip) -> bool {
    let second = u64::from_be(second);
    first == 0 && (second == 1 || second >> 24 == 0x0000_00ff_ff7f)
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use super::{from_octets, is_loopback, mapped, octets};

    #[test]
    fn both_families() {
        let four = Ipv4Addr::new(127, 2, 3, 4);
        let wire = from_octets(four.to_ipv6_mapped().octets());
        assert_eq!(wire, mapped(u32::from_ne_bytes(four.octets())));
        assert_eq!(octets(wire), four.to_ipv6_mapped().octets());
        let loopback = |address: Ipv6Addr| is_loopback(from_octets(address.octets()));
        assert!(loopback(four.to_ipv6_mapped()) && loopback(Ipv6Addr::LOCALHOST));
        assert!(!loopback(Ipv4Addr::new(128, 0, 0, 1).to_ipv6_mapped()) && !loopback(Ipv6Addr::UNSPECIFIED));
        assert!(!loopback(Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 1)));
    }
}
