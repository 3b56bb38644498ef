//! Addresses as the wire has them.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use tracer_common::{
    address::{Ip, from_octets, octets},
    drop::DropKey,
};

use crate::model::address::Address;

/// From the wire: IPv4 is mapped into IPv6 there.
pub fn from_wire(address: Ip, port: u16) -> Address {
    let address = Ipv6Addr::from(octets(address));
    let address = address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4);
    Address::Tcp(SocketAddr::new(address, port))
}

/// The IP address for the wire.
pub fn on_wire(address: SocketAddr) -> Ip {
    from_octets(match address.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    })
}

/// The key of segments from one end of a connection to the other; `netns` is where they are.
pub fn segments(from: SocketAddr, to: SocketAddr, netns: u32) -> DropKey {
    DropKey {
        source: on_wire(from),
        destination: on_wire(to),
        source_port: from.port(),
        destination_port: to.port(),
        netns: if to.ip().is_loopback() { netns } else { 0 },
    }
}

#[cfg(test)]
mod tests {
    use super::{from_wire, on_wire};

    #[test]
    fn mapped_ipv4_is_ipv4() {
        for text in ["10.0.0.1:80", "[::1]:80"] {
            let address: std::net::SocketAddr = text.parse().expect("an address");
            assert_eq!(from_wire(on_wire(address), 80).to_string(), text);
        }
    }
}
