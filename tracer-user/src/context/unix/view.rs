//! The eyes of a process: its root directory, its user, its names for users and groups. Looks at them through one handle
//! of /proc/PID, so that another process that gets its number later is not taken for it.

use std::{
    collections::HashMap,
    fs::File,
    io::Read as _,
    os::fd::{AsRawFd as _, OwnedFd},
};

use rustix::{
    fs::{Dir, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2, readlinkat},
    param::clock_ticks_per_second,
    time::{ClockId, clock_gettime},
};

use super::{
    access::User,
    walk::{self, End, FileId, Walk},
};
use crate::context::stat;

/// Bytes that are read of /etc/passwd and the like.
const DATABASE: u64 = 1 << 20;
/// Entries of a directory that are looked through.
const ENTRIES: usize = 16_384;
const PASSWD: &str = "etc/passwd";
const GROUP: &str = "etc/group";

/// Which part of the world a process sees: its mount namespace and root directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    mounts: String,
    root: FileId,
}

/// A process to look through.
#[derive(Debug)]
pub struct View {
    process: OwnedFd,
    root: OwnedFd,
    pub scope: Scope,
}

impl View {
    /// That of process `pid`, if it is one that was there at `time_ns` (monotonic); None: it is gone.
    pub fn of(pid: u32, time_ns: u64) -> Option<Self> {
        let process = walk::directory(&format!("/proc/{pid}")).ok()?;
        let root = openat(&process, "root", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let stat = fstat(&root).ok()?;
        let mounts = readlinkat(&process, "ns/mnt", Vec::new()).ok()?.to_string_lossy().into_owned();
        let scope = Scope { mounts, root: FileId { device: stat.st_dev, inode: stat.st_ino } };
        let view = Self { process, root, scope };
        (started_ns(&view.text("stat")?)? <= time_ns).then_some(view)
    }

    /// One of the process's files in /proc.
    fn text(&self, name: &str) -> Option<String> {
        let file = openat(&self.process, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut bytes = Vec::new();
        File::from(file).take(DATABASE).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Goes to a path; a relative one begins where the process is.
    pub fn walk(&self, path: &str) -> Option<Walk> {
        if path.starts_with('/') {
            return Some(walk::walk(&self.root, path));
        }
        let link = |name| Some(readlinkat(&self.process, name, Vec::new()).ok()?.to_string_lossy().into_owned());
        let (root, current): (String, String) = (link("root")?, link("cwd")?);
        let current = current.strip_prefix(root.trim_end_matches('/'))?;
        let stat = fstat(openat(&self.process, "cwd", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?).ok()?;
        let is_there = matches!(walk::walk(&self.root, current).end, End::File(part)
            if part.id == FileId { device: stat.st_dev, inode: stat.st_ino });
        is_there.then(|| walk::walk(&self.root, &format!("{current}/{path}")))
    }

    /// What is in a directory under this inode (its lower 32 bits, as `sock_diag` has it); None: it cannot be read.
    pub fn names_of(&self, directory: &str, inode: u64) -> Option<Vec<String>> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat2(&self.root, format!("{directory}/"), flags, Mode::empty(), resolve).ok()?;
        let entries = Dir::new(directory).ok()?.take(ENTRIES).flatten();
        let named = entries.filter(|entry| entry.ino() & 0xffff_ffff == inode);
        Some(named.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
    }

    /// Whom the kernel checks access for.
    pub fn user(&self) -> Option<User> {
        user(&self.text("status")?)
    }

    /// Are a file's owner and group ones of the process's user namespace? Its capabilities say nothing about others
    /// (capable_wrt_inode_uidgid(), kernel/capability.c, v6.12).
    pub fn maps(&self, uid: u32, gid: u32) -> bool {
        let within = |name, id| self.text(name).is_some_and(|map| inside(&map, id).is_some());
        within("uid_map", uid) && within("gid_map", gid)
    }

    /// What a security module confines it to; None: there is none, or it does not.
    pub fn confined(&self) -> Option<String> {
        let label = self.text("attr/current")?;
        let label = label.trim_end_matches(['\0', '\n']);
        (!label.is_empty() && !label.starts_with("unconfined")).then(|| label.to_owned())
    }

    /// Names of users and groups as the process's own /etc has them.
    pub fn names(&self) -> Names {
        let map = |name| self.text(name).unwrap_or_default();
        Names {
            users: named(&self.database(PASSWD).unwrap_or_default()),
            groups: named(&self.database(GROUP).unwrap_or_default()),
            uid_map: map("uid_map"),
            gid_map: map("gid_map"),
        }
    }

    fn database(&self, path: &str) -> Option<String> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let found = openat2(&self.root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve).ok()?;
        if FileType::from_raw_mode(fstat(&found).ok()?.st_mode) != FileType::RegularFile {
            return None;
        }
        let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()?;
        let mut bytes = Vec::new();
        file.take(DATABASE).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Names by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
    uid_map: String,
    gid_map: String,
}

impl Names {
    /// `www-data`; None: it has no name there.
    pub fn user(&self, uid: u32) -> Option<&str> {
        self.users.get(&inside(&self.uid_map, uid)?).map(String::as_str)
    }

    pub fn group(&self, gid: u32) -> Option<&str> {
        self.groups.get(&inside(&self.gid_map, gid)?).map(String::as_str)
    }
}

/// `www-data:x:33:…`, both in passwd(5) and group(5); the first of a number counts.
fn named(database: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in database.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(id)) = (fields.next(), fields.nth(1).and_then(|id| id.parse().ok())) {
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}

/// What an id is called inside a user namespace whose map this is: user_namespaces(7).
fn inside(map: &str, id: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_ascii_whitespace().map_while(|number| number.parse::<u32>().ok());
        let (first, outside, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
        let offset = id.checked_sub(outside).filter(|offset| *offset < count)?;
        first.checked_add(offset)
    })
}

/// The fourth of `Uid:` and `Gid:` are those of the file system: proc_pid_status(5).
fn user(status: &str) -> Option<User> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let fourth = |name| field(name)?.split_ascii_whitespace().nth(3)?.parse().ok();
    Some(User {
        uid: fourth("Uid")?,
        gid: fourth("Gid")?,
        groups: field("Groups")?.split_ascii_whitespace().filter_map(|group| group.parse().ok()).collect(),
        capabilities: u64::from_str_radix(field("CapEff")?.trim(), 16).ok()?,
    })
}

/// When a process began, by the monotonic clock in ns, from its /proc/PID/stat.
fn started_ns(line: &str) -> Option<u64> {
    let ticks = stat::parse(line)?.started;
    let nanoseconds = |clock| {
        let now = clock_gettime(clock);
        now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
    };
    // It is counted with the time asleep, fs/proc/array.c: do_task_stat(), v6.12.
    let asleep = nanoseconds(ClockId::Boottime).saturating_sub(nanoseconds(ClockId::Monotonic));
    Some((ticks.saturating_mul(1_000_000_000) / clock_ticks_per_second().max(1)).saturating_sub(asleep))
}

#[cfg(test)]
mod tests {
    use super::{View, inside, named, user, walk::End};
    use crate::kernel::clock::monotonic_ns;

    #[test]
    fn our_own_eyes() {
        let own = std::process::id();
        let view = View::of(own, monotonic_ns()).expect("we exist");
        assert!(matches!(view.walk("/proc").expect("absolute").end, End::File(_)));
        assert!(matches!(view.walk("Cargo.toml").expect("tests run in their crate").end, End::File(_)));
        let user = view.user().expect("we are somebody");
        assert_eq!(user.uid, rustix::process::geteuid().as_raw());
        assert!(view.maps(user.uid, user.gid));
        assert_eq!(view.names().user(0), Some("root"));
        assert!(View::of(own, 0).is_none(), "a process of that number that came later");
        assert!(View::of(u32::MAX, monotonic_ns()).is_none());
    }

    #[test]
    fn ids_in_a_status() {
        let status =
            "Name:\tnginx\nUid:\t33\t33\t33\t34\nGid:\t33\t33\t33\t35\nGroups:\t4 33 \nCapEff:\t0000000000000402\n";
        let user = user(status).expect("whole");
        assert_eq!(
            (user.uid, user.gid, user.groups.as_slice(), user.capabilities),
            (34, 35, [4, 33].as_slice(), 0x402)
        );
        assert_eq!(super::user("Uid:\t1\n"), None);
    }

    #[test]
    fn names_and_maps() {
        let names = named("root:x:0:0::/root:/bin/sh\nbroken\nwww-data:x:33:33\ntoo:x:33:33\n:::\n");
        assert_eq!((names.len(), names[&33].as_str()), (2, "www-data"));
        let map = "         0     100000      65536\n     70000 5 1\n";
        assert_eq!((inside(map, 100_033), inside(map, 5), inside(map, 33)), (Some(33), Some(70_000), None));
        assert_eq!(inside("x\n0 0", 0), None);
        assert_eq!(inside("4294967295 0 4294967295", 7), None);
    }
}
