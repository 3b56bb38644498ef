//! Full queues of a listener on this host.

use std::net::SocketAddr;

use tracer_common::listener::Overflowed;

use super::{Found, text};
use crate::{
    model::{host::Name, verdict::QueueFull},
    record,
};

/// The reason, from what this connection itself met; `seen` are the listener's numbers at the last of such drops.
pub(super) fn root(full: QueueFull, at: SocketAddr, owner: Option<&Name>, seen: Option<&Overflowed>) -> Found {
    let who = owner.map_or_else(|| "the process that listens there".to_owned(), text::name);
    let numbers = |count: u32, limit: u32| format!(" ({count}, its limit is {limit})");
    let (kind, text, hint, queued) = match full {
        QueueFull::Accept => {
            let size = seen.map_or_else(String::new, |seen| numbers(seen.queued, seen.limit));
            (
                record::RootKind::AcceptQueueFull,
                format!("the accept queue of {at} was full{size}: {who} did not accept fast enough"),
                format!(
                    "let {who} accept sooner (more workers, faster answers); a longer queue ({}) only helps against bursts",
                    longer(seen)
                ),
                seen.map(|seen| seen.queued),
            )
        }
        QueueFull::Syn => {
            let size = seen.map_or_else(String::new, |seen| numbers(seen.half_open, seen.half_open_limit));
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
        limit: seen.map(|seen| if full == QueueFull::Accept { seen.limit } else { seen.half_open_limit }),
        queued,
        owner: owner.map(record::Owner::from),
    };
    let root = record::Root { kind, text, process: None, listener: Some(listener) };
    Found { root, hint: Some(hint), evidence: None }
}

/// What the limit is made of: the lesser of what listen(2) was given and net.core.somaxconn (__sys_listen(), net/socket.c).
fn longer(seen: Option<&Overflowed>) -> String {
    match seen {
        Some(Overflowed { limit, somaxconn, .. }) if *somaxconn > *limit => {
            format!("its listen backlog is {limit}; net.core.somaxconn allows {somaxconn}")
        }
        Some(Overflowed { limit, somaxconn, .. }) if *somaxconn == *limit => {
            format!("net.core.somaxconn is {somaxconn}, its listen backlog no less: raise both")
        }
        _ => "its listen backlog and net.core.somaxconn".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::listener::Overflowed;

    use super::root;
    use crate::{
        model::{host::Name, verdict::QueueFull},
        record::RootKind,
    };

    #[test]
    fn numbers_and_owner_are_told() {
        let at = "127.0.0.1:3000".parse().expect("an address");
        let seen = Overflowed { accept: 9, queued: 129, limit: 128, ..Overflowed::default() };
        let owner = Name { pid: 412, comm: "php-fpm".into() };
        let found = root(QueueFull::Accept, at, Some(&owner), Some(&seen)).root;
        assert_eq!(found.kind, RootKind::AcceptQueueFull);
        assert_eq!(
            found.text,
            "the accept queue of 127.0.0.1:3000 was full (129, its limit is 128): php-fpm[412] did not accept fast enough"
        );
        assert_eq!(found.listener.expect("a listener").limit, Some(128));
        let hint = |somaxconn| {
            let seen = Overflowed { somaxconn, ..seen };
            root(QueueFull::Accept, at, Some(&owner), Some(&seen)).hint.expect("a hint")
        };
        assert!(hint(4096).contains("its listen backlog is 128; net.core.somaxconn allows 4096"), "{}", hint(4096));
        assert!(hint(128).contains("raise both"), "{}", hint(128));
        assert!(hint(0).contains("its listen backlog and net.core.somaxconn"), "{}", hint(0));
    }

    #[test]
    fn half_open_connections_have_numbers_of_their_own() {
        let at = "127.0.0.1:3000".parse().expect("an address");
        let seen = Overflowed { limit: 128, half_open: 97, half_open_limit: 96, ..Overflowed::default() };
        let found = root(QueueFull::Syn, at, None, Some(&seen)).root;
        assert_eq!(found.kind, RootKind::SynQueueFull);
        assert!(found.text.contains("(97, its limit is 96)"), "{}", found.text);
        let listener = found.listener.expect("a listener");
        assert_eq!((listener.limit, listener.queued), (Some(96), Some(97)));
    }
}
