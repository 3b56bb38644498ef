//! Rotated files: FILE.1 is the youngest; older ones count up and are compressed to FILE.N.zst by a thread.
//!
//! Renaming happens on the caller's side, under a lock that the compressing thread takes only to rename, so neither
//! waits for the other's work.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::kernel::heap;

/// Fast, and nearly as small as the higher levels on JSON.
const LEVEL: i32 = 3;

/// The rotated files of one capture.
#[derive(Debug)]
pub(super) struct Archive {
    names: Arc<Names>,
    compress: bool,
    next_job: u64,
    thread: Option<(Sender<u64>, JoinHandle<()>)>,
}

#[derive(Debug)]
struct Names {
    path: PathBuf,
    keep: u32,
    /// Files waiting for compression, and the number they have by now.
    waiting: Mutex<Vec<Waiting>>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    job: u64,
    number: u32,
}

impl Archive {
    /// Takes over what an earlier run left uncompressed, and clears away what it left unfinished.
    pub(super) fn open(path: &Path, keep: u32, compress: bool) -> Self {
        let names = Arc::new(Names { path: path.to_owned(), keep, waiting: Mutex::default() });
        let mut archive = Self { names, compress, next_job: 0, thread: None };
        let _ = fs::remove_file(archive.names.unfinished());
        let _ = fs::remove_file(archive.next());
        for number in (1..=keep).rev() {
            let plain = archive.names.plain(number);
            if archive.names.compressed(number).exists() {
                let _ = fs::remove_file(&plain);
            } else if plain.is_file() {
                archive.enqueue(number);
            }
        }
        archive
    }

    /// Where the next FILE is made before it takes its place.
    pub(super) fn next(&self) -> PathBuf {
        self.names.with_suffix(".next")
    }

    /// Moves every file on by one, FILE to FILE.1; the oldest is removed.
    pub(super) fn make_room(&mut self) -> io::Result<()> {
        let names = &self.names;
        let mut waiting = names.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if names.keep == 0 {
            return fs::remove_file(&names.path);
        }
        remove_if_there(&names.plain(names.keep))?;
        remove_if_there(&names.compressed(names.keep))?;
        for number in (1..names.keep).rev() {
            rename_if_there(&names.plain(number), &names.plain(number + 1))?;
            rename_if_there(&names.compressed(number), &names.compressed(number + 1))?;
        }
        waiting.retain_mut(|file| {
            file.number += 1;
            file.number <= names.keep
        });
        fs::rename(&names.path, names.plain(1))
    }

    /// Gives FILE its name back, if it was taken away and no new one is there.
    pub(super) fn undo(&mut self) {
        if self.names.keep > 0 && !self.names.path.exists() {
            let _ = fs::rename(self.names.plain(1), &self.names.path);
        }
    }

    /// FILE.1 is complete: compress it.
    pub(super) fn compress(&mut self) {
        if self.names.keep > 0 {
            self.enqueue(1);
        }
    }

    fn enqueue(&mut self, number: u32) {
        if !self.compress {
            return;
        }
        let job = self.next_job;
        self.next_job += 1;
        self.names.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(Waiting { job, number });
        if self.thread.is_none() {
            let (sender, receiver) = mpsc::channel();
            let names = Arc::clone(&self.names);
            let run = move || compress_all(&names, &receiver);
            // Without a thread files simply stay as they are.
            self.thread =
                std::thread::Builder::new().name("compress".to_owned()).spawn(run).ok().map(|thread| (sender, thread));
        }
        if let Some((sender, _)) = &self.thread {
            // Its end means that the thread panicked: files stay as they are.
            let _ = sender.send(job);
        }
    }
}

impl Drop for Archive {
    /// Waits for files that are being compressed.
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}

impl Names {
    fn with_suffix(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    }

    fn plain(&self, number: u32) -> PathBuf {
        self.with_suffix(&format!(".{number}"))
    }

    fn compressed(&self, number: u32) -> PathBuf {
        self.with_suffix(&format!(".{number}.zst"))
    }

    fn unfinished(&self) -> PathBuf {
        self.with_suffix(".compressing")
    }
}

fn compress_all(names: &Names, jobs: &Receiver<u64>) {
    for job in jobs {
        let result = compress_one(names, job);
        names.waiting.lock().unwrap_or_else(PoisonError::into_inner).retain(|file| file.job != job);
        if result.is_err() {
            // The plain file stays, and is as good; the next start tries again.
            let _ = fs::remove_file(names.unfinished());
        }
    }
}

fn compress_one(names: &Names, job: u64) -> io::Result<()> {
    // Renamed while it is read: the open file does not mind.
    let current = |waiting: &[Waiting]| waiting.iter().find(|file| file.job == job).map(|file| file.number);
    let source = {
        let waiting = names.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(number) = current(&waiting) else { return Ok(()) };
        File::open(names.plain(number))?
    };
    let target = write_compressed(&source, &names.unfinished())?;
    target.sync_data()?;
    let waiting = names.waiting.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(number) = current(&waiting) else { return fs::remove_file(names.unfinished()) };
    fs::rename(names.unfinished(), names.compressed(number))?;
    fs::remove_file(names.plain(number))
}

fn write_compressed(source: &File, path: &Path) -> io::Result<File> {
    let meta = source.metadata()?;
    let target = OpenOptions::new().write(true).create(true).truncate(true).mode(meta.mode() & 0o777).open(path)?;
    // Readable by whoever could read it before, where we may give that.
    let _ = fchown(&target, None, Some(meta.gid()));
    let copied = zstd::stream::copy_encode(source, &target, LEVEL);
    heap::give_back();
    copied?;
    Ok(target)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    ignore_absence(fs::remove_file(path))
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    ignore_absence(fs::rename(from, to))
}

fn ignore_absence(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
