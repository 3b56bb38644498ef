//! Addresses of upstreams, as text in records: `1.2.3.4:80`, `[::1]:80`, `unix:/p`, `unix:@a`.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

/// Where an upstream is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    Tcp(SocketAddr),
    /// Path, or `@name` for an abstract socket.
    Unix(String),
    /// The name of an `upstream {}` block, where no peer was chosen.
    Name(String),
}

impl Address {
    /// From the wire: IPv4 is mapped into IPv6 there.
    pub fn from_wire(address: [u8; 16], port: u16) -> Self {
        let address = Ipv6Addr::from(address);
        let address = address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4);
        Self::Tcp(SocketAddr::new(address, port))
    }

    /// The IP address as the wire has it.
    pub fn ip_on_wire(address: SocketAddr) -> [u8; 16] {
        match address.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        }
    }

    /// From the name that nginx gives a peer: `1.2.3.4:80`, `[::1]:80`, `unix:/path`.
    pub fn from_nginx(name: &str) -> Self {
        if let Some(path) = name.strip_prefix("unix:") {
            return Self::Unix(path.trim_end_matches(':').to_owned());
        }
        name.parse().map_or_else(|_| Self::Name(name.to_owned()), Self::Tcp)
    }

    /// `tcp`, `unix`; None when no peer was chosen.
    pub const fn transport(&self) -> Option<&'static str> {
        match self {
            Self::Tcp(_) => Some("tcp"),
            Self::Unix(_) => Some("unix"),
            Self::Name(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{path}"),
            Self::Name(name) => formatter.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn mapped_ipv4_is_ipv4() {
        let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];
        assert_eq!(Address::from_wire(mapped, 80).to_string(), "10.0.0.1:80");
        let mut loopback = [0; 16];
        loopback[15] = 1;
        assert_eq!(Address::from_wire(loopback, 80).to_string(), "[::1]:80");
    }

    #[test]
    fn nginx_names() {
        assert_eq!(Address::from_nginx("unix:/run/a.sock").to_string(), "unix:/run/a.sock");
        assert_eq!(Address::from_nginx("[::1]:80").transport(), Some("tcp"));
        assert_eq!(Address::from_nginx("backend").transport(), None);
    }
}
