//! ICMP errors about the connection.

use std::net::SocketAddr;

use super::Found;
use crate::{
    collect::icmp::Icmp,
    model::verdict::{Evidence, Failure},
    record,
};

/// The error is noted before the socket has it; on loopback it may be noted after nginx has given up.
const SLACK_NS: u64 = 2_000_000;

/// The reason; None: the error was about another connection with the same addresses and ports, or says nothing.
pub(super) fn root(failure: &Failure, local: SocketAddr, remote: SocketAddr, seen: &Icmp) -> Option<Found> {
    let since = failure.connection.connected_ns?;
    if seen.time_ns < since || seen.time_ns > failure.time_ns + SLACK_NS {
        return None;
    }
    let Meaning { name, prohibited } = meaning(seen)?;
    let Icmp { sender, kind, code, .. } = seen;
    let what = format!("{name} (ICMP{} type {kind}, code {code})", if seen.is_v6 { "v6" } else { "" });
    let (kind, text, hint) = if *sender == local.ip() {
        (
            record::RootKind::Route,
            format!("this host found no way to {remote}: {what}"),
            format!("look at `ip route get {0}` and `ip neigh show {0}`: nothing answers there", remote.ip()),
        )
    } else if prohibited {
        (
            record::RootKind::Firewall,
            format!("{sender} rejects the connection: {what}"),
            format!("let {remote} pass in the firewall of {sender}"),
        )
    } else if *sender == remote.ip() {
        (
            record::RootKind::Icmp,
            format!("{sender} itself answered with an ICMP error: {what}"),
            format!("look for a firewall rule that rejects on {sender}: a closed port alone answers with a reset"),
        )
    } else {
        (
            record::RootKind::Icmp,
            format!("{sender}, on the way to {}, answered with an ICMP error: {what}", remote.ip()),
            format!("look at {sender}: its routes, its firewall, and whether {} is up", remote.ip()),
        )
    };
    let evidence =
        Evidence { time_ns: seen.time_ns, source: seen.source, text: format!("ICMP error from {sender}: {what}") };
    Some(Found {
        root: record::Root { kind, text, process: None, listener: None },
        hint: Some(hint),
        evidence: Some(evidence),
    })
}

struct Meaning {
    name: &'static str,
    /// Somebody does not want it to pass.
    prohibited: bool,
}

/// RFC 792, RFC 1122 3.2.2.1, RFC 1812 5.2.7.1; RFC 4443. None: what only makes segments smaller, or is no answer.
fn meaning(seen: &Icmp) -> Option<Meaning> {
    let (name, prohibited) = match (seen.is_v6, seen.kind, seen.code) {
        (false, 3, 4) | (true, 2, _) => return None,
        (false, 3, 0 | 6) => ("network unreachable", false),
        (false, 3, 1 | 7) => ("host unreachable", false),
        (false, 3, 2) => ("protocol unreachable", false),
        (false, 3, 3) | (true, 1, 4) => ("port unreachable", false),
        (false, 3, 9 | 10 | 13) | (true, 1, 1) => ("administratively prohibited", true),
        (false, 3, 5) | (true, 1, 5) => ("source address refused", true),
        (false, 3, _) => ("destination unreachable", false),
        (true, 1, 0) => ("no route to destination", false),
        (true, 1, 3) => ("address unreachable", false),
        (true, 1, 6) => ("the route rejects", true),
        (true, 1, _) => ("destination unreachable", false),
        (false, 11, _) | (true, 3, _) => ("time to live exceeded", false),
        _ => return None,
    };
    Some(Meaning { name, prohibited })
}

#[cfg(test)]
mod tests {
    use super::root;
    use crate::{collect::icmp::Icmp, model::cause::Cause, record::RootKind, trace::roots::samples::failure};

    fn said(sender: &str, kind: u8, code: u8, time_ns: u64) -> Option<(RootKind, String)> {
        let mut failure = failure(Cause::ConnectUnreachable);
        (failure.connection.connected_ns, failure.time_ns) = (Some(500), 10_000_000);
        let sender: std::net::IpAddr = sender.parse().expect("an address");
        let seen = Icmp { time_ns, sender, kind, code, is_v6: sender.is_ipv6(), source: "fentry/tcp_v4_err" };
        let ends =
            if seen.is_v6 { ("[2001:db8::1]:40000", "[2001:db8::9]:80") } else { ("10.0.0.2:40000", "10.9.9.9:80") };
        let (local, remote) = (ends.0.parse().expect("an address"), ends.1.parse().expect("an address"));
        root(&failure, local, remote, &seen).map(|found| (found.root.kind, found.root.text))
    }

    #[test]
    fn who_sent_it_decides_what_it_means() {
        let cases = [
            ("10.0.0.2", 3, 1, RootKind::Route, "this host found no way to 10.9.9.9:80: host unreachable"),
            ("10.0.0.1", 3, 1, RootKind::Icmp, "10.0.0.1, on the way to 10.9.9.9, answered with an ICMP error"),
            ("10.9.9.9", 3, 3, RootKind::Icmp, "10.9.9.9 itself answered with an ICMP error: port unreachable"),
            ("10.0.0.1", 3, 13, RootKind::Firewall, "10.0.0.1 rejects the connection: administratively prohibited"),
            ("2001:db8::7", 1, 1, RootKind::Firewall, "2001:db8::7 rejects the connection"),
        ];
        for (sender, kind, code, expected, text) in cases {
            let (root, said) = said(sender, kind, code, 1000).expect("a reason");
            assert_eq!(root, expected, "{said}");
            assert!(said.starts_with(text), "{said}");
        }
    }

    #[test]
    fn what_is_no_answer_is_no_reason() {
        assert_eq!(said("10.0.0.1", 3, 4, 1000), None, "a smaller packet would pass");
        assert_eq!(said("10.0.0.1", 3, 1, 100), None, "before the connect");
        assert_eq!(said("10.0.0.1", 3, 1, 90_000_000), None, "long after the end");
        assert_eq!(said("10.0.0.1", 8, 0, 1000), None);
    }
}
