//! No file at the path: which part of it is missing, and who is near.

use super::{Past, because};
use crate::{
    context::unix::{
        look::{Asked, Look, Whereabouts},
        walk::{End, Walk},
    },
    record::RootKind,
    trace::roots::{Found, text},
};

/// Which part is missing, in words.
fn missing(asked: &Asked, walk: &Walk) -> Option<String> {
    let End::Missing { path, last } = &walk.end else { return None };
    let (directory, name) = path.rsplit_once('/')?;
    let directory = if directory.is_empty() { "/" } else { directory };
    let what = if *last {
        format!("there is no {name} in {directory}")
    } else {
        format!("there is no directory {name} in {directory}")
    };
    let straight = asked.path == *path || asked.path.starts_with(&format!("{path}/"));
    Some(match &walk.link {
        Some((link, target)) if !straight => format!("{link} is a link to {target}, and {what}"),
        _ => what,
    })
}

pub(super) fn root(asked: &Asked, look: &Look, past: Option<Past>) -> Option<Found> {
    let walk = look.walk.as_ref()?;
    if let End::File(_) = &walk.end {
        // Seen before this failure, it says nothing about what came later.
        return (look.taken_ns >= asked.time_ns).then(|| there_now(asked, look));
    }
    let what = missing(asked, walk)?;
    if let Some(elsewhere) = &look.elsewhere {
        let who = text::name(&elsewhere.owner);
        let comm = &elsewhere.owner.comm;
        let (how, hint) = match &elsewhere.file {
            Whereabouts::AnotherMount => (
                "though in another mount namespace (a container, or a private /tmp)".to_owned(),
                format!("give nginx and {comm} a directory that both see, below /run or a shared volume"),
            ),
            Whereabouts::Renamed(path) => (
                format!("but its file is {path} now"),
                format!("something renamed the file that {comm} listens on: rename it back, or restart {comm}"),
            ),
            Whereabouts::Gone => (
                "but its file was removed or moved away".to_owned(),
                format!(
                    "restart {comm}: something removed the file it listens on (a clean-up of temporary files, or another \
                     instance that stopped)"
                ),
            ),
        };
        // The one that listens is not gone, whatever became of its file.
        let other = past.filter(|past| past.process.pid != elsewhere.owner.pid);
        let before = other.as_ref().map_or_else(String::new, |past| format!("; {}", past.text));
        let text = format!("{what}; {who} does listen on {}, {how}{before}", asked.path);
        let mut found = because(RootKind::SocketFile, text, Some(hint));
        found.root.process = other.map(|past| past.process);
        return Some(found);
    }
    let mut text = what;
    let near: Vec<String> = look
        .near
        .iter()
        .map(|(path, owner)| match owner {
            Some(owner) => format!("{path} is listened on by {}", text::name(owner)),
            None => format!("{path} is listened on"),
        })
        .collect();
    let meant = match look.near.as_slice() {
        [(path, _)] => Some(format!("start the upstream, or point nginx at unix:{path} if that is it")),
        _ => None,
    };
    let (process, hint) = match past {
        Some(past) => {
            text = format!("{text}: {}", past.text);
            (Some(past.process), Some(past.hint))
        }
        None => (None, meant),
    };
    if !near.is_empty() {
        text = format!("{text}; {}", near.join(", "));
    }
    let mut found = because(RootKind::SocketFile, text, hint);
    found.root.process = process;
    Some(found)
}

/// connect(2) found none, and now there is one.
fn there_now(asked: &Asked, look: &Look) -> Found {
    let ago = text::duration(look.taken_ns.saturating_sub(asked.time_ns));
    let who = look.served.as_ref().and_then(|served| served.owner());
    let (by, hint) = match who {
        Some(owner) => (
            format!(", and {} listens on it", text::name(owner)),
            format!(
                "requests came while {} was not ready: let systemd hold its socket (a .socket unit), or start it before",
                owner.comm
            ),
        ),
        None => (String::new(), "start the upstream before requests come: its socket was made later".to_owned()),
    };
    because(RootKind::SocketFile, format!("{} was not there yet: {ago} later it is{by}", asked.path), Some(hint))
}

