//! Packets that this host's kernel dropped on their way.

use super::Found;
use crate::{
    collect::drop::Drop,
    model::verdict::{Evidence, Failure},
    record,
};

/// The reason; None: the drops were of another connection with the same addresses and ports, or later.
pub(super) fn root(failure: &Failure, seen: &Drop) -> Option<Found> {
    let Drop { reason, count, first_ns, last_ns, outgoing } = seen;
    let since = failure.connection.connected_ns?;
    if *last_ns < since || *first_ns > failure.time_ns {
        return None;
    }
    let (kind, what) = match reason.as_str() {
        "NETFILTER_DROP" => (record::RootKind::Firewall, "a firewall rule (netfilter)"),
        "SOCKET_FILTER" => (record::RootKind::Firewall, "a filter on the receiving socket"),
        "BPF_CGROUP_EGRESS" => (record::RootKind::Firewall, "a BPF program on the control group"),
        "XDP" => (record::RootKind::Firewall, "an XDP program"),
        "TC_INGRESS" | "TC_EGRESS" => (record::RootKind::Firewall, "a traffic-control rule"),
        "SECURITY_HOOK" => (record::RootKind::Firewall, "a security module"),
        "QDISC_DROP" => (record::RootKind::Firewall, "a queueing discipline"),
        "IP_RPFILTER" => (record::RootKind::Route, "the reverse-path filter (rp_filter)"),
        "NEIGH_FAILED" | "NEIGH_QUEUEFULL" => (record::RootKind::Route, "the neighbour does not answer (ARP, NDP)"),
        "PKT_TOO_BIG" => (record::RootKind::Route, "it is larger than the path's MTU"),
        _ => (record::RootKind::Route, "routing"),
    };
    let whose = if *outgoing { "what nginx sent" } else { "the upstream's answer" };
    // One more attempt of the same ports may be in the count: with the first within this one there is none.
    let times = if *first_ns >= since && *count > 1 { format!(" {count} times") } else { String::new() };
    let evidence = Evidence {
        time_ns: *last_ns,
        source: "raw_tp/kfree_skb",
        text: format!("{whose} was dropped{times}: {reason}"),
    };
    let root = record::Root {
        kind,
        text: format!("this host's kernel dropped {whose}{times}: {what}, {reason}"),
        process: None,
        listener: None,
    };
    let hint = match kind {
        record::RootKind::Firewall => {
            format!("let {} pass: `nft list ruleset`, or whatever dropped it", upstream(failure))
        }
        _ => format!("look at `ip route get` for {}, on both ends of the path", upstream(failure)),
    };
    Some(Found { root, hint: Some(hint), evidence: Some(evidence) })
}

fn upstream(failure: &Failure) -> String {
    failure.upstream.as_ref().map_or_else(|| "it".to_owned(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::root;
    use crate::{collect::drop::Drop, model::cause::Cause, record::RootKind, trace::roots::samples::failure};

    #[test]
    fn only_drops_of_this_connection() {
        let mut failure = failure(Cause::ConnectTimeout);
        failure.connection.connected_ns = Some(500);
        let seen =
            |first_ns, last_ns| Drop { reason: "NETFILTER_DROP".into(), count: 2, first_ns, last_ns, outgoing: true };
        assert!(root(&failure, &seen(100, 400)).is_none(), "before it began");
        assert!(root(&failure, &seen(2_000, 3_000)).is_none(), "after it had failed");
        let found = root(&failure, &seen(600, 900)).expect("a reason").root;
        assert_eq!(found.kind, RootKind::Firewall);
        assert_eq!(
            found.text,
            "this host's kernel dropped what nginx sent 2 times: a firewall rule (netfilter), NETFILTER_DROP"
        );
    }
}
