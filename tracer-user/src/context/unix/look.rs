//! All that can be seen of a unix socket at one moment, in the eyes of one process.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{
    access::{Class, User, Wanted, forbids},
    diag::{self, Bound, Listener},
    holders::{self, Holder},
    likeness::{likeness, plain},
    view::{Names, Scope, View},
    walk::{End, FileId, Part, Walk},
};
use crate::{context::namespaces::Snapshot, kernel::clock, model::host::Name};

/// Other sockets that are named.
const NEAR: usize = 3;

/// What is asked about: the path as nginx has it, in the eyes of a worker that was there at that time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub worker: u32,
    pub time_ns: u64,
    pub path: String,
}

/// Who listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    pub listener: Listener,
    pub holders: Vec<Holder>,
    /// By the name alone: the kernel did not tell which file it is.
    pub by_name: bool,
}

impl Served {
    pub fn owner(&self) -> Option<&Name> {
        holders::owner(&self.holders).map(|holder| &holder.name)
    }
}

impl Look {
    /// What it says of the place itself.
    pub fn seen(&self, path: &str) -> Seen {
        let file = match &self.walk {
            Some(Walk { end: End::File(part), .. }) => Some(part.clone()),
            _ => None,
        };
        let (taken_ns, scope, path, served) = (self.taken_ns, self.scope.clone(), path.to_owned(), self.served.clone());
        Seen { taken_ns, scope, path, file, served }
    }
}

/// What forbids the use of a socket, by its mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forbidden {
    pub part: Part,
    pub class: Class,
    pub wanted: Wanted,
}

/// A listener of the same name that the process does not see there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    pub owner: Name,
    pub file: Whereabouts,
}

/// Where the file of a listener is that is not where it was bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// Where only its owner sees it, who has other file systems.
    AnotherMount,
    /// In the same directory under this path.
    Renamed(String),
    /// Its owner does not see it there either, nor elsewhere in that directory as far as that was looked through: removed, or
    /// moved away.
    Gone,
}

/// Seen.
#[derive(Clone, Debug)]
pub struct Look {
    pub taken_ns: u64,
    pub scope: Scope,
    pub user: User,
    pub names: Names,
    /// Label of a security module.
    pub confined: Option<String>,
    /// None: a name that is no path.
    pub walk: Option<Walk>,
    pub served: Option<Served>,
    pub forbidden: Option<Forbidden>,
    /// The first on the way with an access control list.
    pub acl: Option<String>,
    /// Sockets of a similar name that somebody listens on.
    pub near: Vec<(String, Option<Name>)>,
    pub elsewhere: Option<Elsewhere>,
    /// net.core.somaxconn.
    pub somaxconn: Option<u32>,
}

/// Who listened at a place at some time, or that nobody did.
#[derive(Clone, Debug)]
pub struct Seen {
    pub taken_ns: u64,
    pub scope: Scope,
    pub path: String,
    pub file: Option<Part>,
    pub served: Option<Served>,
}

/// Holders by the inode of their socket.
pub type Holders = HashMap<u64, Vec<Holder>>;

/// What was found earlier, and saves asking every process of the host.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub holders: Holders,
    pub namespaces: Arc<Snapshot>,
}

/// Looks. None: the worker is gone.
pub fn look(asked: &Asked, known: &Known) -> Option<Look> {
    let view = View::of(asked.worker, asked.time_ns)?;
    let taken_ns = clock::monotonic_ns();
    let (listeners, netns) = if known.namespaces.is_current() {
        diag::listeners(asked.worker, &known.namespaces)
    } else {
        diag::listeners(asked.worker, &Snapshot::read())
    };
    let mut walk = view.walk(&asked.path);
    if asked.path.starts_with('@') && !walk.as_ref().is_some_and(|walk| matches!(walk.end, End::File(_))) {
        walk = None;
    }
    let found = serving(&listeners, walk.as_ref(), &asked.path, netns);
    let near = match (&walk, found) {
        (Some(walk), None) if matches!(walk.end, End::Missing { .. }) => near(&view, &listeners, &asked.path),
        _ => Vec::new(),
    };
    let elsewhere = listeners
        .iter()
        .filter(|listener| found.is_none_or(|(found, _)| found.inode != listener.inode))
        .find(|listener| matches!(&listener.bound, Bound::Path(path) if plain(path) == plain(&asked.path)));
    let wanted = found.map(|(found, _)| found).into_iter().chain(elsewhere).chain(near.iter().map(|(_, near)| *near));
    let holders = holders_of(wanted, &known.holders);
    let holding = |listener: &Listener| holders.get(&listener.inode).cloned().unwrap_or_default();
    let owner = |listener: &Listener| holders::owner(&holding(listener)).map(|holder| holder.name.clone());
    let user = view.user()?;
    let forbidden = walk.as_ref().and_then(|walk| forbidden(&view, &user, walk));
    Some(Look {
        taken_ns,
        forbidden,
        acl: walk.as_ref().and_then(|walk| parts(walk).find(|(part, _)| part.acl)).map(|(part, _)| part.path.clone()),
        near: near.iter().map(|(path, listener)| (path.clone(), owner(listener))).collect(),
        elsewhere: elsewhere.and_then(|listener| {
            let owner = owner(listener)?;
            let theirs = View::of(owner.pid, clock::monotonic_ns())?;
            let is_there = theirs.scope != view.scope && reaches(&theirs, &listeners, &asked.path, listener);
            let renamed = || renamed(&theirs, &listeners, &asked.path, listener);
            let file = match (!is_there).then(renamed) {
                Some(None) => Whereabouts::Gone,
                Some(Some(path)) if reaches(&view, &listeners, &path, listener) => Whereabouts::Renamed(path),
                _ => Whereabouts::AnotherMount,
            };
            Some(Elsewhere { owner, file })
        }),
        served: found.map(|(listener, by_name)| Served {
            holders: holding(listener),
            listener: listener.clone(),
            by_name,
        }),
        somaxconn: diag::somaxconn(asked.worker),
        user,
        names: view.names(),
        confined: view.confined(),
        walk,
        scope: view.scope,
    })
}

