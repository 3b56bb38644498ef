//! Which records are shown and logged: `--upstream`, `--cause`. Numbers about everything always pass.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::recent::Recent;
use crate::model::cause::Cause;
use crate::record::{Lost, Record, Response, Upstream};

/// Failures whose fate is remembered for the responses and updates that name them.
const REMEMBERED: usize = 16_384;

/// An upstream, or a set of them, as given with `--upstream`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamPattern {
    /// Every port of it.
    Ip(IpAddr),
    Socket(SocketAddr),
    /// Address and length of the prefix.
    Network(IpAddr, u8),
    /// Path, or `@name` for an abstract socket.
    Unix(String),
}

/// Why a text is no upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    #[error(
        "expected an address, as 10.0.0.1, 10.0.0.1:8080, 10.0.0.0/8, [::1]:8080, unix:/run/app.sock or unix:@name"
    )]
    NotAnAddress,
    #[error("host names are not looked up: give the address that nginx connects to, as 10.0.0.1:8080")]
    HostName,
    #[error("the prefix after / must be a number from 0 to {0}")]
    Prefix(u8),
    #[error("the port must be a number from 0 to 65535")]
    Port,
    #[error("an IPv6 address with a port needs brackets, as [::1]:8080")]
    Brackets,
    #[error("unix: needs a path that begins with / or an abstract name that begins with @")]
    UnixPath,
}

impl FromStr for UpstreamPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let named = path.len() > 1 && path.starts_with(['/', '@']);
            return if named { Ok(Self::Unix(path.to_owned())) } else { Err(PatternError::UnixPath) };
        }
        if let Some((address, prefix)) = text.split_once('/') {
            return network(address, prefix);
        }
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Self::Socket(canonical(socket)));
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(Self::Ip(address.to_canonical()));
        }
        Err(what_is_wrong(text))
    }
}

fn network(address: &str, prefix: &str) -> Result<UpstreamPattern, PatternError> {
    let address: IpAddr = address.parse().map_err(|_| PatternError::NotAnAddress)?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    match prefix.parse() {
        Ok(prefix) if prefix <= longest => Ok(UpstreamPattern::Network(address, prefix)),
        _ => Err(PatternError::Prefix(longest)),
    }
}

fn what_is_wrong(text: &str) -> PatternError {
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    let bare = host.trim_matches(['[', ']']);
    match bare.parse::<IpAddr>() {
        Ok(IpAddr::V6(_)) if !host.starts_with('[') => PatternError::Brackets,
        Ok(_) if host.len() < text.len() => PatternError::Port,
        _ if !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) => {
            PatternError::HostName
        }
        _ => PatternError::NotAnAddress,
    }
}

fn canonical(socket: SocketAddr) -> SocketAddr {
    SocketAddr::new(socket.ip().to_canonical(), socket.port())
}

impl UpstreamPattern {
    /// Whether an address as records have it belongs to this.
    pub fn matches(&self, address: &str) -> bool {
        if let Self::Unix(path) = self {
            return address.strip_prefix("unix:") == Some(path);
        }
        let Ok(socket) = address.parse::<SocketAddr>().map(canonical) else { return false };
        match self {
            Self::Ip(ip) => *ip == socket.ip(),
            Self::Socket(wanted) => *wanted == socket,
            Self::Network(network, prefix) => same_network(*network, socket.ip(), *prefix),
            Self::Unix(_) => false,
        }
    }
}

fn same_network(network: IpAddr, address: IpAddr, prefix: u8) -> bool {
    let prefix = u32::from(prefix);
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            (network.to_bits() ^ address.to_bits()) & mask == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let mask = u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            (network.to_bits() ^ address.to_bits()) & mask == 0
        }
        _ => false,
    }
}

/// What shall be shown. Empty lists mean everything.
#[derive(Debug)]
pub struct Filter {
    upstreams: Vec<UpstreamPattern>,
    causes: Vec<Cause>,
    /// Failures seen, and whether they were shown.
    shown: Recent<bool>,
}

impl Filter {
    pub fn new(upstreams: Vec<UpstreamPattern>, causes: Vec<Cause>) -> Self {
        Self { upstreams, causes, shown: Recent::new(REMEMBERED) }
    }

    /// Nothing is hidden.
    pub fn is_empty(&self) -> bool {
        self.upstreams.is_empty() && self.causes.is_empty()
    }

    /// Whether to show this record. Records must come in their order: responses follow their failures.
    pub fn shows(&mut self, record: &Record) -> bool {
        if self.is_empty() {
            return true;
        }
        match record {
            Record::Failure(failure) => {
                let shown = self.upstream(failure.upstream.as_ref()) && self.cause(failure.cause);
                self.shown.insert(failure.id, shown);
                shown
            }
            Record::Response(response) => self.response(response),
            Record::Update(update) => self.was_shown(update.failure),
            Record::Attempt(attempt) => self.causes.is_empty() && self.upstream(attempt.upstream.as_ref()),
            Record::Overflow(overflow) => self.address(&overflow.address),
            Record::Exit(exit) => self.upstreams.is_empty() || exit.upstreams.iter().any(|served| self.address(served)),
            Record::Lost(Lost { counted: Some(counted), .. }) => {
                let named = || counted.upstream.as_deref().is_some_and(|name| self.address(authority(name)));
                self.cause(counted.cause) && (self.upstreams.is_empty() || named())
            }
            Record::Session(_) | Record::Worker(_) | Record::Lost(_) | Record::Stats(_) | Record::End(_) => true,
        }
    }

    /// With its last failure; where that did not decide it, by its own cause and the failures that led there.
    fn response(&self, response: &Response) -> bool {
        match response.failures.last().filter(|_| response.is_of_last_failure()) {
            Some(last) => self.was_shown(*last),
            None => {
                let mut before = response.related.iter().chain(&response.failures);
                let mut led_there = || before.any(|failure| self.was_shown(*failure));
                let named = || response.upstream.as_deref().is_some_and(|name| self.address(authority(name)));
                self.cause(response.cause) && (self.upstreams.is_empty() || named() || led_there())
            }
        }
    }

    fn was_shown(&self, failure: u64) -> bool {
        self.shown.get(failure).copied().unwrap_or(false)
    }

    fn cause(&self, cause: Cause) -> bool {
        self.causes.is_empty() || self.causes.contains(&cause)
    }

    fn upstream(&self, upstream: Option<&Upstream>) -> bool {
        self.upstreams.is_empty() || upstream.is_some_and(|upstream| self.address(&upstream.address))
    }

    fn address(&self, address: &str) -> bool {
        self.upstreams.is_empty() || self.upstreams.iter().any(|pattern| pattern.matches(address))
    }
}

/// `127.0.0.1:3001` of `http://127.0.0.1:3001/x`; other texts as they are.
fn authority(upstream: &str) -> &str {
    let Some((_, rest)) = upstream.split_once("://") else { return upstream };
    rest.split_once('/').map_or(rest, |(authority, _)| authority)
}

#[cfg(test)]
mod tests;
