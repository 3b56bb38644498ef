//! What another host did, as far as it shows here: that it refused, closed, acknowledged or kept silent; never why.
//!
//! The last that is asked. It takes that the address belongs to nobody on this host and is not rewritten here, and that this
//! host itself is out of the question: TCP here has not sent the RST, and dropped packets were looked at.

use super::{
    Found,
    distance::Distance,
    tcp::{self, Tcp},
    text,
};
use crate::{
    collect::ttl::Ttl,
    model::{
        cause::Cause,
        verdict::{Failure, ResetBy},
    },
    record::{self, RootKind},
    trace::host::Host,
};

/// What is known besides.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Every RST that its TCP sends is seen, and packets that it drops were since the attempt began: no rule rejected.
    excludes_rules: bool,
    /// Something was sent while packets that it drops were looked at.
    excludes_drops: bool,
    /// How far the reset has come.
    distance: Option<Distance>,
}

/// The reason; None: it is no other host's, or this host may have done it.
pub(super) fn root(tcp: &Tcp<'_>, host: &mut Host) -> Option<Found> {
    let failure = tcp.failure;
    let here = tcp::here(failure)?;
    if failure.root.is_some()
        || host.addresses.is_own(here.remote.ip()) != Some(false)
        || host.conntrack.is_mute(here.netns, failure.worker)
        || tcp.there().is_some()
    {
        return None;
    }
    let began_ns = failure.started_ns.or(failure.connection.connected_ns)?;
    // TCP of this host has sent a reset to that port: it may have been led back here, by whatever is not told of.
    let times_ns = (began_ns, failure.time_ns + tcp::SLACK_NS);
    if failure.connection.reset.is_some() && host.resets.to_port(here.local.port(), times_ns).next().is_some() {
        return None;
    }
    // Of what is translated and refused at once, connection tracking knows nothing any more, nor need its port be the same.
    let tracks = host.conntrack.tracks(here.netns, failure.worker);
    if tracks
        && failure.cause == Cause::ConnectRefused
        && (waits(failure, host) || host.resets.within(times_ns).any(|(_, _, sent)| sent.answer))
    {
        return None;
    }
    // One that refuses is not among the segments that are looked at.
    let distance = if failure.connection.reset == Some(ResetBy::Unseen) && failure.cause != Cause::ConnectRefused {
        host.ttls.want(failure.time_ns);
        let of_this = |ttl: &Ttl| (began_ns..=failure.time_ns + tcp::SLACK_NS).contains(&ttl.reset_ns);
        host.ttls.of_reset(&here).filter(of_this).and_then(Distance::of)
    } else {
        None
    };
    let last_sent_ns = failure.connection.last_retransmit_ns.unwrap_or(began_ns).max(began_ns);
    let known = Known {
        excludes_rules: host.sees_all_resets && host.watches_drops_since(began_ns),
        // What does not explain the failure was dropped all the same.
        excludes_drops: host.watches_drops_since(last_sent_ns)
            && host.dropped(&here, (began_ns, failure.time_ns)).is_none(),
        distance,
    };
    let place = if tracks { ", another host (or where it is translated to)" } else { ", another host" };
    of(failure, &here.remote.ip().to_string(), place, known)
}

/// Does it wait for all resets to be known that this host sent meanwhile?
pub(super) fn waits(failure: &Failure, host: &mut Host) -> bool {
    failure.cause == Cause::ConnectRefused
        && failure.connection.reset == Some(ResetBy::Unseen)
        && tcp::here(failure).is_some_and(|here| {
            host.addresses.is_own(here.remote.ip()) == Some(false) && host.conntrack.tracks(here.netns, failure.worker)
        })
        && !host.resets.knows_until(failure.time_ns + tcp::SLACK_NS)
}

