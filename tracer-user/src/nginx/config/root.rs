//! Files as a process sees them: names are resolved below its root, in its mount namespace, and never outside.
//!
//! What is there may be made by somebody who controls a container and nothing else: only regular files are opened for
//! reading (opening a device acts on it, opening a pipe waits), links cannot lead out (openat2(2), `RESOLVE_IN_ROOT`),
//! and sizes and numbers are bounded. A file system that never answers is bounded by the caller's patience.

use std::{
    fs::File,
    io::Read as _,
    os::fd::{AsRawFd as _, OwnedFd},
};

use glob::{MatchOptions, Pattern};
use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, open, openat2, statat},
    io::Errno,
};

use super::tree::{Files, Listing, Text};

/// Bytes of one file; generated ones have megabytes.
const FILE: u64 = 16 * 1024 * 1024;
/// Bytes of all files of one configuration.
const TOTAL: u64 = 64 * 1024 * 1024;
/// Names that are looked at for patterns.
const NAMES: usize = 100_000;

/// The root directory of a process.
#[derive(Debug)]
pub(super) struct Root {
    directory: OwnedFd,
    bytes_left: u64,
    names_left: usize,
}

impl Root {
    /// That of process `pid`.
    pub(super) fn of(pid: u32) -> Result<Self, String> {
        Self::at(&format!("/proc/{pid}/root"))
    }

    fn at(path: &str) -> Result<Self, String> {
        let directory = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let directory = directory.map_err(|errno| reason(errno, "its root directory"))?;
        Ok(Self { directory, bytes_left: TOTAL, names_left: NAMES })
    }

    /// A handle of what a name leads to; nothing is opened yet.
    fn find(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // EAGAIN: something was renamed meanwhile, and the kernel cannot tell whether it stayed inside.
        let find = || openat2(&self.directory, path, flags, Mode::empty(), resolve);
        (0..8).map(|_| find()).find(|found| !matches!(found, Err(Errno::AGAIN))).unwrap_or(Err(Errno::AGAIN))
    }

    /// A link in the place of a file may have been put there later than the file was written.
    fn named_ns(&self, path: &str) -> i128 {
        self.find(path, OFlags::NOFOLLOW).and_then(fstat).map_or(0, |stat| changed_ns(&stat))
    }

    /// Names in `directory` that match a part of a pattern, sorted by bytes; and when one came or went last.
    fn matching(&mut self, directory: &str, part: &str) -> Result<(Vec<String>, i128), String> {
        let pattern = Pattern::new(part).map_err(|error| format!("a pattern that is not understood: {}", error.msg))?;
        let directory = if directory.is_empty() { "." } else { directory };
        let found = match self.find(directory, OFlags::DIRECTORY) {
            Ok(found) => found,
            // glob(3) passes over what is not there.
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok((Vec::new(), 0)),
            Err(errno) => return Err(reason(errno, directory)),
        };
        let stat = fstat(&found).map_err(|errno| reason(errno, directory))?;
        let opened = open(again(&found), OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .and_then(Dir::new)
            .map_err(|errno| reason(errno, directory))?;
        // As fnmatch(3) with FNM_PERIOD: a leading period is written out.
        let options = MatchOptions { require_literal_leading_dot: true, ..MatchOptions::default() };
        let mut names = Vec::new();
        for entry in opened {
            self.names_left =
                self.names_left.checked_sub(1).ok_or_else(|| format!("directories with more than {NAMES} names"))?;
            let entry = entry.map_err(|errno| reason(errno, directory))?;
            // A name that is no UTF-8 cannot be told apart from another once it is shown.
            let Ok(name) = entry.file_name().to_str() else { continue };
            if name != "." && name != ".." && pattern.matches_with(name, options) {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok((names, changed_ns(&stat)))
    }
}

impl Files for Root {
    fn read(&mut self, path: &str) -> Result<Text, String> {
        let found = self.find(path, OFlags::empty()).map_err(said)?;
        let stat = fstat(&found).map_err(said)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err("not a regular file".to_owned());
        }
        let limit = FILE.min(self.bytes_left);
        let opened = open(again(&found), OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty());
        let mut bytes = Vec::new();
        let read = File::from(opened.map_err(said)?).take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| error.kind().to_string())?;
        let length = bytes.len() as u64;
        if length > limit {
            return Err("larger than what is read of a configuration".to_owned());
        }
        self.bytes_left -= length;
        // Once more: a change while it was read must not go unnoticed.
        let stat = fstat(&found).map_err(said)?;
        Ok(Text { bytes, changed_ns: changed_ns(&stat).max(self.named_ns(path)) })
    }

    fn list(&mut self, pattern: &str) -> Result<Listing, String> {
        if pattern.contains('\\') {
            return Err("a pattern with a backslash is not understood".to_owned());
        }
        let mut listing = Listing::default();
        let mut found = vec![if pattern.starts_with('/') { "/".to_owned() } else { String::new() }];
        let parts: Vec<&str> = pattern.split('/').filter(|part| !part.is_empty()).collect();
        for (index, part) in parts.iter().enumerate() {
            let last = index + 1 == parts.len();
            let slash = if last { "" } else { "/" };
            let mut next = Vec::new();
            for directory in found {
                if !part.contains(['*', '?', '[']) {
                    let name = format!("{directory}{part}{slash}");
                    if !last || self.find(&name, OFlags::empty()).is_ok() {
                        next.push(name);
                    }
                    continue;
                }
                let (names, changed_ns) = self.matching(&directory, part)?;
                listing.changed_ns = listing.changed_ns.max(changed_ns);
                next.extend(names.into_iter().map(|name| format!("{directory}{name}{slash}")));
            }
            found = next;
        }
        found.sort_unstable();
        listing.names = found;
        Ok(listing)
    }
}

/// When the inode, or its name, was last changed: what was moved into its place has an old mtime and a new ctime.
fn changed_ns(stat: &Stat) -> i128 {
    let nanoseconds = |seconds: i64, rest: u64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    #[expect(clippy::useless_conversion, reason = "their types differ between architectures")]
    {
        nanoseconds(stat.st_mtime.into(), stat.st_mtime_nsec.into())
            .max(nanoseconds(stat.st_ctime.into(), stat.st_ctime_nsec.into()))
    }
}

/// The file of a handle, for opening what was looked at and nothing else.
fn again(handle: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", handle.as_raw_fd())
}

fn reason(errno: Errno, what: &str) -> String {
    format!("{what}: {}", said(errno))
}

fn said(errno: Errno) -> String {
    std::io::Error::from(errno).kind().to_string()
}

/// Bytes of a file of this host, bounded; None: not readable, or larger.
pub(super) fn binary(path: &str, limit: u64) -> Option<Vec<u8>> {
    let stat = statat(CWD, path, AtFlags::empty()).ok()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return None;
    }
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(limit + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= limit).then_some(bytes)
}

#[cfg(test)]
mod tests;
