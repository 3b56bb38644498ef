//! Limits of a process, as /proc shows them at the moment of asking.

use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};

/// How long an answer is good for: a flood of failures asks once.
const FRESH: Duration = Duration::from_secs(1);
/// Answers kept.
const CAPACITY: usize = 1024;

/// Descriptors of a process, or files of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    pub open: u64,
    /// The soft RLIMIT_NOFILE, or fs.file-max.
    pub limit: u64,
}

/// Open files of the whole host, of how many (fs.file-max); None: it cannot be read.
pub fn host_files() -> Option<Descriptors> {
    files(&fs::read_to_string("/proc/sys/fs/file-nr").ok()?)
}

/// `1632\t0\t9223372036854775807`: allocated, unused (always 0), maximum.
fn files(text: &str) -> Option<Descriptors> {
    let mut numbers = text.split_ascii_whitespace().map_while(|number| number.parse().ok());
    Some(Descriptors { open: numbers.next()?, limit: numbers.nth(1)? })
}

/// Limits by process, asked for once a second at most.
#[derive(Debug, Default)]
pub struct Limits {
    known: HashMap<u32, (Instant, Option<Descriptors>)>,
}

impl Limits {
    /// As [`descriptors`].
    pub fn descriptors(&mut self, pid: u32) -> Option<Descriptors> {
        if self.known.len() >= CAPACITY {
            self.known.clear();
        }
        let known = self.known.entry(pid).or_insert_with(|| (Instant::now(), descriptors(pid)));
        if known.0.elapsed() > FRESH {
            *known = (Instant::now(), descriptors(pid));
        }
        known.1
    }
}

/// How many descriptors a process has open, of how many; None: it cannot be read, or has no limit.
pub fn descriptors(pid: u32) -> Option<Descriptors> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let limit = line.split_ascii_whitespace().next()?.parse().ok()?;
    // Since 6.2 the size of the directory is their number; before, they are counted.
    let directory = format!("/proc/{pid}/fd");
    let open = match fs::metadata(&directory).ok()?.len() {
        0 => fs::read_dir(&directory).ok()?.count() as u64,
        open => open,
    };
    Some(Descriptors { open, limit })
}

#[cfg(test)]
mod tests {
    use super::{Descriptors, descriptors, files, host_files};

    #[test]
    fn our_own() {
        let own = descriptors(std::process::id()).expect("we exist");
        assert!(own.open >= 3 && own.open <= own.limit, "{own:?}");
        assert_eq!(descriptors(u32::MAX), None);
    }

    #[test]
    fn files_of_the_host() {
        assert_eq!(files("1632\t0\t9000\n"), Some(Descriptors { open: 1632, limit: 9000 }));
        assert_eq!(files("1632\t0"), None);
        assert!(host_files().is_some_and(|files| files.open > 0));
    }
}
