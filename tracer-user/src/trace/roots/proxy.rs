//! docker-proxy: a process that only passes connections on, so that its close is somebody else's.

use std::{
    fs::File,
    io::Read as _,
    net::{IpAddr, SocketAddr},
};

use super::{
    Found, of_close,
    tcp::{SLACK_NS, nobody_at},
    text,
};
use crate::{
    model::{
        cause::Cause,
        host::{Ending, Name, Place},
        verdict::Failure,
    },
    record,
    trace::host::Host,
};

const COMM: &str = "docker-proxy";
/// What ends at one side ends at the other at once.
const PASSED_ON_NS: u64 = 1_000_000_000;
/// A command line is looked at that far.
const LENGTH: u64 = 4096;

pub(super) fn is_one(name: &Name) -> bool {
    name.comm == COMM
}

/// It has a connection that is not answered. None: its command line says nothing, and better no reason than the messenger.
pub(super) fn silent(name: &Name) -> Option<Found> {
    Some(waits_for(&text::name(name), destination(&command_line(name.pid)?)?))
}

fn waits_for(proxy: &str, container: SocketAddr) -> Found {
    let root = record::Root {
        kind: record::RootKind::ApplicationSilent,
        text: format!(
            "{proxy} has the connection and only passes it on: the container at {container} has not answered, or not let it in"
        ),
        process: None,
        listener: None,
    };
    let hint =
        format!("look at the container with the address {}: slow, paused, or all its workers busy", container.ip());
    Found { root, hint: Some(hint), evidence: None }
}

/// The reason behind its close; None: it is another program, or ended itself.
pub(super) fn root(failure: &Failure, name: &Name, ending: Ending, closed_ns: u64, host: &mut Host) -> Option<Found> {
    if !is_one(name) || ending != Ending::Alive {
        return None;
    }
    let container = destination(&command_line(name.pid)?)?;
    let from = closed_ns.saturating_sub(PASSED_ON_NS).max(failure.connection.connected_ns.unwrap_or(0));
    let found = behind(failure, container, (from, closed_ns + SLACK_NS), host);
    if found.is_none() && failure.cause == Cause::StaleKeepalive {
        return None; // How long it was idle says more.
    }
    let proxy = text::name(name);
    let found = found.unwrap_or_else(|| Found {
        root: record::Root {
            kind: record::RootKind::ApplicationClosed,
            text: format!("{proxy} closed the connection: it passes on what the container at {container} does"),
            process: None,
            listener: None,
        },
        hint: Some(format!("look at the container with the address {}: {proxy} only passes on", container.ip())),
        evidence: None,
    });
    let mut found = found;
    if !found.root.text.contains(COMM) {
        found.root.text += &format!("; {proxy} passes connections on to {container}");
    }
    Some(found)
}

/// What happened in the container.
fn behind(failure: &Failure, container: SocketAddr, times_ns: (u64, u64), host: &mut Host) -> Option<Found> {
    let refused = host.resets.within(times_ns).find(|(_, sender, sent)| *sender == container && sent.answer);
    if let Some((_, _, sent)) = refused {
        return nobody_at(failure, Place { netns: sent.netns, address: container }, host);
    }
    let mut closers = host.peers.closers(container, times_ns).into_iter();
    if let Some((closed_ns, actor)) = closers.next() {
        // Of several, nobody knows whose was nginx's.
        if closers.any(|(_, other)| other.name != actor.name) {
            return None;
        }
        return of_close(failure, actor, closed_ns, host);
    }
    let (netns, pid) = host.namespaces.with_address(container.ip())?;
    // Nothing has said that it was refused: the listeners must be known.
    host.listeners.on_port(netns, pid, container.port())?;
    nobody_at(failure, Place { netns, address: container }, host)
}

fn command_line(pid: u32) -> Option<Vec<u8>> {
    let mut line = Vec::new();
    File::open(format!("/proc/{pid}/cmdline")).ok()?.take(LENGTH).read_to_end(&mut line).ok()?;
    Some(line)
}

/// `-container-ip IP -container-port PORT` (moby, cmd/docker-proxy/main_linux.go: Go's flags, which may begin with two dashes
/// and have their value after `=`).
fn destination(line: &[u8]) -> Option<SocketAddr> {
    let words: Vec<&str> = line.split(|byte| *byte == 0).map_while(|word| std::str::from_utf8(word).ok()).collect();
    let option = |name: &str| {
        words.iter().enumerate().find_map(|(index, word)| {
            let rest = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?.strip_prefix(name)?;
            match rest.strip_prefix('=') {
                Some(value) => Some(value),
                None if rest.is_empty() => words.get(index + 1).copied(),
                None => None,
            }
        })
    };
    let ip: IpAddr = option("container-ip")?.parse().ok()?;
    Some(SocketAddr::new(ip, option("container-port")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{destination, waits_for};

    #[test]
    fn the_messenger_is_not_the_reason() {
        let found = waits_for("docker-proxy[7]", "172.17.0.2:80".parse().expect("an address"));
        assert!(
            found.root.process.is_none() && found.root.text.contains("the container at 172.17.0.2:80 has not answered")
        );
        assert!(found.hint.is_some_and(|hint| !hint.contains("docker-proxy")));
    }

    #[test]
    fn where_it_leads() {
        let read = |line: &str| destination(line.replace(' ', "\0").as_bytes()).map(|address| address.to_string());
        let usual = "/usr/bin/docker-proxy -proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.17.0.2 \
                     -container-port 80";
        assert_eq!(read(usual).as_deref(), Some("172.17.0.2:80"));
        assert_eq!(read("p --container-ip=fd00::2 --container-port=80").as_deref(), Some("[fd00::2]:80"));
        for none in [
            "",
            "p -container-ip 172.17.0.2",
            "p -container-ip -container-port 80",
            "p -container-ipx 1 -container-port 80",
        ] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
