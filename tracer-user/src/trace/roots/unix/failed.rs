//! connect(2) to a path at whose end is no stream socket, and not for want of it: the error alone tells.

use super::{Found, because};
use crate::{
    diagnose::evidence::errno_name,
    model::{address::Address, verdict::Failure},
    record::RootKind,
};

/// unix_find_bsd(), net/unix/af_unix.c, and path_lookupat(), fs/namei.c, v6.12.
pub(in crate::trace) fn root(failure: &Failure) -> Option<Found> {
    let (Some(Address::Unix(path)), Some(errno)) = (&failure.upstream, failure.errno) else { return None };
    let what = match errno {
        libc::ELOOP => format!("the links on the way to {path} lead in a circle, or are too many"),
        libc::ENOTDIR => format!("a part of {path} before the last is no directory"),
        libc::EPROTOTYPE => {
            format!("{path} is a socket of another type than a stream (a datagram socket, of a log perhaps)")
        }
        _ => return None,
    };
    let hint = match errno {
        libc::EPROTOTYPE => format!("let nginx name the upstream's own socket: `ss -xap` shows whose {path} is"),
        _ => format!("look at `namei -l {path}`, as nginx's worker sees it, and mend the path or the link"),
    };
    Some(because(RootKind::SocketFile, format!("{what} ({})", errno_name(errno)), Some(hint)))
}

#[cfg(test)]
mod tests {
    use super::root;
    use crate::{
        model::{address::Address, cause::Cause},
        record::RootKind,
        trace::roots::samples::failure,
    };

    #[test]
    fn the_error_tells() {
        let mut failure = failure(Cause::ConnectFailed);
        failure.upstream = Some(Address::Unix("/run/a.sock".into()));
        for (errno, text) in [
            (40, "the links on the way to /run/a.sock lead in a circle, or are too many (ELOOP)"),
            (20, "a part of /run/a.sock before the last is no directory (ENOTDIR)"),
        ] {
            failure.errno = Some(errno);
            let found = root(&failure).expect("a reason").root;
            assert_eq!((found.kind, found.text.as_str()), (RootKind::SocketFile, text));
        }
        failure.errno = Some(91);
        assert!(root(&failure).is_some_and(|found| found.root.text.ends_with("(EPROTOTYPE)")));
        failure.errno = Some(1);
        assert!(root(&failure).is_none());
    }
}
