//! Packets that this host's kernel dropped on their way.

use super::Found;
use crate::{
    collect::drop::Drop,
    model::{
        cause::Cause,
        verdict::{Evidence, Failure, ResetBy},
    },
    record,
};

/// What a rule rejects is answered while it is being dropped; the failure follows as soon as nginx has read the answer.
const REJECTED_NS: u64 = 1_000_000_000;
/// And the answer has arrived by then, before or after: it goes no farther than to this host.
const ANSWERED_NS: u64 = 10_000_000;

/// Whether a firewall rule of this host that rejects could be behind this cause: it sends the RST or the ICMP error itself.
pub(super) const fn may_be_rejected(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::ConnectRefused
            | Cause::ConnectUnreachable
            | Cause::ConnectReset
            | Cause::ResetBeforeResponse
            | Cause::ResetMidResponse
            | Cause::StaleKeepalive
            | Cause::SendFailed
            | Cause::TlsPeerClosed
    )
}

/// The reason; None: the drops were of another connection with the same addresses and ports, or later, or do not explain
/// the end of this one.
pub(super) fn root(failure: &Failure, seen: &Drop) -> Option<Found> {
    let Drop { reason, count, first_ns, last_ns, outgoing } = seen;
    let since = failure.connection.connected_ns?;
    if *last_ns < since || *first_ns > failure.time_ns {
        return None;
    }
    let Dropper { kind, what } = dropper(reason);
    let netfilter = matches!(reason.as_str(), "NETFILTER_DROP" | "nf_hook_slow()");
    let answered = may_be_rejected(failure.cause);
    let at_once = match failure.connection.ended_ns {
        Some(ended_ns) => ended_ns.abs_diff(*last_ns) < ANSWERED_NS,
        None => failure.time_ns.saturating_sub(*last_ns) < REJECTED_NS,
    };
    let rejected = answered && netfilter && *outgoing && at_once;
    // What was dropped in silence does not explain an answer; a host without a way has its own (ICMP).
    let explains = !answered || rejected || failure.cause == Cause::ConnectUnreachable;
    if !explains
        || !lasts(failure, since, *last_ns)
        || !is_every_syn(failure, seen)
        || failure.connection.reset == Some(ResetBy::ThisHost)
    {
        return None;
    }
    let whose = if *outgoing { "what nginx sent" } else { "the upstream's answer" };
    // One more attempt of the same ports may be in the count: with the first within this one there is none.
    let times = if *first_ns >= since && *count > 1 { format!(" {count} times") } else { String::new() };
    let evidence = Evidence {
        time_ns: *last_ns,
        source: "raw_tp/kfree_skb",
        text: format!("{whose} was dropped{times}: {reason}"),
    };
    let text = if rejected {
        format!("a firewall rule (netfilter) of this host rejects {whose}: {reason}")
    } else {
        format!("this host's kernel dropped {whose}{times}: {what}, {reason}")
    };
    let upstream = failure.upstream.as_ref().map_or_else(|| "it".to_owned(), ToString::to_string);
    let hint = match kind {
        _ if rejected => format!(
            "let {upstream} pass: look for `reject` in `nft list ruleset`, also in the network namespaces on the way"
        ),
        record::RootKind::Firewall => format!("let {upstream} pass: `nft list ruleset`, or whatever dropped it"),
        _ => format!("look at `ip route get` for {upstream}, on both ends of the path"),
    };
    let root = record::Root { kind, text, process: None, listener: None };
    Some(Found { root, hint: Some(hint), evidence: Some(evidence) })
}

/// One packet lost does not make an answer late: it is sent again. What never gets through is dropped again and again, at
/// distances that double (RFC 6298 5.5), so that the last of it is not long ago.
pub(super) fn lasts(failure: &Failure, since: u64, last_ns: u64) -> bool {
    let waits = matches!(
        failure.cause,
        Cause::ResponseTimeout | Cause::ResponseTimeoutKernel | Cause::SendTimeout | Cause::TlsTimeout
    );
    let begin = failure.started_ns.unwrap_or(since);
    !waits || last_ns.saturating_sub(begin) >= failure.time_ns.saturating_sub(begin) / 4
}

