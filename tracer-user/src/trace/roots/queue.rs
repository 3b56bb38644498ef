//! Full queues of a listener on this host.

use std::net::SocketAddr;

use tracer_common::listener::Overflowed;

use super::{Found, text};
use crate::{
    model::{
        host::Name,
        verdict::{Failure, QueueFull},
    },
    record,
};

/// The reason, from what this connection itself met; `seen` are the listener's numbers at the last of such drops.
pub(super) fn root(
    failure: &Failure,
    at: SocketAddr,
    owner: Option<&Name>,
    seen: Option<&Overflowed>,
) -> Option<Found> {
    let full = failure.connection.queue_full?;
    let who = owner.map_or_else(|| "the process that listens there".to_owned(), text::name);
    let numbers = |count: u32, limit: u32| format!(" ({count}, its limit is {limit})");
    let (kind, text, hint, queued) = match full {
        QueueFull::Accept => {
            let size = seen.map_or_else(String::new, |seen| numbers(seen.queued, seen.limit));
            (
                record::RootKind::AcceptQueueFull,
                format!("the accept queue of {at} was full{size}: {who} did not accept fast enough"),
                format!(
                    "let {who} accept sooner (more workers, faster answers); a longer queue (its listen backlog and \
                     net.core.somaxconn) only helps against bursts"
                ),
                seen.map(|seen| seen.queued),
            )
        }
        QueueFull::Syn => {
            let size = seen.map_or_else(String::new, |seen| numbers(seen.half_open, seen.limit));
            (
                record::RootKind::SynQueueFull,
                format!("the SYN queue of {at} was full{size}: handshakes begun by others were not completed"),
                "set net.ipv4.tcp_syncookies=1, and look for a SYN flood or a lossy network".to_owned(),
                seen.map(|seen| seen.half_open),
            )
        }
    };
    let listener = record::Listener {
        address: at.to_string(),
        limit: seen.map(|seen| seen.limit),
        queued,
        owner: owner.map(|name| record::Owner { pid: name.pid, comm: name.comm.clone() }),
    };
    let root = record::Root { kind, text, process: None, listener: Some(listener) };
    Some(Found { root, hint: Some(hint), evidence: None })
}

#[cfg(test)]
mod tests {
    use tracer_common::listener::Overflowed;

    use super::root;
    use crate::{
        model::{cause::Cause, host::Name, verdict::QueueFull},
        record::RootKind,
        trace::roots::samples::failure,
    };

    #[test]
    fn only_what_the_connection_itself_met_counts() {
        let at = "127.0.0.1:3000".parse().expect("an address");
        let seen = Overflowed { accept: 9, queued: 129, limit: 128, ..Overflowed::default() };
        let owner = Name { pid: 412, comm: "php-fpm".into() };
        let mut failure = failure(Cause::ConnectTimeout);
        assert!(root(&failure, at, Some(&owner), Some(&seen)).is_none(), "others overflowed the queue, not this one");
        failure.connection.queue_full = Some(QueueFull::Accept);
        let found = root(&failure, at, Some(&owner), Some(&seen)).expect("a reason").root;
        assert_eq!(found.kind, RootKind::AcceptQueueFull);
        assert_eq!(
            found.text,
            "the accept queue of 127.0.0.1:3000 was full (129, its limit is 128): php-fpm[412] did not accept fast enough"
        );
        assert_eq!(found.listener.expect("a listener").limit, Some(128));
    }
}