fn of(failure: &Failure, upstream: &str, place: &str, known: Known) -> Option<Found> {
    let after = text::duration(failure.time_ns.saturating_sub(failure.started_ns?));
    let other = format!("{upstream}{place}");
    let pace = Pace::of(failure);
    let trip = pace.map_or_else(String::new, Pace::text);
    let distance = known.distance.map_or_else(String::new, Distance::text);
    let (kind, text, hint) = match failure.cause {
        Cause::ConnectRefused if reset(failure, known) => (
            RootKind::RemoteReset,
            format!("{other}, refuses, or a firewall before it does: nothing of this host sent the reset"),
            format!("on {upstream}: see whether anything listens on that port, and for rules that reject"),
        ),
        Cause::ConnectReset
        | Cause::ResetBeforeResponse
        | Cause::ResetMidResponse
        | Cause::StaleKeepalive
        | Cause::SendFailed
        | Cause::TlsPeerClosed
            if reset(failure, known) =>
        {
            (
                RootKind::RemoteReset,
                format!(
                    "the reset came from {other}, or from a box on the way, {after} after the attempt began{trip}{distance}"
                ),
                match (known.distance.and_then(Distance::of_another), pace) {
                    (Some(routers), _) => format!(
                        "look {} hops from here (as traceroute counts them) for a firewall or balancer that resets connections: \
                         {upstream} may know nothing of it",
                        u16::from(routers) + 1
                    ),
                    (None, Some(Pace { sooner: true, .. })) => format!(
                        "{upstream} cannot have seen the request: look for its restart at that second, or for a box on the way \
                         that resets, perhaps because of what it read in the request"
                    ),
                    _ => format!(
                        "look on {upstream} at that second, and at balancers and firewalls on the way (their idle times)"
                    ),
                },
            )
        }
        Cause::ClosedBeforeResponse | Cause::ClosedMidResponse | Cause::TlsPeerClosed | Cause::StaleKeepalive
            if failure.connection.reset.is_none() =>
        {
            (
                RootKind::RemoteReset,
                format!("{other}, or a proxy before it, closed the connection {after} after the attempt began{trip}"),
                format!("look in the upstream's log on {upstream} at that second; a round time is a time-out's"),
            )
        }
        Cause::ConnectTimeout | Cause::ConnectTimeoutKernel if known.excludes_drops => {
            let again = failure.connection.syn_retransmits.filter(|count| *count > 0);
            let again = again.map_or_else(String::new, |count| format!(", sent again {}", text::times(count)));
            (
                RootKind::RemoteSilent,
                format!("{other}, has not answered the SYN{again}, and this host was not seen to drop it"),
                format!(
                    "see whether {upstream} is up, whether a firewall there or on the way drops, and its accept queue"
                ),
            )
        }
        Cause::ResponseTimeout | Cause::ResponseStalled | Cause::TlsTimeout
            if failure.connection.all_acknowledged == Some(true) =>
        {
            (
                RootKind::RemoteSilent,
                format!(
                    "{other}, or a proxy before it, has acknowledged all that nginx sent: its application is silent, or \
                     what it answers is lost on the way"
                ),
                format!(
                    "look at the application on {upstream}: slow, blocked, or all its workers busy; if its log says that it \
                     answered, large packets do not get here (MTU, rules that drop ICMP)"
                ),
            )
        }
        Cause::ResponseTimeout | Cause::ResponseTimeoutKernel | Cause::TlsTimeout
            if failure.connection.all_acknowledged == Some(false) && sends_again(failure) && known.excludes_drops =>
        {
            (
                RootKind::RemoteSilent,
                format!("{other}, does not acknowledge what nginx sends again, and this host was not seen to drop it"),
                format!("see whether {upstream} is still up, and what is on the way (firewall, route, MTU)"),
            )
        }
        _ => return None,
    };
    Some(Found { root: record::Root { kind, text, process: None, listener: None }, hint: Some(hint), evidence: None })
}

/// How soon the connection ended, beside what a packet takes there and back.
#[derive(Clone, Copy, Debug)]
struct Pace {
    round_trip_us: u32,
    /// The request could hardly have got there: not even half of the shortest round trip had passed since it could be sent. Less
    /// than half, as the first round trip, which may be the only one measured, can be longer than another. Known of a connection that
    /// was made for this request: when it was sent over an older one is known to the jiffy only, and of its last segment.
    sooner: bool,
}

impl Pace {
    fn of(failure: &Failure) -> Option<Self> {
        let connection = &failure.connection;
        let round_trip_us = connection.min_rtt_us?;
        let could_send_ns = connection.established_ns.filter(|_| connection.reused == Some(false));
        let passed_ns = could_send_ns.and_then(|sent_ns| connection.ended_ns?.checked_sub(sent_ns));
        let sooner = passed_ns.is_some_and(|passed_ns| passed_ns < u64::from(round_trip_us) * 1000 / 2);
        Some(Self { round_trip_us, sooner })
    }

    fn text(self) -> String {
        let round_trip = text::round_trip(self.round_trip_us);
        if self.sooner {
            format!(": sooner than the request can have got there (a round trip takes {round_trip} at best)")
        } else {
            format!(" (a round trip takes {round_trip} at best)")
        }
    }
}

/// What it sends again to no avail it sends again and again, at distances that double: the last time is not long ago. Once was a
/// segment lost, or another request's.
fn sends_again(failure: &Failure) -> bool {
    let (Some(began_ns), Some(last_ns)) = (failure.started_ns, failure.connection.last_retransmit_ns) else {
        return false;
    };
    last_ns.checked_sub(began_ns).is_some_and(|after_ns| after_ns >= failure.time_ns.saturating_sub(began_ns) / 4)
}

/// A RST from the network, and no rule's of this host.
fn reset(failure: &Failure, known: Known) -> bool {
    failure.connection.reset == Some(ResetBy::Unseen) && known.excludes_rules
}

#[cfg(test)]
mod tests {
    use super::{Known, of};
    use crate::{
        model::{
            cause::Cause,
            verdict::{Failure, ResetBy},
        },
        record::RootKind::{self, RemoteReset, RemoteSilent},
        trace::roots::samples,
    };

    const BLIND: Known = Known { excludes_rules: false, excludes_drops: false, distance: None };
    const SEES: Known = Known { excludes_rules: true, excludes_drops: true, distance: None };

