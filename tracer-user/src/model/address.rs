//! Addresses of upstreams, as text in records: `1.2.3.4:80`, `[::1]:80`, `unix:/p`, `unix:@a`.

use std::{fmt, net::SocketAddr};

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
    fn nginx_names() {
        assert_eq!(Address::from_nginx("unix:/run/a.sock").to_string(), "unix:/run/a.sock");
        assert_eq!(Address::from_nginx("[::1]:80").transport(), Some("tcp"));
        assert_eq!(Address::from_nginx("backend").transport(), None);
    }
}
