//! The reason behind a failure to connect to a unix socket, from a look at it in the worker's eyes.

mod denied;
pub(in crate::trace) mod failed;
mod full;
mod missing;
mod refused;
pub(super) mod server;

use super::{Found, ended, program, remedy, text};
use crate::{
    context::unix::{
        look::{Asked, Look},
        places::{Afterwards, Place},
    },
    model::{
        cause::Cause,
        host::{Fate, Name},
    },
    record,
};

/// Finds the reason; None: what is there now does not explain it. `last` is who listened there and does no more.
pub(in crate::trace) fn find(
    cause: Cause,
    asked: &Asked,
    look: &Look,
    last: Option<&Place>,
    fate: impl Fn(u32) -> Option<Fate>,
) -> Option<Found> {
    match cause {
        Cause::SocketMissing => missing::root(asked, look, last.map(|place| Past::of(place, asked, fate))),
        Cause::SocketDenied => denied::root(look),
        Cause::SocketRefused => {
            let last = last.filter(|place| refused::same_file(place, look));
            refused::root(asked, look, last.map(|place| Past::of(place, asked, fate)))
        }
        Cause::SocketBacklogFull => full::root(asked, look),
        _ => None,
    }
}

/// Who listened there, and what became of it.
struct Past {
    kind: record::RootKind,
    /// `php-fpm[412], which listened there, was killed by SIGKILL 2.1 s before`
    text: String,
    process: record::ProcessFate,
    hint: String,
}

impl Past {
    fn of(place: &Place, asked: &Asked, fate: impl Fn(u32) -> Option<Fate>) -> Self {
        let Name { pid, comm } = place.owner.clone();
        let who = text::name(&place.owner);
        let ago = |time_ns: u64| text::duration(asked.time_ns.saturating_sub(time_ns));
        let unknown = record::ProcessFate { pid, comm: comm.clone(), code: None, signal: None, oom: None };
        match place.afterwards(asked.time_ns) {
            Afterwards::Ended(actor, ended_ns) => {
                let own = fate(pid);
                let process = text::process(actor, own.as_ref(), ended_ns);
                let kind = ended::kind(actor, &process);
                let end = text::end(actor, own.as_ref(), ended_ns).unwrap_or_else(|| "ended".to_owned());
                Self {
                    kind,
                    text: format!("{who}, which listened there, {end} {} before", ago(ended_ns)),
                    process,
                    hint: remedy::again(actor, &fate, ended_ns),
                }
            }
            Afterwards::Alive => Self {
                kind: record::RootKind::NotListening,
                text: format!("{who} listened there {} before, and has stopped", ago(place.seen_ns)),
                process: unknown,
                hint: format!("find out why {who} stopped listening"),
            },
            Afterwards::Unseen => Self {
                kind: record::RootKind::NotListening,
                text: format!("{who} listened there {} before, and is gone", ago(place.seen_ns)),
                process: unknown,
                hint: format!("start {comm} again; its log says why it ended"),
            },
        }
    }
}

fn because(kind: record::RootKind, text: String, hint: Option<String>) -> Found {
    let root = record::Root { kind, text, process: None, listener: None };
    Found { root, hint, evidence: None }
}

#[cfg(test)]
mod samples {
    use crate::{
        context::unix::{
            access::User,
            look::{Asked, Look},
            view::View,
            walk::{End, FileId, Part, Walk},
        },
        kernel::clock::monotonic_ns,
    };

    pub(super) fn asked(path: &str) -> Asked {
        Asked { worker: 9, time_ns: 5_000_000_000, path: path.into() }
    }

    pub(super) fn part(path: &str, mode: u32, uid: u32) -> Part {
        let id = FileId { device: 1, inode: 2 };
        Part { path: path.into(), id, mode, uid, gid: uid, acl: false, changed_ns: 3 }
    }

    pub(super) fn look(end: End) -> Look {
        let view = View::of(std::process::id(), monotonic_ns()).expect("we exist");
        Look {
            taken_ns: 6_000_000_000,
            scope: view.scope,
            user: User { uid: 33, gid: 33, ..User::default() },
            names: crate::context::unix::view::Names::default(),
            confined: None,
            walk: Some(Walk { directories: Vec::new(), link: None, end }),
            served: None,
            forbidden: None,
            acl: None,
            near: Vec::new(),
            elsewhere: None,
            somaxconn: None,
        }
    }
}
