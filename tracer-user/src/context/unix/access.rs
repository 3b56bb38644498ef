//! What the mode of a file allows whom. Pure.

/// CAP_DAC_OVERRIDE, include/uapi/linux/capability.h.
const DAC_OVERRIDE: u32 = 1;
/// CAP_DAC_READ_SEARCH.
const DAC_READ_SEARCH: u32 = 2;

/// Who asks: the ids that file access is checked with (fsuid, fsgid), the groups besides, and the capabilities in effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub capabilities: u64,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// To look up a name in a directory.
    Search,
    /// To connect to a socket.
    Write,
}

/// Whose bits of a mode count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Owner,
    Group,
    Others,
}

/// The class whose bits forbid it; None: they allow it, or a capability does not ask for them. As acl_permission_check()
/// and generic_permission(), fs/namei.c, v6.12, without access control lists.
pub fn forbids(user: &User, mode: u32, uid: u32, gid: u32, wanted: Wanted) -> Option<Class> {
    let has = |capability: u32| user.capabilities >> capability & 1 == 1;
    let (class, shift) = if user.uid == uid {
        (Class::Owner, 6)
    } else if user.gid == gid || user.groups.contains(&gid) {
        (Class::Group, 3)
    } else {
        (Class::Others, 0)
    };
    let (bit, overridden) = match wanted {
        Wanted::Search => (0o1, has(DAC_OVERRIDE) || has(DAC_READ_SEARCH)),
        Wanted::Write => (0o2, has(DAC_OVERRIDE)),
    };
    (mode >> shift & bit == 0 && !overridden).then_some(class)
}

/// `srw-rw----`, as ls(1) shows a mode.
pub fn shown(mode: u32) -> String {
    let kind = match mode & 0o170_000 {
        0o140_000 => 's',
        0o120_000 => 'l',
        0o100_000 => '-',
        0o060_000 => 'b',
        0o040_000 => 'd',
        0o020_000 => 'c',
        0o010_000 => 'p',
        _ => '?',
    };
    let mut text = String::from(kind);
    for (shift, special, with, without) in [(6, 0o4000, 's', 'S'), (3, 0o2000, 's', 'S'), (0, 0o1000, 't', 'T')] {
        let bits = mode >> shift;
        text.push(if bits & 4 == 0 { '-' } else { 'r' });
        text.push(if bits & 2 == 0 { '-' } else { 'w' });
        text.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => with,
            (true, false) => without,
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Class, User, Wanted, forbids, shown};

    fn user(uid: u32, gid: u32, groups: &[u32], capabilities: u64) -> User {
        User { uid, gid, groups: groups.to_vec(), capabilities }
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let www = user(33, 33, &[], 0);
        for (mode, uid, gid, expected) in [
            (0o660, 33, 0, None),
            (0o060, 33, 33, Some(Class::Owner)),
            (0o660, 0, 33, None),
            (0o606, 0, 33, Some(Class::Group)),
            (0o660, 0, 0, Some(Class::Others)),
            (0o666, 0, 0, None),
            (0o444, 0, 0, Some(Class::Others)),
        ] {
            assert_eq!(forbids(&www, mode, uid, gid, Wanted::Write), expected, "{mode:o} {uid} {gid}");
        }
        let member = user(33, 33, &[5, 1000], 0);
        assert_eq!(forbids(&member, 0o660, 0, 1000, Wanted::Write), None);
        assert_eq!(forbids(&member, 0o710, 0, 1000, Wanted::Search), None);
        assert_eq!(forbids(&member, 0o750, 0, 7, Wanted::Search), Some(Class::Others));
        assert_eq!(forbids(&member, 0o666, 0, 7, Wanted::Search), Some(Class::Others), "rw is not x");
    }

    #[test]
    fn capabilities_of_root() {
        assert_eq!(forbids(&user(0, 0, &[], 1 << 1), 0, 7, 7, Wanted::Write), None);
        assert_eq!(forbids(&user(33, 33, &[], 1 << 2), 0, 7, 7, Wanted::Search), None);
        assert_eq!(forbids(&user(33, 33, &[], 1 << 2), 0, 7, 7, Wanted::Write), Some(Class::Others));
        // root without its capabilities is nobody special.
        assert_eq!(forbids(&user(0, 0, &[], 0), 0o600, 7, 7, Wanted::Write), Some(Class::Others));
    }

    #[test]
    fn modes_as_ls_shows_them() {
        for (mode, text) in [
            (0o140_755, "srwxr-xr-x"),
            (0o140_660, "srw-rw----"),
            (0o041_777, "drwxrwxrwt"),
            (0o042_710, "drwx--s---"),
            (0o100_000, "----------"),
            (0o104_644, "-rwSr--r--"),
        ] {
            assert_eq!(shown(mode), text);
        }
    }
}
