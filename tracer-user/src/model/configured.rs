//! What a worker is configured to do with a request, as its memory has it: not what stands on disk by now.

/// A line of a configuration file, as nginx names the file: an absolute path in the worker's mount namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub file: String,
    /// From 1.
    pub line: u32,
}

/// Which module passes requests on; its directives begin with this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Module {
    Proxy,
    Fastcgi,
    Uwsgi,
    Scgi,
    Grpc,
    Memcached,
}

impl Module {
    pub const ALL: [Self; 6] = [Self::Proxy, Self::Fastcgi, Self::Uwsgi, Self::Scgi, Self::Grpc, Self::Memcached];

    /// As in `proxy_pass`, `proxy_read_timeout`.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Fastcgi => "fastcgi",
            Self::Uwsgi => "uwsgi",
            Self::Scgi => "scgi",
            Self::Grpc => "grpc",
            Self::Memcached => "memcached",
        }
    }
}

/// The `server` block that took the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its first `server_name`, as nginx logs it; empty where it has none.
    pub name: String,
    /// Where the block begins.
    pub place: Option<Place>,
}

/// Where a `…_pass` without variables leads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Block {
    /// Name of the `upstream` block, or the host of the URL.
    pub name: String,
    /// Where the block begins, or the first `…_pass` directive to this host.
    pub place: Option<Place>,
}

/// What is in force for the location's upstreams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pass {
    pub module: Module,
    /// None: the URL has variables.
    pub block: Option<Block>,
    pub connect_timeout_ms: u64,
    pub send_timeout_ms: u64,
    pub read_timeout_ms: u64,
    /// 0: no limit.
    pub next_upstream_timeout_ms: u64,
    /// Bytes: the largest response header.
    pub buffer_size: u64,
}

/// What a worker is configured to do with a request; None where its memory could not be read with certainty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    pub server: Option<Server>,
    /// Name of the location as written: `/api/`, `@fallback`, a regular expression.
    pub location: Option<String>,
    pub pass: Option<Pass>,
}
