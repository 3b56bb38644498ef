//! One log file on disk: opening it safely, appending whole lines.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

const FILE_MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o750;
/// How each of our files begins.
pub(super) const FIRST_BYTES: &[u8] = b"{\"type\":\"session\"";

/// Why a capture file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot create the directory {path}: {error}")]
    Directory { path: PathBuf, error: io::Error },
    #[error("cannot open {path} for writing: {error}{}", remedy(error))]
    Open { path: PathBuf, error: io::Error },
    #[error("{path} exists and is not a capture of why502: not touching it; give --log another name")]
    Foreign { path: PathBuf },
    #[error("{path} is being written by another why502; stop that one or give --log another name")]
    Busy { path: PathBuf },
}

/// What to do, where that is plain.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "; make its directory first, or give --log another name",
        io::ErrorKind::IsADirectory => "; give --log the name of a file in it",
        _ => "",
    }
}

/// A file that was written to in part, or not at all.
#[derive(Debug)]
pub(super) struct WriteFailed {
    pub(super) error: io::Error,
    pub(super) lines_lost: u64,
}

#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    size: u64,
    regular: bool,
}

impl LogFile {
    /// Opens an existing file to go on in it, or creates one.
    pub(super) fn open(path: &Path, default_path: bool) -> Result<Self, OpenError> {
        let open_error = |error| OpenError::Open { path: path.to_owned(), error };
        if let Some(directory) = path.parent().filter(|_| default_path) {
            DirBuilder::new()
                .recursive(true)
                .mode(DIRECTORY_MODE)
                .create(directory)
                .map_err(|error| OpenError::Directory { path: directory.to_owned(), error })?;
        }
        let existed = path.symlink_metadata().is_ok();
        let (mut file, regular) = open_any(path).map_err(open_error)?;
        if regular {
            lock(&file, path)?;
            check_contents(&mut file, path)?;
            if !existed {
                set_owner(&file, default_path).map_err(open_error)?;
            }
        }
        let size = file.metadata().map_err(open_error)?.len();
        Ok(Self { file, size, regular })
    }

    /// Begins the next file of a capture; whatever appeared there meanwhile is gone on in.
    pub(super) fn create(path: &Path, default_path: bool) -> io::Result<Self> {
        Self::open(path, default_path).map_err(|error| match error {
            OpenError::Directory { path: _, error } | OpenError::Open { path: _, error } => error,
            other @ (OpenError::Foreign { .. } | OpenError::Busy { .. }) => io::Error::other(other),
        })
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Devices and pipes are not rotated.
    pub(super) fn is_regular(&self) -> bool {
        self.regular
    }

    /// The path still leads to this file.
    pub(super) fn is_still_at(&self, path: &Path) -> bool {
        let (Ok(ours), Ok(there)) = (self.file.metadata(), path.metadata()) else { return false };
        (ours.dev(), ours.ino()) == (there.dev(), there.ino())
    }

    /// No name leads to it any more.
    pub(super) fn is_removed(&self) -> bool {
        self.regular && self.file.metadata().is_ok_and(|file| file.nlink() == 0)
    }

    /// Nothing is in it, or not any more: then its size is known anew.
    pub(super) fn is_empty(&mut self) -> bool {
        let empty = self.regular && self.file.metadata().is_ok_and(|file| file.len() == 0);
        if empty {
            self.size = 0;
        }
        empty
    }

    /// Appends lines, in one write(2) unless the system takes less. After an error only whole lines stay in the file.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), WriteFailed> {
        let mut done = 0;
        while done < lines.len() {
            match self.file.write(&lines[done..]) {
                Ok(0) => return Err(self.cut_back(lines, done, io::ErrorKind::WriteZero.into())),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.cut_back(lines, done, error)),
            }
        }
        self.size += lines.len() as u64;
        Ok(())
    }

    fn cut_back(&mut self, lines: &[u8], done: usize, error: io::Error) -> WriteFailed {
        let whole = lines[..done].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        if self.regular && whole < done {
            // If even that fails, readers meet one torn line, which they must bear anyway.
            let _ = self.file.metadata().and_then(|meta| self.file.set_len(meta.len() - (done - whole) as u64));
        }
        self.size += whole as u64;
        WriteFailed { error, lines_lost: super::count_lines(&lines[whole..]) }
    }
}

/// Regular files are read too, to see whose they are; pipes and devices are only written.
fn open_any(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.append(true).mode(FILE_MODE);
    let kind = path.metadata().map(|meta| meta.file_type());
    if let Ok(kind) = kind
        && (kind.is_fifo() || kind.is_char_device() || kind.is_socket())
    {
        // A pipe that nobody reads, or not fast enough, must not keep the tracing waiting.
        let flags = if kind.is_fifo() { OFlags::NONBLOCK.bits().cast_signed() } else { 0 };
        let opened = options.custom_flags(flags).open(path);
        let nobody = |error: &io::Error| error.raw_os_error() == Some(Errno::NXIO.raw_os_error());
        return match opened {
            Err(error) if kind.is_fifo() && nobody(&error) => {
                Err(io::Error::other("nobody reads that pipe: start its reader first"))
            }
            opened => Ok((opened?, false)),
        };
    }
    let file = options.read(true).create(true).open(path)?;
    let regular = file.metadata()?.is_file();
    Ok((file, regular))
}

fn lock(file: &File, path: &Path) -> Result<(), OpenError> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(OpenError::Busy { path: path.to_owned() }),
        // Some network file systems have no locks: then nobody is warned.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// An earlier capture is gone on in, after closing a line that was torn by a crash. Anything else is left alone.
fn check_contents(file: &mut File, path: &Path) -> Result<(), OpenError> {
    let open_error = |error| OpenError::Open { path: path.to_owned(), error };
    let length = file.metadata().map_err(open_error)?.len();
    if length == 0 {
        return Ok(());
    }
    let mut first = Vec::new();
    file.seek(SeekFrom::Start(0)).map_err(open_error)?;
    Read::take(&*file, FIRST_BYTES.len() as u64).read_to_end(&mut first).map_err(open_error)?;
    if first != FIRST_BYTES {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1)).map_err(open_error)?;
    file.read_exact(&mut last).map_err(open_error)?;
    if last != *b"\n" { file.write_all(b"\n").map_err(open_error) } else { Ok(()) }
}

/// The mode whatever the umask; the group that reads logs, for our own path.
fn set_owner(file: &File, default_path: bool) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    if default_path && let Some(group) = group_id("adm") {
        // Without the right to give it away it stays ours.
        let _ = fchown(file, None, Some(group));
    }
    Ok(())
}

fn group_id(name: &str) -> Option<u32> {
    let groups = std::fs::read_to_string("/etc/group").ok()?;
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::group_id;

    #[test]
    fn groups_are_looked_up() {
        assert_eq!(group_id("root"), Some(0));
        assert_eq!(group_id("no such group"), None);
    }
}