/// Who listens at these places now (paths by worker), and the host's network namespaces.
pub fn survey(places: &[(u32, Vec<String>)], known: &Holders) -> (Vec<Seen>, Snapshot) {
    let namespaces = Snapshot::read();
    let mut found = Vec::new();
    for (worker, paths) in places {
        let Some(view) = View::of(*worker, u64::MAX) else { continue };
        let taken_ns = clock::monotonic_ns();
        let (listeners, netns) = diag::listeners(*worker, &namespaces);
        for path in paths {
            let walk = view.walk(path);
            let served = serving(&listeners, walk.as_ref(), path, netns);
            let file = walk.and_then(|walk| if let End::File(part) = walk.end { Some(part) } else { None });
            let served = served.map(|(listener, by_name)| (listener.clone(), by_name));
            let (scope, path) = (view.scope.clone(), path.clone());
            found.push((Seen { taken_ns, scope, path, file, served: None }, served));
        }
    }
    let holders = holders_of(found.iter().filter_map(|(_, served)| Some(&served.as_ref()?.0)), known);
    let seen = found.into_iter().map(|(seen, served)| {
        let served = served.map(|(listener, by_name)| Served {
            holders: holders.get(&listener.inode).cloned().unwrap_or_default(),
            listener,
            by_name,
        });
        Seen { served, ..seen }
    });
    (seen.collect(), namespaces)
}

/// The listener behind a path, and whether only its name says so.
fn serving<'a>(
    listeners: &'a [Listener],
    walk: Option<&Walk>,
    path: &str,
    netns: Option<u64>,
) -> Option<(&'a Listener, bool)> {
    let file = match walk.map(|walk| &walk.end) {
        Some(End::File(part)) => part,
        Some(_) => return None,
        None => {
            let name = path.strip_prefix('@')?.as_bytes();
            let here = |listener: &&Listener| {
                Some(listener.netns) == netns && matches!(&listener.bound, Bound::Abstract(bound) if bound == name)
            };
            return listeners.iter().find(here).map(|listener| (listener, false));
        }
    };
    // sock_diag has 32 bits of the inode.
    let id = FileId { inode: file.id.inode & 0xffff_ffff, ..file.id };
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let same_name = |bound: &Bound| matches!(bound, Bound::Path(path) if name(path) == name(&file.path));
    if let Some(listener) = listeners.iter().find(|listener| listener.file == Some(id)) {
        return Some((listener, false));
    }
    // Of a subvolume or an overlay, stat(2) has another device number than the kernel itself.
    let inode =
        |listener: &&Listener| listener.file.is_some_and(|file| file.inode == id.inode) && same_name(&listener.bound);
    let mut found = listeners.iter().filter(inode);
    if let (Some(listener), None) = (found.next(), found.next()) {
        return Some((listener, false));
    }
    let called = |listener: &&Listener| {
        let named = |bound: &str| plain(bound) == plain(path) || plain(bound) == plain(&file.path);
        listener.file.is_none() && matches!(&listener.bound, Bound::Path(bound) if named(bound))
    };
    let mut found = listeners.iter().filter(called);
    found.next().filter(|_| found.next().is_none()).map(|listener| (listener, true))
}

/// Those whose path may have been meant, as far as the process would reach them by it; none if there are too many.
fn near<'a>(view: &View, listeners: &'a [Listener], wanted: &str) -> Vec<(String, &'a Listener)> {
    let mut alike: Vec<_> = listeners
        .iter()
        .filter_map(|listener| match &listener.bound {
            Bound::Path(path) => Some((likeness(wanted, path)?, path, listener)),
            _ => None,
        })
        .collect();
    let best = alike.iter().map(|(likeness, ..)| *likeness).min();
    alike.retain(|(likeness, ..)| Some(*likeness) == best);
    if alike.len() > NEAR {
        return Vec::new();
    }
    alike.retain(|(_, path, listener)| reaches(view, listeners, path, listener));
    alike.sort_unstable_by_key(|(_, path, _)| *path);
    alike.into_iter().map(|(_, path, listener)| (path.clone(), listener)).collect()
}

