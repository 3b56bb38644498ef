//! The way to a file, name by name, in the eyes of another process: links lead nowhere but below its root directory.
//!
//! Nothing is opened for reading: O_PATH handles only, so that no device acts and no pipe waits.

use std::{
    collections::VecDeque,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, Stat, fstat, fstatfs, getxattr, openat, readlinkat},
    io::Errno,
};

/// Links that a path may lead through: MAXSYMLINKS, include/linux/namei.h.
const LINKS: usize = 40;
/// Names that are looked up, those in links included.
const NAMES: usize = 512;

/// Which file: number of its file system and its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    pub device: u64,
    pub inode: u64,
}

/// A file or directory on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// As the process calls it, without links.
    pub path: String,
    pub id: FileId,
    /// With the kind of file.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// It has an access control list besides.
    pub acl: bool,
    /// When it was made, or its mode or owner was changed, by the wall clock: with the id it tells files apart.
    pub changed_ns: i128,
}

impl Part {
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }
}

/// Where it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    File(Part),
    /// The first name that is not there; `last`: all directories are.
    Missing {
        path: String,
        last: bool,
    },
    /// What should be a directory and is none.
    NoDirectory(String),
    /// We cannot see it ourselves, or it is too long.
    Unknown,
}

/// The way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The directories that names were looked up in, in order.
    pub directories: Vec<Part>,
    /// The last link that it led through, and what it says.
    pub link: Option<(String, String)>,
    pub end: End,
}

/// Goes from `root` to `path`.
pub fn walk(root: &OwnedFd, path: &str) -> Walk {
    let mut walk = Walk { directories: Vec::new(), link: None, end: End::Unknown };
    // What the kernel or the other process does not let us see is unknown.
    walk.end = go(root, path, &mut walk).unwrap_or(End::Unknown);
    walk
}

fn go(root: &OwnedFd, path: &str, walk: &mut Walk) -> Result<End, Errno> {
    let mut above: Vec<(OwnedFd, String)> = vec![(root.try_clone().map_err(|_| Errno::MFILE)?, String::new())];
    let mut names: VecDeque<Vec<u8>> = names(path.as_bytes());
    let mut links = 0;
    for _ in 0..NAMES {
        let Some((directory, here)) = above.last() else { return Ok(End::Unknown) };
        let Some(name) = names.pop_front() else {
            return Ok(End::File(part(directory, here, &fstat(directory)?)));
        };
        search(directory, here, walk)?;
        if name == b".." {
            // Of the root itself it is the root.
            above.truncate((above.len() - 1).max(1));
            continue;
        }
        let there = format!("{here}/{}", String::from_utf8_lossy(&name));
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match openat(directory, name.as_slice(), flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(End::Missing { path: there, last: names.is_empty() }),
            found => found?,
        };
        let stat = fstat(&found)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                links += 1;
                if links > LINKS || fstatfs(&found)?.f_type == PROC_SUPER_MAGIC {
                    return Ok(End::Unknown);
                }
                let target = readlinkat(&found, c"", Vec::new())?.into_bytes();
                walk.link = Some((there, String::from_utf8_lossy(&target).into_owned()));
                if target.starts_with(b"/") {
                    above.truncate(1);
                }
                for name in self::names(&target).into_iter().rev() {
                    names.push_front(name);
                }
            }
            FileType::Directory => above.push((found, there)),
            _ if names.is_empty() => return Ok(End::File(part(&found, &there, &stat))),
            _ => return Ok(End::NoDirectory(there)),
        }
    }
    Ok(End::Unknown)
}

fn names(path: &[u8]) -> VecDeque<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/');
    parts.filter(|name| !name.is_empty() && *name != b".").map(<[u8]>::to_vec).collect()
}

/// Notes a directory that a name is looked up in.
fn search(directory: &OwnedFd, path: &str, walk: &mut Walk) -> Result<(), Errno> {
    let part = part(directory, path, &fstat(directory)?);
    if !walk.directories.contains(&part) {
        walk.directories.push(part);
    }
    Ok(())
}