/// The kernel tells of a segment that is sent again after it has been sent, and dropped.
const AGAIN_NS: u64 = 20_000_000;

/// One SYN that was dropped explains no connect that timed out, where others got through after it.
fn is_every_syn(failure: &Failure, seen: &Drop) -> bool {
    let connects = matches!(failure.cause, Cause::ConnectTimeout | Cause::ConnectTimeoutKernel);
    let last_ns = failure.connection.last_retransmit_ns.filter(|_| connects);
    // The answer to the last SYN need not have come yet; that to the one before it has, which is half as old as all of it.
    let began_ns = failure.connection.connected_ns.unwrap_or_default();
    last_ns.is_none_or(|last_ns| {
        let due_ns = if seen.outgoing { last_ns } else { began_ns + last_ns.saturating_sub(began_ns) / 4 };
        seen.last_ns + AGAIN_NS >= due_ns
    })
}

struct Dropper {
    kind: record::RootKind,
    what: &'static str,
}

/// Reasons are those of `enum skb_drop_reason` (include/net/dropreason-core.h), or functions: see
/// [`crate::collect::drop::PLACES`].
fn dropper(reason: &str) -> Dropper {
    use record::RootKind::{Firewall, Route};
    let (kind, what) = match reason {
        "NETFILTER_DROP" | "nf_hook_slow()" => (Firewall, "a firewall rule (netfilter)"),
        "SOCKET_FILTER" => (Firewall, "a filter on the receiving socket"),
        "BPF_CGROUP_EGRESS" => (Firewall, "a BPF program on the control group"),
        "XDP" => (Firewall, "an XDP program"),
        "TC_INGRESS" | "TC_EGRESS" => (Firewall, "a traffic-control rule"),
        "SECURITY_HOOK" => (Firewall, "a security module"),
        "QDISC_DROP" => (Firewall, "a queueing discipline"),
        "IP_RPFILTER" => (Route, "the reverse-path filter (rp_filter)"),
        "NEIGH_FAILED" | "NEIGH_QUEUEFULL" | "arp_error_report()" | "ndisc_error_report()" => {
            (Route, "the neighbour does not answer (ARP, NDP)")
        }
        "PKT_TOO_BIG" => (Route, "it is larger than the path's MTU"),
        "ip_error()" => (Route, "there is no route, or one that refuses or swallows"),
        "dst_discard_out()" => (Route, "a route that swallows (blackhole), or one that is gone"),
        "ip6_pkt_drop()" => (Route, "there is no route, or one that refuses or swallows"),
        _ => (Route, "routing"),
    };
    Dropper { kind, what }
}

#[cfg(test)]
mod tests {
    use super::root;
    use crate::{
        collect::drop::Drop,
        model::{cause::Cause, verdict::ResetBy},
        record::RootKind,
        trace::roots::samples::failure,
    };

    const SECOND: u64 = 1_000_000_000;

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

    fn said(cause: Cause, reset: Option<ResetBy>, reason: &str, ago_ns: u64, outgoing: bool) -> Option<RootKind> {
        let mut failure = failure(cause);
        failure.time_ns = 10 * SECOND;
        (failure.connection.connected_ns, failure.connection.reset) = (Some(SECOND), reset);
        let last_ns = failure.time_ns - ago_ns;
        let seen = Drop { reason: reason.into(), count: 1, first_ns: last_ns, last_ns, outgoing };
        root(&failure, &seen).map(|found| found.root.kind)
    }

