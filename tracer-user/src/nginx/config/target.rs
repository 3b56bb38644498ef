//! Where `…_pass` and the `server` lines of `upstream` blocks lead.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

use super::{tree::Directive, view::View};
use crate::model::{address::Address, configured::Module};

/// Unix sockets of one configuration that are looked at.
const SOCKETS: usize = 256;

/// What is written in place of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Address(Address),
    /// A name to resolve, or of an `upstream` block.
    Name {
        host: String,
        port: Option<u16>,
        default_port: u16,
    },
    /// Known only when a request comes.
    Variable,
}

/// How well a line fits an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    No,
    /// A name with the same port: it may resolve to it.
    Name,
    /// The very address.
    Address,
}

impl Target {
    /// Of a `…_pass` directive.
    pub(super) fn of_pass(pass: &Directive) -> Option<Self> {
        let module = module(pass)?;
        let url = pass.arguments.first()?;
        let (rest, default_port) = match module {
            Module::Proxy => scheme(url, &[("http://", 80), ("https://", 443)])?,
            // Without a scheme it is grpc://.
            Module::Grpc => scheme(url, &[("grpc://", 80), ("grpcs://", 443)]).unwrap_or((url, 80)),
            Module::Uwsgi => scheme(url, &[("uwsgi://", 0), ("suwsgi://", 0)]).unwrap_or((url, 0)),
            Module::Fastcgi | Module::Scgi | Module::Memcached => (url.as_str(), 0),
        };
        Some(Self::parse(rest, default_port))
    }

    /// Of a `server` line of an `upstream` block: port 80 if none is given.
    pub(super) fn of_server(server: &Directive) -> Option<Self> {
        server.arguments.first().map(|address| Self::parse(address, 80))
    }

    /// As ngx_parse_url(), src/core/ngx_inet.c, 1.22.
    fn parse(text: &str, default_port: u16) -> Self {
        if let Some(path) = text.strip_prefix("unix:") {
            // A colon ends the path where a URI follows.
            let path = path.split(':').next().unwrap_or_default();
            return if path.contains('$') { Self::Variable } else { Self::Address(Address::Unix(path.to_owned())) };
        }
        let host = text.split(['/', '?']).next().unwrap_or_default();
        if host.contains('$') {
            return Self::Variable;
        }
        if let Some((address, port)) = host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            let port = port.strip_prefix(':').map_or(Some(default_port), |port| port.parse().ok());
            if let (Ok(address), Some(port)) = (address.parse::<Ipv6Addr>(), port) {
                return Self::Address(Address::Tcp(SocketAddr::new(IpAddr::V6(address), port)));
            }
        }
        let (name, port) = match host.split_once(':') {
            Some((name, port)) => (name, port.parse().ok()),
            None => (host, None),
        };
        match name.parse::<IpAddr>() {
            Ok(address) => Self::Address(Address::Tcp(SocketAddr::new(address, port.unwrap_or(default_port)))),
            Err(_) => Self::Name { host: name.to_owned(), port, default_port },
        }
    }

    /// Could a connection to this address have come from here?
    pub(super) fn fit(&self, address: &Address) -> Fit {
        match (self, address) {
            (Self::Address(own), address) if own == address => Fit::Address,
            (Self::Name { host, .. }, Address::Name(name)) if host.eq_ignore_ascii_case(name) => Fit::Address,
            (Self::Name { port, default_port, .. }, Address::Tcp(address))
                if port.unwrap_or(*default_port) == address.port() =>
            {
                Fit::Name
            }
            _ => Fit::No,
        }
    }

    /// The name of the `upstream` block that it means, should there be one: those have no port.
    pub(super) fn block_name(&self) -> Option<&str> {
        match self {
            Self::Name { host, port: None, .. } => Some(host),
            _ => None,
        }
    }

    /// The host as nginx calls its upstream.
    pub(super) fn host(&self) -> Option<String> {
        match self {
            Self::Name { host, .. } => Some(host.clone()),
            Self::Address(Address::Tcp(SocketAddr::V4(address))) => Some(address.ip().to_string()),
            Self::Address(Address::Tcp(SocketAddr::V6(address))) => Some(format!("[{}]", address.ip())),
            Self::Address(Address::Unix(path)) => Some(format!("unix:{path}")),
            Self::Address(Address::Name(_)) | Self::Variable => None,
        }
    }
}

/// Paths of the unix sockets that lines lead to.
pub(super) fn sockets(view: &View<'_>) -> Vec<String> {
    let mut found = BTreeSet::new();
    view.each(|chain, directive| {
        let of_upstream = || chain.last().is_some_and(|block| block.name == "upstream");
        let target = match directive.name.as_str() {
            "server" if of_upstream() => Target::of_server(directive),
            _ => Target::of_pass(directive),
        };
        if let Some(Target::Address(Address::Unix(path))) = target {
            found.insert(path);
        }
    });
    found.into_iter().take(SOCKETS).collect()
}