fn part(file: &OwnedFd, path: &str, stat: &Stat) -> Part {
    let path = if path.is_empty() { "/" } else { path };
    let id = FileId { device: stat.st_dev, inode: stat.st_ino };
    let (mode, uid, gid) = (stat.st_mode, stat.st_uid, stat.st_gid);
    let changed_ns = i128::from(stat.st_ctime) * 1_000_000_000 + i128::from(stat.st_ctime_nsec);
    Part { path: path.to_owned(), id, mode, uid, gid, acl: has_acl(file), changed_ns }
}

fn has_acl(file: &OwnedFd) -> bool {
    let mut value = [0_u8; 4];
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    matches!(getxattr(path, c"system.posix_acl_access", &mut value), Ok(_) | Err(Errno::RANGE))
}

/// A handle of a directory by its path in our own eyes.
pub(super) fn directory(path: &str) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::{
            fs::{PermissionsExt as _, symlink},
            net::UnixListener,
        },
        path::{Path, PathBuf},
    };

    use super::{End, FileType, Walk, directory, walk};

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("why502-walk-{}-{name}", std::process::id()));
            fs::create_dir_all(path.join("run/php")).expect("a directory");
            Self(path)
        }

        fn walk(&self, path: &str) -> Walk {
            walk(&directory(&self.0.to_string_lossy()).expect("it is there"), path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn missing(path: &str, last: bool) -> End {
        End::Missing { path: path.into(), last }
    }

    #[test]
    fn what_is_missing() {
        let root = Directory::new("missing");
        assert_eq!(root.walk("/run/php/a.sock").end, missing("/run/php/a.sock", true));
        assert_eq!(root.walk("/run/uwsgi/x/a.sock").end, missing("/run/uwsgi", false));
        fs::write(root.0.join("run/file"), "").expect("written");
        assert_eq!(root.walk("/run/file/a.sock").end, End::NoDirectory("/run/file".into()));
        let directories = root.walk("/run/php/a.sock").directories;
        let paths: Vec<_> = directories.iter().map(|part| part.path.as_str()).collect();
        assert_eq!(paths, ["/", "/run", "/run/php"]);
    }

    #[test]
    fn links_stay_below_the_root() {
        let root = Directory::new("links");
        symlink("/run", root.0.join("var")).expect("a link");
        symlink("../../../../../run/php/gone.sock", root.0.join("run/dangling")).expect("a link");
        symlink("/etc/passwd", root.0.join("run/out")).expect("a link");
        symlink("loop", root.0.join("run/loop")).expect("a link");
        let listener = UnixListener::bind(root.0.join("run/php/a.sock")).expect("bound");
        let End::File(part) = root.walk("/var/./php/../php//a.sock").end else { panic!("it is there") };
        assert_eq!((part.path.as_str(), part.kind()), ("/run/php/a.sock", FileType::Socket));
        let dangling = root.walk("/run/dangling");
        assert_eq!(dangling.end, missing("/run/php/gone.sock", true));
        assert_eq!(dangling.link, Some(("/run/dangling".into(), "../../../../../run/php/gone.sock".into())));
        assert_eq!(root.walk("/run/out").end, missing("/etc", false), "that of the host is another");
        assert_eq!(root.walk("/run/loop").end, End::Unknown);
        drop(listener);
    }

    #[test]
    fn modes_are_those_of_the_files() {
        let root = Directory::new("modes");
        fs::set_permissions(root.0.join("run/php"), fs::Permissions::from_mode(0o710)).expect("ours");
        let walked = root.walk("/run/php/a.sock");
        let part = walked.directories.last().expect("a directory");
        assert_eq!((part.mode & 0o7777, part.acl), (0o710, false));
        assert!(matches!(root.walk("/").end, End::File(part) if part.path == "/"));
        assert!(Path::new("/proc/self/exe").exists());
        let host = walk(&directory("/").expect("there is one"), "/proc/self/exe");
        assert_eq!(host.end, End::Unknown, "what such a link says is no path");
    }
}
