//! ICMP errors about the connection.

use std::net::SocketAddr;

use super::{Found, dropped::lasts};
use crate::{
    collect::icmp::Icmp,
    model::{
        cause::Cause,
        verdict::{Evidence, Failure},
    },
    record,
};

/// The error is noted before the socket has it; on loopback it may be noted after nginx has given up.
const SLACK_NS: u64 = 2_000_000;

/// What takes longer is no rule's answer.
const AT_ONCE_NS: u64 = 500_000_000;

/// The reason; None: the error was about another connection with the same addresses and ports, or says nothing.
pub(super) fn root(failure: &Failure, local: SocketAddr, remote: SocketAddr, seen: &Icmp) -> Option<Found> {
    let since = failure.connection.connected_ns?;
    if seen.time_ns < since || seen.time_ns > failure.time_ns + SLACK_NS {
        return None;
    }
    // What a kept connection met long ago, or got over, does not make this answer late.
    let got_through = failure.cause == Cause::ResponseTimeout && failure.connection.all_acknowledged == Some(true);
    if got_through || !lasts(failure, since, seen.time_ns) {
        return None;
    }
    let meaning = meaning(seen)?;
    let Icmp { sender, kind, code, .. } = seen;
    let what = format!("{} (ICMP{} type {kind}, code {code})", meaning.name, if seen.is_v6 { "v6" } else { "" });
    let (kind, text, hint) = if *sender == local.ip() {
        by_this_host(seen.time_ns - since, remote, &meaning, &what)
    } else if meaning.prohibited {
        (
            record::RootKind::Icmp,
            format!("{sender} rejects the connection: {what}"),
            format!("let {remote} pass on {sender}: a firewall rule that rejects, or a route that prohibits"),
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

/// This host answers what it sends itself. Its routes do not: without a way connect(2) fails at once, and a route that is
/// gone later drops in silence (__ip_queue_xmit(), net/ipv4/ip_output.c, v6.12). A neighbour that does not answer does, after
/// it was asked some times (net.ipv4.neigh.*.mcast_solicit, retrans_time_ms: three seconds); and so does a rule that rejects,
/// at once.
fn by_this_host(
    after_ns: u64,
    remote: SocketAddr,
    meaning: &Meaning,
    what: &str,
) -> (record::RootKind, String, String) {
    let ip = remote.ip();
    if meaning.rule {
        let hint = format!("let {remote} pass: look for `reject` in `nft list ruleset`");
        return (
            record::RootKind::Firewall,
            format!("a firewall rule of this host rejects the connection: {what}"),
            hint,
        );
    }
    if after_ns >= AT_ONCE_NS {
        let hint = format!("look at `ip route get {ip}` and `ip neigh show {ip}`: nothing answers there");
        return (record::RootKind::Route, format!("this host found no way to {remote}: {what}"), hint);
    }
    let hint = format!("look at `ip neigh show {ip}`, and for a rule that rejects in `nft list ruleset`");
    (record::RootKind::Icmp, format!("this host itself answered for {remote}: {what}"), hint)
}

struct Meaning {
    name: &'static str,
    /// Somebody does not want it to pass.
    prohibited: bool,
    /// About TCP segments of its own, the kernel sends it for a firewall rule only.
    rule: bool,
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
    let rule = matches!((seen.is_v6, seen.kind, seen.code), (false, 3, 0 | 2 | 3 | 9 | 10 | 13) | (true, 1, 1 | 4));
    Some(Meaning { name, prohibited, rule })
}

#[cfg(test)]
mod tests {
    use super::root;
    use crate::{collect::icmp::Icmp, model::cause::Cause, record::RootKind, trace::roots::samples::failure};

    fn said(sender: &str, kind: u8, code: u8, time_ns: u64) -> Option<(RootKind, String)> {
        said_after(10_000_000, sender, kind, code, time_ns)
    }

    fn said_after(end_ns: u64, sender: &str, kind: u8, code: u8, time_ns: u64) -> Option<(RootKind, String)> {
        let mut failure = failure(Cause::ConnectUnreachable);
        (failure.connection.connected_ns, failure.time_ns) = (Some(500), end_ns);
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
            ("10.0.0.1", 3, 1, RootKind::Icmp, "10.0.0.1, on the way to 10.9.9.9, answered with an ICMP error"),
            ("10.9.9.9", 3, 3, RootKind::Icmp, "10.9.9.9 itself answered with an ICMP error: port unreachable"),
            ("10.0.0.1", 3, 13, RootKind::Icmp, "10.0.0.1 rejects the connection: administratively prohibited"),
            ("2001:db8::7", 1, 1, RootKind::Icmp, "2001:db8::7 rejects the connection"),
            ("10.0.0.2", 3, 3, RootKind::Firewall, "a firewall rule of this host rejects the connection: port unreach"),
            ("10.0.0.2", 3, 13, RootKind::Firewall, "a firewall rule of this host rejects the connection: admin"),
            (
                "2001:db8::1",
                1,
                4,
                RootKind::Firewall,
                "a firewall rule of this host rejects the connection: port unreach",
            ),
        ];
        for (sender, kind, code, expected, text) in cases {
            let (root, said) = said(sender, kind, code, 1000).expect("a reason");
            assert_eq!(root, expected, "{said}");
            assert!(said.starts_with(text), "{said}");
        }
    }

    #[test]
    fn no_host_at_once_may_be_a_neighbour_or_a_rule() {
        let (kind, text) = said("10.0.0.2", 3, 1, 1000).expect("a reason");
        let expected = "this host itself answered for 10.9.9.9:80: host unreachable (ICMP type 3, code 1)";
        assert_eq!((kind, text.as_str()), (RootKind::Icmp, expected));
        let late = 3_000_000_000;
        let (kind, text) = said_after(late, "10.0.0.2", 3, 1, late).expect("a reason");
        assert!(text.starts_with("this host found no way to 10.9.9.9:80: host unreachable"), "{text}");
        assert_eq!(kind, RootKind::Route);
        assert_eq!(said_after(late, "2001:db8::1", 1, 3, late).map(|(kind, _)| kind), Some(RootKind::Route));
    }

    #[test]
    fn what_was_got_over_is_no_reason() {
        let sender: std::net::IpAddr = "10.0.0.2".parse().expect("an address");
        let mut failure = failure(Cause::ResponseTimeout);
        (failure.connection.connected_ns, failure.started_ns) = (Some(0), Some(3_000_000_000_000));
        failure.time_ns = 3_060_000_000_000;
        let (local, remote) = ("10.0.0.2:40000".parse().expect("one"), "10.9.9.9:80".parse().expect("one"));
        let seen = |time_ns| Icmp { time_ns, sender, kind: 3, code: 1, is_v6: false, source: "fentry/tcp_v4_err" };
        assert!(root(&failure, local, remote, &seen(300_000_000_000)).is_none(), "an hour ago");
        assert!(root(&failure, local, remote, &seen(3_050_000_000_000)).is_some(), "until just now");
        failure.connection.all_acknowledged = Some(true);
        assert!(root(&failure, local, remote, &seen(3_050_000_000_000)).is_none(), "the request arrived");
    }

    #[test]
    fn what_is_no_answer_is_no_reason() {
        assert_eq!(said("10.0.0.1", 3, 4, 1000), None, "a smaller packet would pass");
        assert_eq!(said("10.0.0.1", 3, 1, 100), None, "before the connect");
        assert_eq!(said("10.0.0.1", 3, 1, 90_000_000), None, "long after the end");
        assert_eq!(said("10.0.0.1", 8, 0, 1000), None);
    }
}