fn scheme<'a>(url: &'a str, schemes: &[(&str, u16)]) -> Option<(&'a str, u16)> {
    if url.starts_with('$') {
        return Some((url, 0));
    }
    schemes.iter().find_map(|(scheme, port)| {
        let start = url.get(..scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then(|| (&url[scheme.len()..], *port))
    })
}

/// The module whose `…_pass` it is.
pub(super) fn module(directive: &Directive) -> Option<Module> {
    let prefix = directive.name.strip_suffix("_pass")?;
    Module::ALL.into_iter().find(|module| module.prefix() == prefix)
}

/// `max_fails` and the like of a `server` line.
pub(super) fn parameter<'a>(server: &'a Directive, name: &str) -> Option<&'a str> {
    let value = |argument: &'a String| argument.strip_prefix(name)?.strip_prefix('=');
    server.arguments.iter().skip(1).find_map(value)
}

/// Does a `server` line have this flag: `down`, `backup`?
pub(super) fn has_flag(server: &Directive, name: &str) -> bool {
    server.arguments.iter().skip(1).any(|argument| argument == name)
}

#[cfg(test)]
mod tests {
    use super::{Fit, Target, View, has_flag, module, parameter, sockets};
    use crate::{
        model::address::Address,
        nginx::config::{
            tree::{Directive, read, tests::Memory},
            view::tests::tree,
        },
    };

    fn line(text: &str) -> Directive {
        tree(&[("/a", text)]).main.remove(0)
    }

    #[test]
    fn passes_lead_to_addresses_and_names() {
        for (text, address, expected) in [
            ("proxy_pass http://127.0.0.1:3001/x?a=b;", "127.0.0.1:3001", Fit::Address),
            ("proxy_pass http://127.0.0.1;", "127.0.0.1:80", Fit::Address),
            ("proxy_pass HTTPS://127.0.0.1;", "127.0.0.1:443", Fit::Address),
            ("proxy_pass http://[::1]:8080/;", "[::1]:8080", Fit::Address),
            ("proxy_pass http://[::1];", "[::1]:80", Fit::Address),
            ("proxy_pass http://localhost:3001;", "127.0.0.1:3001", Fit::Name),
            ("proxy_pass http://localhost:3001;", "127.0.0.1:3002", Fit::No),
            ("proxy_pass http://unix:/run/a.sock:/uri;", "unix:/run/a.sock", Fit::Address),
            ("proxy_pass http://unix:/run/a.sock;", "unix:/run/b.sock", Fit::No),
            ("proxy_pass http://Backend;", "backend", Fit::Address),
            ("proxy_pass http://$host:80;", "127.0.0.1:80", Fit::No),
            ("fastcgi_pass unix:/run/php.sock;", "unix:/run/php.sock", Fit::Address),
            ("fastcgi_pass 127.0.0.1:9000;", "127.0.0.1:9000", Fit::Address),
            ("grpc_pass grpcs://10.0.0.1;", "10.0.0.1:443", Fit::Address),
            ("grpc_pass 10.0.0.1:50051;", "10.0.0.1:50051", Fit::Address),
            ("uwsgi_pass suwsgi://10.0.0.1:9;", "10.0.0.1:9", Fit::Address),
        ] {
            let target = Target::of_pass(&line(text)).expect("it passes");
            assert_eq!(target.fit(&Address::from_nginx(address)), expected, "{text}");
        }
        assert_eq!(Target::of_pass(&line("proxy_pass $url;")), Some(Target::Variable));
        assert_eq!(Target::of_pass(&line("fastcgi_pass $pool;")), Some(Target::Variable));
        for text in ["proxy_pass ftp://a;", "proxy_pass;", "proxy_set_header a b;", "other_pass x;"] {
            assert_eq!(Target::of_pass(&line(text)), None, "{text}");
        }
        assert!(module(&line("memcached_pass a;")).is_some());
    }

    #[test]
    fn servers_have_port_80_and_parameters() {
        let server = line("server 10.0.0.1 max_fails=3 fail_timeout=5s backup;");
        let target = Target::of_server(&server).expect("an address");
        assert_eq!(target.fit(&Address::from_nginx("10.0.0.1:80")), Fit::Address);
        assert_eq!(parameter(&server, "max_fails"), Some("3"));
        assert_eq!(parameter(&server, "max_conns"), None);
        assert!(has_flag(&server, "backup") && !has_flag(&server, "down"));
    }

    #[test]
    fn unix_sockets_of_a_configuration() {
        let text = "http { upstream a { server unix:/run/a.sock; server 10.0.0.1; } server { listen unix:/run/own.sock; \
                    location / { fastcgi_pass unix:/run/php.sock; } location /x { proxy_pass http://unix:/run/a.sock:/y; } \
                    location /v { proxy_pass http://unix:/run/$name.sock; } } }";
        let tree = tree(&[("/a", text)]);
        assert_eq!(sockets(&View::new(&tree, i128::MAX)), ["/run/a.sock", "/run/php.sock"]);
    }

    #[test]
    fn odd_targets_do_no_harm() {
        for text in ["[", "[::1", "[::1]x", ":", "unix:", "[]:1", "a:99999", "/", "?", "\u{1F600}://"] {
            let text = format!("server \"{text}\";");
            let tree = read(&mut Memory::of(&[("/a", &text)]), "/a", None).expect("it can be read");
            let target = Target::of_server(&tree.main[0]).expect("something");
            assert_eq!(target.fit(&Address::from_nginx("10.0.0.1:81")), Fit::No, "{text}");
        }
    }
}
