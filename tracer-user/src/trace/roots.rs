//! The reason behind a refused connect, where the upstream is on this host: who listens on that port, if anyone.

use std::net::{IpAddr, SocketAddr};

use crate::{
    context::listeners::Listeners,
    model::{
        address::Address,
        verdict::{Failure, Root, RootKind},
    },
};

/// Looks at the listeners in the worker's network namespace; None: not of this host, or somebody does listen there (now).
pub(super) fn refused(failure: &Failure, listeners: &mut Listeners) -> Option<Root> {
    let Some(Address::Tcp(upstream)) = failure.upstream else { return None };
    // A RST that this host's own kernel sent, or loopback: the upstream is here.
    let local =
        upstream.ip().is_loopback() || failure.root.as_ref().is_some_and(|root| root.kind == RootKind::NotListening);
    let refused_by_reset = failure.evidence.iter().any(|fact| fact.source == "raw_tp/tcp_receive_reset");
    if !local || !refused_by_reset {
        return None;
    }
    root(upstream, listeners.on_port(failure.netns?, failure.worker, upstream.port())?)
}

fn root(upstream: SocketAddr, listeners: &[SocketAddr]) -> Option<Root> {
    if listeners.iter().any(|listener| serves(*listener, upstream)) {
        return None;
    }
    let elsewhere: Vec<String> = listeners.iter().map(ToString::to_string).collect();
    let (kind, text) = if elsewhere.is_empty() {
        (RootKind::NotListening, format!("nothing listens on port {} of this host", upstream.port()))
    } else {
        let other_family = listeners.iter().all(|listener| listener.is_ipv4() != upstream.is_ipv4());
        let kind = if other_family { RootKind::AddressFamily } else { RootKind::NotListening };
        (
            kind,
            format!(
                "nothing listens on {upstream}; port {} is served on {} only",
                upstream.port(),
                elsewhere.join(", ")
            ),
        )
    };
    Some(Root { kind, text, process: None })
}

/// Would this listener take a connection to that address? An IPv6 wildcard takes IPv4 too, unless it was told not to.
fn serves(listener: SocketAddr, upstream: SocketAddr) -> bool {
    match (listener.ip(), upstream.ip()) {
        (IpAddr::V6(any), _) if any.is_unspecified() => true,
        (IpAddr::V4(any), IpAddr::V4(_)) if any.is_unspecified() => true,
        (listener, upstream) => listener == upstream,
    }
}

#[cfg(test)]
mod tests {
    use super::root;
    use crate::model::verdict::RootKind;

    fn said(upstream: &str, listeners: &[&str]) -> Option<(RootKind, String)> {
        let parse = |text: &&str| text.parse().expect("an address");
        let listeners: Vec<_> = listeners.iter().map(parse).collect();
        root(parse(&upstream), &listeners).map(|root| (root.kind, root.text))
    }

    #[test]
    fn who_listens_instead() {
        assert_eq!(
            said("127.0.0.1:3001", &[]),
            Some((RootKind::NotListening, "nothing listens on port 3001 of this host".into()))
        );
        let other = said("127.0.0.1:3001", &["[::1]:3001"]).expect("a reason");
        assert_eq!(other.0, RootKind::AddressFamily);
        assert_eq!(other.1, "nothing listens on 127.0.0.1:3001; port 3001 is served on [::1]:3001 only");
        assert_eq!(said("127.0.0.1:80", &["10.0.0.5:80"]).expect("a reason").0, RootKind::NotListening);
    }

    #[test]
    fn somebody_listens_now() {
        assert_eq!(said("127.0.0.1:80", &["0.0.0.0:80"]), None);
        assert_eq!(said("127.0.0.1:80", &["[::]:80"]), None);
        assert_eq!(said("[::1]:80", &["[::1]:80"]), None);
    }
}