#[cfg(test)]
mod tests {
    use super::root;
    use crate::{
        context::unix::{
            look::{Elsewhere, Whereabouts},
            walk::End,
        },
        model::host::Name,
        record::RootKind,
        trace::roots::unix::{
            Past,
            samples::{asked, look, part},
        },
    };

    fn missing(path: &str, last: bool) -> End {
        End::Missing { path: path.into(), last }
    }

    fn fpm() -> Name {
        Name { pid: 412, comm: "php-fpm8.3".into() }
    }

    #[test]
    fn which_part_is_missing() {
        let asked = asked("/run/php/a.sock");
        for (end, link, expected) in [
            (missing("/run/php/a.sock", true), None, "there is no a.sock in /run/php"),
            (missing("/run/php", false), None, "there is no directory php in /run"),
            (
                missing("/srv/gone", true),
                Some(("/run/php/a.sock".into(), "/srv/gone".into())),
                "/run/php/a.sock is a link to /srv/gone, and there is no gone in /srv",
            ),
        ] {
            let mut look = look(end);
            look.walk.as_mut().expect("a walk").link = link;
            let found = root(&asked, &look, None).expect("a reason").root;
            assert_eq!((found.kind, found.text.as_str()), (RootKind::SocketFile, expected));
        }
        for end in [End::Unknown, End::NoDirectory("/run/php".into())] {
            assert!(root(&asked, &look(end), None).is_none(), "that is not why");
        }
    }

    #[test]
    fn who_is_near_and_who_was_there() {
        let asked = asked("/run/php/php8.2-fpm.sock");
        let mut seen = look(missing("/run/php/php8.2-fpm.sock", true));
        seen.near = vec![("/run/php/php8.3-fpm.sock".into(), Some(fpm()))];
        let found = root(&asked, &seen, None).expect("a reason");
        assert_eq!(
            found.root.text,
            "there is no php8.2-fpm.sock in /run/php; /run/php/php8.3-fpm.sock is listened on by php-fpm8.3[412]"
        );
        assert!(found.hint.expect("a hint").contains("unix:/run/php/php8.3-fpm.sock"));
        let process =
            crate::record::ProcessFate { pid: 7, comm: "php-fpm8.2".into(), code: None, signal: None, oom: None };
        let text = "php-fpm8.2[7], which listened there, exited with code 0 2.1 s before".to_owned();
        let past = Past { kind: RootKind::ProcessExited, text, process, hint: "start it".into() };
        let found = root(&asked, &seen, Some(past)).expect("a reason").root;
        assert!(found.text.contains("/run/php: php-fpm8.2[7], which listened there, exited"), "{}", found.text);
        assert_eq!((found.kind, found.process.map(|process| process.pid)), (RootKind::SocketFile, Some(7)));
    }

    #[test]
    fn listened_on_and_yet_not_there() {
        let asked = asked("/tmp/a.sock");
        for (file, words) in [
            (Whereabouts::Gone, "but its file was removed or moved away"),
            (Whereabouts::Renamed("/tmp/b.sock".into()), "but its file is /tmp/b.sock now"),
            (Whereabouts::AnotherMount, "another mount namespace"),
        ] {
            let mut look = look(missing("/tmp/a.sock", true));
            look.elsewhere = Some(Elsewhere { owner: fpm(), file });
            let text = root(&asked, &look, None).expect("a reason").root.text;
            assert!(text.contains("php-fpm8.3[412] does listen on /tmp/a.sock") && text.contains(words), "{text}");
        }
        let now = root(&asked, &look(End::File(part("/tmp/a.sock", 0o140_777, 0))), None).expect("a reason").root.text;
        assert_eq!(now, "/tmp/a.sock was not there yet: 1.0 s later it is");
    }
}
