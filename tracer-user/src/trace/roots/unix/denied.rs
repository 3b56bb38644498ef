//! The worker may not use the socket: which part of its path forbids it, and to whom.

use rustix::fs::FileType;

use super::{because, program::Program};
use crate::{
    context::unix::{
        access::{Class, Wanted, shown},
        look::{Forbidden, Look},
        walk::{End, Part},
    },
    record::RootKind,
    trace::roots::Found,
};

pub(super) fn root(look: &Look) -> Option<Found> {
    match (&look.forbidden, &look.walk.as_ref()?.end) {
        (Some(forbidden), _) => Some(by_mode(look, forbidden)),
        // Somewhere we cannot look, or it is gone: what is left says nothing.
        (None, End::File(file)) => Some(otherwise(look, file)),
        (None, _) => None,
    }
}

fn by_mode(look: &Look, Forbidden { part, class, wanted }: &Forbidden) -> Found {
    let what = match wanted {
        Wanted::Search => format!("search {}", part.path),
        Wanted::Write => format!("write to {}", part.path),
    };
    let text = format!("{} may not {what}, which is {}", user(look, look.user.uid), owned(look, part));
    because(RootKind::SocketFile, text, Some(hint(look, part, *class, *wanted)))
}

fn otherwise(look: &Look, file: &Part) -> Found {
    let who = user(look, look.user.uid);
    let modes = format!("the modes on the way to {} would let {who} connect ({})", file.path, owned(look, file));
    let (what, hint) = match (&look.acl, &look.confined) {
        (Some(path), _) => {
            (format!("the access control list of {path} may forbid it"), format!("look at `getfacl {path}`"))
        }
        (None, Some(label)) => (
            format!("the worker is confined as {label}"),
            "look for the denial in `ausearch -m avc -ts recent` (SELinux) or `journalctl -k -g DENIED` (AppArmor)"
                .into(),
        ),
        (None, None) => (
            "something else forbids it (SELinux, AppArmor)".to_owned(),
            "look for a denial in `ausearch -m avc -ts recent` (SELinux) or `journalctl -k -g DENIED` (AppArmor)"
                .into(),
        ),
    };
    because(RootKind::SocketFile, format!("{modes}; {what}"), Some(hint))
}

/// What to change, with names.
fn hint(look: &Look, part: &Part, class: Class, wanted: Wanted) -> String {
    let Part { path, gid, .. } = part;
    let nginx = look.names.user(look.user.uid).map_or_else(|| look.user.uid.to_string(), str::to_owned);
    let group = look.names.group(look.user.gid).map_or_else(|| look.user.gid.to_string(), str::to_owned);
    let owners = look.names.group(*gid).map_or_else(|| gid.to_string(), str::to_owned);
    let join = |bit: &str| match class {
        Class::Owner => format!("chmod u+{bit} {path}"),
        Class::Group => format!("chmod g+{bit} {path}"),
        Class::Others if *gid == 0 => format!("chgrp {group} {path} && chmod g+{bit} {path}"),
        Class::Others => {
            format!(
                "add {nginx} to the group {owners} (usermod -aG {owners} {nginx}, restart nginx) and chmod g+{bit} {path}"
            )
        }
    };
    let served = look.served.as_ref().and_then(|served| served.owner());
    let home = path == "/root" || path.starts_with("/home/");
    match (wanted, part.kind()) {
        (Wanted::Search, _) if home => {
            format!(
                "put the socket below /run (RuntimeDirectory= of the service), not below {path}, which is for one user"
            )
        }
        (Wanted::Search, _) if class == Class::Others => format!("chmod o+x {path}, or {}", join("x")),
        (Wanted::Search, _) => join("x"),
        (Wanted::Write, FileType::Socket) => Program::of(served).let_in(&nginx, &group).unwrap_or_else(|| {
            let lasting = "and let the upstream make it so: it makes the file anew at each start";
            format!("{}, {lasting}", join("w"))
        }),
        (Wanted::Write, _) => format!("{path} is no socket: let nginx connect to one"),
    }
}

/// `www-data (uid 33)`
fn user(look: &Look, uid: u32) -> String {
    look.names.user(uid).map_or_else(|| format!("uid {uid}"), |name| format!("{name} (uid {uid})"))
}

/// `srw-rw---- of user root (0), group root (0)`
fn owned(look: &Look, part: &Part) -> String {
    let named = |name: Option<&str>, id: u32| name.map_or_else(|| id.to_string(), |name| format!("{name} ({id})"));
    format!(
        "{} of user {}, group {}",
        shown(part.mode),
        named(look.names.user(part.uid), part.uid),
        named(look.names.group(part.gid), part.gid)
    )
}

#[cfg(test)]
mod tests {
    use super::root;
    use crate::{
        context::unix::{
            access::{Class, Wanted},
            look::Forbidden,
            walk::End,
        },
        record::RootKind,
        trace::roots::unix::samples::{look, part},
    };

    #[test]
    fn which_part_forbids_it() {
        let socket = part("/run/app/a.sock", 0o140_660, 7);
        let mut seen = look(End::File(socket.clone()));
        seen.forbidden = Some(Forbidden { part: socket, class: Class::Others, wanted: Wanted::Write });
        let found = root(&seen).expect("a reason");
        assert_eq!(found.root.kind, RootKind::SocketFile);
        assert_eq!(found.root.text, "uid 33 may not write to /run/app/a.sock, which is srw-rw---- of user 7, group 7");
        assert!(found.hint.expect("a hint").starts_with("add 33 to the group 7"));
        let directory = part("/run/app", 0o040_700, 0);
        seen.forbidden = Some(Forbidden { part: directory, class: Class::Others, wanted: Wanted::Search });
        let found = root(&seen).expect("a reason");
        assert_eq!(found.root.text, "uid 33 may not search /run/app, which is drwx------ of user 0, group 0");
        assert_eq!(found.hint.expect("a hint"), "chmod o+x /run/app, or chgrp 33 /run/app && chmod g+x /run/app");
    }

    #[test]
    fn modes_that_allow_it_are_not_blamed() {
        let mut seen = look(End::File(part("/run/a.sock", 0o140_666, 0)));
        let text = |seen: &_| root(seen).expect("a reason").root.text;
        assert!(text(&seen).contains("would let uid 33 connect") && text(&seen).contains("something else"));
        seen.confined = Some("system_u:system_r:httpd_t:s0".into());
        assert!(text(&seen).ends_with("the worker is confined as system_u:system_r:httpd_t:s0"));
        seen.acl = Some("/run".into());
        assert!(text(&seen).ends_with("the access control list of /run may forbid it"));
        assert!(root(&look(End::Unknown)).is_none(), "we do not see it ourselves");
    }
}