/// Does the path lead to that listener, in these eyes?
fn reaches(view: &View, listeners: &[Listener], path: &str, listener: &Listener) -> bool {
    let walk = view.walk(path);
    serving(listeners, walk.as_ref(), path, None).is_some_and(|(found, _)| found.inode == listener.inode)
}

/// Under which path in the same directory the file of a listener is now.
fn renamed(view: &View, listeners: &[Listener], path: &str, listener: &Listener) -> Option<String> {
    let (directory, _) = path.rsplit_once('/')?;
    let inode = listener.file?.inode;
    let names = view.names_of(directory, inode)?;
    let mut paths = names.iter().map(|name| format!("{directory}/{name}"));
    paths.find(|path| reaches(view, listeners, path, listener))
}

/// Who holds these; what is known still holds while one of the holders lives.
fn holders_of<'a>(listeners: impl Iterator<Item = &'a Listener>, known: &Holders) -> Holders {
    let (mut found, mut unknown) = (Holders::new(), HashSet::new());
    for Listener { inode, .. } in listeners {
        let alive = |holders: &Vec<Holder>| holders.iter().filter(|holder| holder.is_alive()).cloned().collect();
        match known.get(inode).map(alive).filter(|alive: &Vec<Holder>| !alive.is_empty()) {
            Some(alive) => drop(found.insert(*inode, alive)),
            None => drop(unknown.insert(*inode)),
        }
    }
    if !unknown.is_empty() {
        found.extend(holders::of(&unknown));
    }
    found
}

/// What is needed on the way.
fn parts(walk: &Walk) -> impl Iterator<Item = (&Part, Wanted)> {
    let directories = walk.directories.iter().map(|part| (part, Wanted::Search));
    let file = if let End::File(part) = &walk.end { Some((part, Wanted::Write)) } else { None };
    directories.chain(file)
}

/// The first part whose mode forbids it; an access control list says something else than the mode does.
fn forbidden(view: &View, user: &User, walk: &Walk) -> Option<Forbidden> {
    parts(walk).filter(|(part, _)| !part.acl).find_map(|(part, wanted)| {
        let mut user = user.clone();
        if user.capabilities != 0 && !view.maps(part.uid, part.gid) {
            user.capabilities = 0;
        }
        let class = forbids(&user, part.mode, part.uid, part.gid, wanted)?;
        Some(Forbidden { part: part.clone(), class, wanted })
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixListener, path::Path, thread};

    use super::{Asked, End, Holders, Known, Look, Whereabouts, look, survey};
    use crate::kernel::clock::monotonic_ns;

    fn seen(path: &Path) -> Look {
        let path = path.to_string_lossy().into_owned();
        let asked = Asked { worker: std::process::id(), time_ns: monotonic_ns(), path };
        thread::spawn(move || look(&asked, &Known::default())).join().expect("no panic").expect("we are there")
    }

    #[test]
    fn a_listener_goes_and_its_file_stays() {
        let directory = std::env::temp_dir().join(format!("why502-look-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let path = directory.join("app8.sock");
        let listener = UnixListener::bind(&path).expect("bound");
        let served = seen(&path).served.expect("we listen");
        assert_eq!(served.owner().expect("we hold it").pid, std::process::id());
        let near = seen(&directory.join("app7.sock"));
        assert!(matches!(near.walk.expect("a path").end, End::Missing { .. }));
        let own = std::process::id();
        assert_eq!(near.near.len(), 1);
        assert_eq!(near.near[0].1.as_ref().expect("we hold it").pid, own);
        let places = vec![(own, vec![path.to_string_lossy().into_owned()])];
        let (surveyed, namespaces) = thread::spawn(move || survey(&places, &Holders::new())).join().expect("no panic");
        assert!(namespaces.is_current());
        assert_eq!(surveyed[0].served.as_ref().expect("we listen").listener.inode, served.listener.inode);

        let moved = directory.join("moved");
        fs::rename(&path, &moved).expect("ours");
        let gone = seen(&path);
        let now = Whereabouts::Renamed(moved.to_string_lossy().into_owned());
        assert!(gone.served.is_none() && gone.elsewhere.expect("we still listen").file == now);
        let away = std::env::temp_dir().join(format!("why502-away-{}", std::process::id()));
        fs::rename(&moved, &away).expect("ours");
        assert_eq!(seen(&path).elsewhere.expect("we still listen").file, Whereabouts::Gone);
        fs::rename(&away, &path).expect("ours");
        drop(listener);
        let left = seen(&path);
        assert!(left.served.is_none() && left.elsewhere.is_none());
        assert!(matches!(left.walk.expect("a path").end, End::File(_)));
        fs::remove_dir_all(directory).expect("ours");
    }
}
