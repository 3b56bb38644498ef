//! There is a file at the path, and nobody listens on it.

use rustix::fs::FileType;

use super::{Past, because};
use crate::{
    context::unix::{
        look::{Asked, Look},
        places::Place,
        walk::{End, Walk},
    },
    record::{self, RootKind},
    trace::roots::{Found, text},
};

/// Is it still the file that this one listened on? A new one may have its number, and nobody saw who made it.
pub(super) fn same_file(place: &Place, look: &Look) -> bool {
    match (&place.file, look.walk.as_ref().map(|walk| &walk.end)) {
        (Some(then), Some(End::File(now))) => then.id == now.id && then.changed_ns == now.changed_ns,
        (None, None) => true,
        _ => false,
    }
}

pub(super) fn root(asked: &Asked, look: &Look, past: Option<Past>) -> Option<Found> {
    match &look.walk {
        // A name without a file.
        None => {}
        Some(Walk { end: End::File(part), .. }) => {
            if let Some(kind) = no_socket(part.kind()) {
                let text = format!("{} is {kind}, not a socket", part.path);
                let hint =
                    "let nginx and the upstream name the same socket path (ss -lxp lists those in use)".to_owned();
                return Some(because(RootKind::SocketFile, text, Some(hint)));
            }
        }
        Some(_) => return None,
    }
    let path = &asked.path;
    if let Some(served) = &look.served {
        // By its name alone it may be another that was left behind.
        let owner = served.owner().filter(|_| !served.by_name && look.taken_ns >= asked.time_ns)?;
        let later = text::duration(look.taken_ns.saturating_sub(asked.time_ns));
        let who = text::name(owner);
        let text = match past {
            Some(past) => format!("nobody listened on {path}: {}; {later} later {who} does", past.text),
            None => format!("nobody listened on {path} at that moment; {later} later {who} does"),
        };
        let hint = format!("{who} was not ready: let systemd hold its socket (a .socket unit), so that requests wait");
        return Some(because(RootKind::NotListening, text, Some(hint)));
    }
    match past {
        Some(past) => {
            let text = format!("nobody listens on {path}: {}", past.text);
            let root = record::Root { kind: past.kind, text, process: Some(past.process), listener: None };
            Some(Found { root, hint: Some(past.hint), evidence: None })
        }
        None => {
            let left = if look.walk.is_some() { ": the file is left over, or not listened on yet" } else { "" };
            Some(because(RootKind::NotListening, format!("nobody listens on {path}{left}"), None))
        }
    }
}

fn no_socket(kind: FileType) -> Option<&'static str> {
    Some(match kind {
        FileType::Socket => return None,
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a directory",
        FileType::Fifo => "a named pipe",
        _ => "a device",
    })
}

#[cfg(test)]
mod tests {
    use super::root;
    use crate::{
        context::unix::walk::End,
        record::{ProcessFate, RootKind},
        trace::roots::unix::{
            Past,
            samples::{asked, look, part},
        },
    };

    fn said(end: End, past: Option<Past>) -> Option<(RootKind, String)> {
        root(&asked("/run/a.sock"), &look(end), past).map(|found| (found.root.kind, found.root.text))
    }

    #[test]
    fn what_is_there_instead() {
        let file = |mode| End::File(part("/run/a.sock", mode, 0));
        assert_eq!(
            said(file(0o100_666), None),
            Some((RootKind::SocketFile, "/run/a.sock is a regular file, not a socket".into()))
        );
        assert_eq!(said(file(0o040_777), None).expect("a reason").0, RootKind::SocketFile);
        let left = said(file(0o140_666), None).expect("a reason");
        assert_eq!(left.0, RootKind::NotListening);
        assert_eq!(left.1, "nobody listens on /run/a.sock: the file is left over, or not listened on yet");
        assert_eq!(said(End::Missing { path: "/run/a.sock".into(), last: true }, None), None, "it is gone meanwhile");
        assert_eq!(said(End::Unknown, None), None);
    }

    #[test]
    fn the_last_owner_is_named_with_its_end() {
        let process =
            ProcessFate { pid: 412, comm: "app".into(), code: None, signal: Some("SIGKILL".into()), oom: None };
        let text = "app[412], which listened there, was killed by SIGKILL 2.1 s before".to_owned();
        let past = Past { kind: RootKind::ProcessKilled, text, process, hint: "start it".into() };
        let (kind, text) = said(End::File(part("/run/a.sock", 0o140_666, 0)), Some(past)).expect("a reason");
        assert_eq!(kind, RootKind::ProcessKilled);
        assert_eq!(
            text,
            "nobody listens on /run/a.sock: app[412], which listened there, was killed by SIGKILL 2.1 s before"
        );
    }
}
