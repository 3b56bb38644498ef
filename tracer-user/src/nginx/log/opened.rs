//! Where a worker logs to, as its descriptors tell: nginx opens its logs for appending only (NGX_FILE_APPEND), and makes
//! the first error log its standard error (`ngx_log_redirect_stderr()`, src/core/ngx_log.c).

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::PathBuf,
};

use super::tail::FileId;

/// `O_ACCMODE`, `O_WRONLY` and `O_APPEND`, the same on every architecture that eBPF is traced on here.
const ACCESS_MODE: u32 = 0o3;
const WRITE_ONLY: u32 = 0o1;
const APPEND: u32 = 0o2000;
const STANDARD_OUTPUT: u32 = 1;
const STANDARD_ERROR: u32 = 2;

/// A regular file that is open for appending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    pub descriptor: u32,
    pub id: FileId,
    /// As the worker's mount namespace names it; for people.
    pub path: PathBuf,
    /// It is the worker's standard error too, hence its first error log.
    pub standard_error: bool,
}

/// Where lines go that cannot be read along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Elsewhere {
    Pipe,
    Terminal,
    Socket,
    Syslog,
}

impl Elsewhere {
    /// For people, after "logs to".
    pub const fn text(self) -> &'static str {
        match self {
            Self::Pipe => "a pipe (stderr)",
            Self::Terminal => "a terminal (stderr)",
            Self::Socket => "a socket (stderr)",
            Self::Syslog => "syslog",
        }
    }
}

/// What a process has open that may be a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    pub files: Vec<OpenFile>,
    pub elsewhere: Vec<Elsewhere>,
}

/// Looks at the descriptors of a process.
pub fn opened(pid: u32) -> io::Result<Opened> {
    let mut found = Opened::default();
    let mut sockets = HashSet::new();
    let standard_error = leads_to(pid, STANDARD_ERROR);
    // An access log may be sent to /dev/stdout.
    let standard_output = leads_to(pid, STANDARD_OUTPUT).filter(|id| standard_error != Some(*id));
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let Some(descriptor) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let path = link(pid, descriptor);
        let Ok(target) = fs::read_link(&path) else { continue };
        let name = target.to_string_lossy();
        if let Some(inode) = name.strip_prefix("socket:[") {
            sockets.extend(inode.trim_end_matches(']').parse::<u64>());
            if descriptor == STANDARD_ERROR {
                found.elsewhere.push(Elsewhere::Socket);
            }
            continue;
        }
        if name.starts_with("anon_inode:") {
            continue;
        }
        let Ok(metadata) = fs::metadata(&path) else { continue };
        let kind = metadata.file_type();
        let id = (metadata.dev(), metadata.ino());
        if standard_output == Some(id) && !kind.is_file() {
            continue;
        }
        let appends =
            || flags(pid, descriptor).is_some_and(|flags| flags & (ACCESS_MODE | APPEND) == WRITE_ONLY | APPEND);
        if kind.is_file() && descriptor != STANDARD_ERROR && appends() {
            let standard_error = standard_error == Some(id);
            found.files.push(OpenFile { descriptor, id, path: target, standard_error });
        } else if kind.is_fifo() && (descriptor == STANDARD_ERROR || appends()) {
            found.elsewhere.push(Elsewhere::Pipe);
        } else if kind.is_char_device() && !name.starts_with("/dev/null") && (descriptor == STANDARD_ERROR || appends())
        {
            found.elsewhere.push(Elsewhere::Terminal);
        } else if kind.is_file() && descriptor == STANDARD_ERROR && !found.files.iter().any(|file| file.id == id) {
            // `error_log stderr` with standard error sent to a file.
            found.files.push(OpenFile { descriptor, id, path: target, standard_error: true });
        }
    }
    if logs_to_syslog(pid, &sockets) {
        found.elsewhere.push(Elsewhere::Syslog);
    }
    found.files.sort_by_key(|file| (file.id, file.descriptor));
    found.files.dedup_by_key(|file| file.id);
    found.elsewhere.sort_unstable();
    found.elsewhere.dedup();
    Ok(found)
}