    fn failure(cause: Cause) -> Failure {
        Failure { started_ns: Some(0), time_ns: 60_000_000_000, ..samples::failure(cause) }
    }

    fn said(failure: &Failure, known: Known) -> Option<(RootKind, String)> {
        of(failure, "10.0.0.7", ", another host", known).map(|found| (found.root.kind, found.root.text))
    }

    #[test]
    fn a_reset_is_the_others_where_this_host_is_out_of_the_question() {
        for cause in [Cause::ConnectRefused, Cause::ResetBeforeResponse, Cause::StaleKeepalive, Cause::TlsPeerClosed] {
            let mut failure = failure(cause);
            failure.connection.reset = Some(ResetBy::Unseen);
            assert_eq!(said(&failure, SEES).expect("a reason").0, RemoteReset, "{cause:?}");
            assert_eq!(said(&failure, BLIND), None, "{cause:?}: a rule may have rejected it");
            failure.connection.reset = Some(ResetBy::ThisHost);
            assert_eq!(said(&failure, SEES), None, "{cause:?}");
        }
        assert_eq!(said(&failure(Cause::ConnectRefused), SEES), None, "by ICMP");
    }

    #[test]
    fn what_comes_sooner_than_an_answer_can_is_none() {
        let of_one = |reused, passed_us: u64, min_rtt_us| {
            let mut failure = Failure { time_ns: 200_000_000, ..failure(Cause::ResetBeforeResponse) };
            failure.connection.reset = Some(ResetBy::Unseen);
            failure.connection.established_ns = Some(100_000_000);
            failure.connection.reused = Some(reused);
            failure.connection.ended_ns = Some(100_000_000 + passed_us * 1000);
            failure.connection.min_rtt_us = min_rtt_us;
            let found = of(&failure, "10.0.0.7", "", SEES).expect("a reason");
            (found.root.text, found.hint.expect("a hint"))
        };
        let said = |passed_us, min_rtt_us| of_one(false, passed_us, min_rtt_us);
        let (text, hint) = said(20_000, Some(90_000));
        assert!(
            text.ends_with("sooner than the request can have got there (a round trip takes 90 ms at best)"),
            "{text}"
        );
        assert!(hint.starts_with("10.0.0.7 cannot have seen the request"), "{hint}");
        let (text, hint) = said(46_000, Some(90_000));
        assert!(text.ends_with("200 ms after the attempt began (a round trip takes 90 ms at best)"), "{text}");
        assert!(hint.starts_with("look on 10.0.0.7"), "{hint}");
        assert!(said(46_000, Some(230)).0.ends_with("(a round trip takes 230 µs at best)"));
        assert!(!of_one(true, 0, Some(90_000)).0.contains("sooner"), "the jiffy of its last segment is the same");
        assert!(said(0, None).0.ends_with("200 ms after the attempt began"));
    }

    #[test]
    fn no_rule_sends_a_fin() {
        let (kind, text) = said(&failure(Cause::ClosedBeforeResponse), BLIND).expect("a reason");
        assert_eq!(kind, RemoteReset);
        assert_eq!(
            text,
            "10.0.0.7, another host, or a proxy before it, closed the connection 60.0 s after the attempt began"
        );
        assert_eq!(said(&failure(Cause::SendFailed), SEES), None, "there was neither");
    }

    #[test]
    fn silence_of_the_network_or_of_the_application() {
        let mut connecting = failure(Cause::ConnectTimeout);
        connecting.connection.syn_retransmits = Some(3);
        let (kind, text) = said(&connecting, SEES).expect("a reason");
        assert_eq!(kind, RemoteSilent);
        assert!(text.contains("the SYN, sent again 3 times"), "{text}");
        assert_eq!(said(&connecting, BLIND), None, "it may have been dropped here");

        let mut waiting = failure(Cause::ResponseTimeout);
        assert_eq!(said(&waiting, SEES), None, "nothing is known");
        waiting.connection.all_acknowledged = Some(true);
        let (kind, text) = said(&waiting, BLIND).expect("a reason");
        assert_eq!(kind, RemoteSilent);
        assert!(text.contains("its application is silent"), "{text}");
        waiting.connection.all_acknowledged = Some(false);
        assert_eq!(said(&waiting, SEES), None, "the acknowledgement may be on its way");
        waiting.connection.last_retransmit_ns = Some(1);
        assert_eq!(said(&waiting, SEES), None, "one segment, long ago");
        waiting.connection.last_retransmit_ns = Some(31_000_000_000);
        assert!(said(&waiting, SEES).expect("a reason").1.contains("does not acknowledge"));
        assert_eq!(said(&waiting, BLIND), None);
    }

    #[test]
    fn what_nginx_itself_rejects_is_nobody_elses() {
        for cause in [Cause::HeaderTooBig, Cause::HeaderInvalid, Cause::TlsVerifyFailed, Cause::ConnectUnreachable] {
            assert_eq!(said(&failure(cause), SEES), None, "{cause:?}");
        }
    }
}
