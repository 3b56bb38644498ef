//! /proc/PID/stat: what the kernel says of a process in one line.

use std::fs;

/// Of one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    pub comm: String,
    /// `R`, `S`, `T`, `Z`, …: proc_pid_stat(5).
    pub state: char,
    pub parent: u32,
    /// When it began, in ticks since boot: with the pid it tells processes apart.
    pub started: u64,
}

impl Stat {
    /// None: no such process.
    pub fn read(pid: u32) -> Option<Self> {
        parse(&String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/stat")).ok()?))
    }

    /// Has it not ended? One that has, and was not waited for, is still listed.
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, 'Z' | 'X')
    }
}

/// `412 (php-fpm8.3) S 1 …`: a name may have blanks and brackets in it.
pub fn parse(line: &str) -> Option<Stat> {
    let (before, after) = line.rsplit_once(')')?;
    let comm = before.split_once('(')?.1.to_owned();
    let mut fields = after.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let started = fields.nth(17)?.parse().ok()?;
    Some(Stat { comm, state, parent, started })
}

/// All processes of this host, as their numbers.
pub fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::{Stat, parse, pids};

    #[test]
    fn lines_of_stat() {
        let line = "77 (a) b (c) S 5 77 77 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 9876 1 2";
        let stat = parse(line).expect("whole");
        assert_eq!(stat, Stat { comm: "a) b (c".into(), state: 'S', parent: 5, started: 9876 });
        assert!(stat.is_alive() && !Stat { state: 'Z', ..stat }.is_alive());
        for broken in ["", "77", "77 (a)", "77 (a) S", "77 (a) S x", "77 (a) S 5 6"] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn we_are_among_them() {
        let own = std::process::id();
        assert!(pids().contains(&own));
        assert!(Stat::read(own).expect("we exist").is_alive());
        assert_eq!(Stat::read(u32::MAX), None);
    }
}