/// The file that a descriptor of a process leads to now.
pub fn leads_to(pid: u32, descriptor: u32) -> Option<FileId> {
    fs::metadata(link(pid, descriptor)).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// The link of a descriptor: opening it opens the file anew, whatever its name and namespace.
pub fn link(pid: u32, descriptor: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/fd/{descriptor}"))
}

/// The process's number in its own pid namespace: what it writes into its lines.
pub fn own_pid(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers.split_ascii_whitespace().last()?.parse().ok()
}

fn flags(pid: u32, descriptor: u32) -> Option<u32> {
    let information = fs::read_to_string(format!("/proc/{pid}/fdinfo/{descriptor}")).ok()?;
    let flags = information.lines().find_map(|line| line.strip_prefix("flags:"))?;
    u32::from_str_radix(flags.trim(), 8).ok()
}

/// nginx connects a datagram socket to its syslog server (`ngx_syslog_init_peer()`, src/core/ngx_syslog.c), at the first
/// line: before that nothing shows.
fn logs_to_syslog(pid: u32, sockets: &HashSet<u64>) -> bool {
    const DATAGRAM: &str = "0002";
    const SYSLOG_PORT: &str = ":0202";
    let has = |file: &str, wanted: fn(&[&str]) -> Option<u64>| {
        let Ok(table) = fs::read_to_string(format!("/proc/{pid}/net/{file}")) else { return false };
        table.lines().skip(1).any(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            wanted(&fields).is_some_and(|inode| sockets.contains(&inode))
        })
    };
    let unix = |fields: &[&str]| if fields.get(4) == Some(&DATAGRAM) { fields.get(6)?.parse().ok() } else { None };
    let udp = |fields: &[&str]| if fields.get(2)?.ends_with(SYSLOG_PORT) { fields.get(9)?.parse().ok() } else { None };
    !sockets.is_empty() && (has("unix", unix) || has("udp", udp) || has("udp6", udp))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File, OpenOptions},
        os::{
            fd::AsRawFd as _,
            unix::{fs::MetadataExt as _, net::UnixDatagram},
        },
    };

    use super::{Elsewhere, flags, leads_to, opened, own_pid};

    #[test]
    fn what_we_append_to_ourselves() {
        let path = std::env::temp_dir().join(format!("why502-opened-{}", std::process::id()));
        let file = OpenOptions::new().append(true).create(true).open(&path).expect("writable");
        let read = File::open(&path).expect("readable");
        let found = opened(std::process::id()).expect("our own");
        let metadata = file.metadata().expect("open");
        let id = (metadata.dev(), metadata.ino());
        let ours: Vec<_> = found.files.iter().filter(|file| file.id == id).collect();
        assert_eq!(ours.len(), 1);
        let descriptor = u32::try_from(file.as_raw_fd()).expect("positive");
        assert_eq!((ours[0].descriptor, ours[0].path.as_path()), (descriptor, path.as_path()));
        assert_eq!(leads_to(std::process::id(), descriptor), Some(id));
        assert_eq!(
            flags(std::process::id(), u32::try_from(read.as_raw_fd()).expect("positive")).map(|flags| flags & 3),
            Some(0)
        );
        fs::remove_file(&path).expect("there");
    }

    #[test]
    fn a_datagram_socket_is_syslog() {
        let (_one, _other) = UnixDatagram::pair().expect("a pair");
        assert!(opened(std::process::id()).expect("our own").elsewhere.contains(&Elsewhere::Syslog));
    }

    #[test]
    fn nobody_has_nothing() {
        assert!(opened(u32::MAX).is_err());
        assert_eq!((leads_to(u32::MAX, 2), own_pid(u32::MAX)), (None, None));
        assert!(own_pid(std::process::id()).is_some());
    }
}