    #[test]
    fn a_refusal_is_explained_by_a_rule_that_dropped_just_before() {
        for reason in ["NETFILTER_DROP", "nf_hook_slow()"] {
            let rejected = said(Cause::ConnectRefused, Some(ResetBy::Unseen), reason, 1000, true);
            assert_eq!(rejected, Some(RootKind::Firewall));
            // By ICMP there is no RST.
            assert_eq!(said(Cause::ConnectRefused, None, reason, 1000, true), Some(RootKind::Firewall));
            assert_eq!(said(Cause::ConnectUnreachable, None, reason, 1000, true), Some(RootKind::Firewall));
        }
    }

    #[test]
    fn a_refusal_is_not_explained_by_other_drops() {
        let refused = |reset, reason, ago_ns, outgoing| said(Cause::ConnectRefused, reset, reason, ago_ns, outgoing);
        let unseen = Some(ResetBy::Unseen);
        assert_eq!(refused(Some(ResetBy::ThisHost), "NETFILTER_DROP", 1000, true), None, "TCP sent it");
        assert_eq!(refused(unseen, "NETFILTER_DROP", 3 * SECOND, true), None, "the SYN before was dropped");
        assert_eq!(refused(unseen, "NETFILTER_DROP", 1000, false), None, "what was answered is not dropped");
        assert_eq!(refused(unseen, "NEIGH_FAILED", 1000, true), None, "that is no answer");
        assert_eq!(said(Cause::ResetBeforeResponse, unseen, "XDP", 1000, true), None);
    }

    #[test]
    fn what_was_dropped_before_the_answer_came_from_elsewhere_was_not_rejected() {
        let mut failure = failure(Cause::ResetBeforeResponse);
        failure.time_ns = 10 * SECOND;
        (failure.connection.connected_ns, failure.connection.reset) = (Some(SECOND), Some(ResetBy::Unseen));
        failure.connection.ended_ns = Some(10 * SECOND - 1_000_000);
        let at = |last_ns| {
            let seen = Drop { reason: "NETFILTER_DROP".into(), count: 1, first_ns: last_ns, last_ns, outgoing: true };
            root(&failure, &seen).is_some()
        };
        assert!(at(10 * SECOND - 1_100_000) && at(10 * SECOND - 900_000));
        assert!(!at(10 * SECOND - 21_000_000));
    }

    #[test]
    fn one_packet_lost_long_ago_makes_no_answer_late() {
        let late = |ago_ns| said(Cause::ResponseTimeout, None, "NETFILTER_DROP", ago_ns, true);
        assert_eq!(late(4 * SECOND), Some(RootKind::Firewall));
        assert_eq!(late(8 * SECOND), None);
        assert_eq!(said(Cause::ConnectTimeout, None, "NETFILTER_DROP", 9 * SECOND, true), Some(RootKind::Firewall));
    }

    #[test]
    fn one_syn_lost_is_not_every_syn() {
        let mut failure = failure(Cause::ConnectTimeout);
        failure.time_ns = 60 * SECOND;
        failure.connection.connected_ns = Some(0);
        failure.connection.last_retransmit_ns = Some(31 * SECOND);
        let at = |last_ns, outgoing| {
            let seen = Drop { reason: "QDISC_DROP".into(), count: 1, first_ns: last_ns, last_ns, outgoing };
            root(&failure, &seen).is_some()
        };
        assert!(!at(SECOND, true), "four more got through");
        assert!(at(31 * SECOND - 1000, true), "dropped while it was being sent");
        assert!(!at(SECOND, false) && at(15 * SECOND, false));
    }

    #[test]
    fn routes_are_no_firewall() {
        for reason in ["ip_error()", "dst_discard_out()", "ip6_pkt_drop()", "arp_error_report()", "IP_RPFILTER"] {
            assert_eq!(said(Cause::ConnectTimeout, None, reason, 1000, true), Some(RootKind::Route), "{reason}");
        }
        assert_eq!(said(Cause::ConnectUnreachable, None, "ip_error()", 1000, true), Some(RootKind::Route));
    }
}
