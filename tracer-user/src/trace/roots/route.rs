//! Routes of this host that forbid a connect at once.

use std::net::IpAddr;

use super::Found;
use crate::{
    diagnose::evidence::errno_name,
    model::{address::Address, verdict::Failure},
    record,
    trace::host::Host,
};

/// The reason; None: the routes have another answer than the connect got.
pub(super) fn root(failure: &Failure, host: &mut Host) -> Option<Found> {
    let (Some(Address::Tcp(remote)), Some(errno)) = (&failure.upstream, failure.errno) else { return None };
    // What fails after a SYN was sent is not what the routes say.
    if failure.connection.connected_ns.is_some() {
        return None;
    }
    // EINVAL of an address without its interface, which nginx cannot name, whatever the routes are.
    if matches!(remote.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local()) {
        return None;
    }
    let answer = host.routes.refusal(failure.worker, *remote)?;
    (answer == errno).then(|| of(&remote.ip().to_string(), errno))
}

/// fib_props, net/ipv4/fib_semantics.c, and ip6_rt_init_dst_reject(), net/ipv6/route.c, v6.12.
fn of(to: &str, errno: i32) -> Found {
    let what = match errno {
        libc::EACCES => "a route prohibits it",
        libc::EINVAL => "a route swallows it, blackhole",
        libc::EHOSTUNREACH => "a route says that it is unreachable",
        libc::ENETUNREACH => "there is no route to it",
        _ => "the routes refuse it",
    };
    let root = record::Root {
        kind: record::RootKind::Route,
        text: format!("this host's routes have no way to {to}: {what} ({})", errno_name(errno)),
        process: None,
        listener: None,
    };
    let hint =
        format!("look at `ip route get {to}`, `ip rule` and `ip route show table all`, in nginx's network namespace");
    Found { root, hint: Some(hint), evidence: None }
}

#[cfg(test)]
mod tests {
    use super::of;
    use crate::record::RootKind;

    #[test]
    fn each_kind_of_route_has_its_errno() {
        for (errno, text) in [
            (13, "this host's routes have no way to 10.0.0.9: a route prohibits it (EACCES)"),
            (22, "this host's routes have no way to 10.0.0.9: a route swallows it, blackhole (EINVAL)"),
            (101, "this host's routes have no way to 10.0.0.9: there is no route to it (ENETUNREACH)"),
        ] {
            let root = of("10.0.0.9", errno).root;
            assert_eq!((root.kind, root.text.as_str()), (RootKind::Route, text));
        }
    }
}
