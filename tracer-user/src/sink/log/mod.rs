//! The capture file: JSON Lines with rotation. Whole lines only; every file begins with the session and, when it was
//! rotated away, ends by naming where it goes on.

mod archive;
mod file;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use archive::Archive;
pub use file::OpenError;
use file::{FIRST_BYTES, LogFile};

use super::{Sink, Talk, Totals};
use crate::record::{Change, EndReason, LossReason, Lost, Record, Session, Timestamp, WorkerChange};

/// Buffered lines are written out at this size even within a batch.
const BATCH: usize = 64 * 1024;
/// The same trouble is not said again before.
const PAUSE: Duration = Duration::from_secs(60);
/// Room kept for the `end` line, so that files stay within their size.
const END_RESERVE: u64 = 4096;

/// Where and how to capture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureOptions {
    pub path: PathBuf,
    /// A file is rotated before it outgrows this.
    pub max_size: u64,
    /// How many rotated files are kept beside the current one.
    pub keep: u32,
    pub compress: bool,
    /// It is our own default path: create its directory, and let group `adm` read.
    pub default_path: bool,
}

/// A sink that writes the capture file. Trouble while writing is said once, counted, and recorded when there is room
/// again; it never stops the tracing.
pub struct CaptureFile {
    options: CaptureOptions,
    file: LogFile,
    archive: Archive,
    session: Option<Session>,
    totals: Totals,
    buffer: Vec<u8>,
    /// Records lost since the last successful write.
    unwritten: u64,
    /// The file was removed, and cannot be made anew: nobody could read what is written to it.
    adrift: bool,
    /// When trouble was said last: on a disk that is full now and then it would be said all the time.
    complained: Option<Instant>,
    /// And that it is over is to be said.
    said: bool,
    ended: bool,
    /// The current file holds something worth rotating away.
    worth_keeping: bool,
    /// Rotation failed: not tried again before the file has this size.
    rotate_above: u64,
    talk: Talk,
}

impl std::fmt::Debug for CaptureFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("CaptureFile").field("options", &self.options).finish_non_exhaustive()
    }
}

impl CaptureFile {
    /// Opens or creates the file, and makes sure that it is ours to write.
    pub fn open(mut options: CaptureOptions, talk: Talk) -> Result<Self, OpenError> {
        // Files beside a link, or beside /dev/stdout, are no archive.
        if let Ok(target) = options.path.canonicalize() {
            options.path = target;
        }
        let file = LogFile::open(&options.path, options.default_path)?;
        let archive = Archive::open(&options.path, options.keep, options.compress);
        let rotate_above = options.max_size;
        Ok(Self {
            options,
            file,
            archive,
            session: None,
            totals: Totals::default(),
            buffer: Vec::new(),
            unwritten: 0,
            adrift: false,
            complained: None,
            said: false,
            ended: false,
            worth_keeping: false,
            rotate_above,
            talk,
        })
    }

    fn write_out(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if self.adrift || !self.begins_with_session()? || (self.unwritten > 0 && !self.write_loss()?) {
            self.unwritten += count_lines(&self.buffer);
        } else if let Err(failed) = self.file.append(&self.buffer) {
            if failed.error.kind() == io::ErrorKind::BrokenPipe {
                return Err(failed.error);
            }
            let message = format!(
                "cannot write {}: {}\n  records are lost until it can be written again; tracing goes on",
                self.path(),
                failed.error
            );
            self.complain(&message);
            self.unwritten = failed.lines_lost;
        }
        self.buffer.clear();
        Ok(())
    }

    /// The file may have been emptied, or had no room for its first line: that comes before all others. False while even that cannot
    /// be written.
    fn begins_with_session(&mut self) -> io::Result<bool> {
        let Some(session) = &self.session else { return Ok(true) };
        if self.buffer.starts_with(FIRST_BYTES) || !self.file.is_empty() {
            return Ok(true);
        }
        let mut line = Vec::new();
        Record::Session(session.clone()).write_line(&mut line)?;
        Ok(self.file.append(&line).is_ok())
    }

    /// Says in the file what is missing from it; false while even that cannot be written.
    fn write_loss(&mut self) -> io::Result<bool> {
        let (time, count) = (Timestamp::now(), Some(self.unwritten));
        let mut line = Vec::new();
        let lost = Lost { time, program: "log".into(), reason: LossReason::WriteFailed, count, counted: None };
        Record::Lost(lost).write_line(&mut line)?;
        if self.file.append(&line).is_err() {
            return Ok(false);
        }
        let message = format!("{}: writing again; {} records were lost", self.path(), self.unwritten);
        if std::mem::take(&mut self.said) {
            (self.talk)(&message);
        }
        self.unwritten = 0;
        Ok(true)
    }

    fn complain(&mut self, message: &str) {
        if self.complained.is_none_or(|complained| complained.elapsed() >= PAUSE) {
            self.complained = Some(Instant::now());
            self.said = true;
            (self.talk)(message);
        }
    }

    fn path(&self) -> std::path::Display<'_> {
        self.options.path.display()
    }

    /// What the next file's first line needs to know.
    fn remember(&mut self, record: &Record) {
        match record {
            Record::Session(session) => self.session = Some(session.clone()),
            Record::Worker(WorkerChange { time: _, change, process }) => {
                if let Some(session) = &mut self.session {
                    session.processes.retain(|known| known.pid != process.pid);
                    if *change == Change::Appeared {
                        session.processes.push(process.clone());
                    }
                }
            }
            _ => {}
        }
        self.totals.count(record);
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.write_out()?;
        if !self.file.is_still_at(&self.options.path) {
            // Somebody else moved it away, or removed it: the archive is as it should be.
            self.rotate_above = self.options.max_size;
            return self.reopen();
        }
        match self.change_places() {
            Ok(next) => self.continue_in(next)?,
            Err(error) => {
                let message = format!(
                    "cannot rotate {}: {error}\n  it grows beyond --log-max-size until it can be renamed",
                    self.path()
                );
                (self.talk)(&message);
                self.rotate_above = self.file.size() + self.options.max_size;
                return Ok(());
            }
        }
        self.rotate_above = self.options.max_size;
        self.archive.compress();
        Ok(())
    }

    /// Moves the file away and puts the next one in its place. That is made first: without it no archive is touched.
    fn change_places(&mut self) -> io::Result<LogFile> {
        let beside = self.archive.next();
        let next = LogFile::create(&beside, self.options.default_path)?;
        let moved = self.archive.make_room().and_then(|()| fs::rename(&beside, &self.options.path));
        if let Err(error) = moved {
            self.archive.undo();
            // Else the next start removes it.
            let _ = fs::remove_file(&beside);
            return Err(error);
        }
        Ok(next)
    }

    /// Ends the current file and begins the next one.
    fn continue_in(&mut self, next: LogFile) -> io::Result<()> {
        let now = Timestamp::now();
        let name = self.options.path.file_name().map(|name| name.to_string_lossy().into_owned());
        Record::End(self.totals.end(now, EndReason::Rotated, name)).write_line(&mut self.buffer)?;
        self.write_out()?;
        self.file = next;
        self.worth_keeping = false;
        if let Some(session) = &mut self.session {
            session.part += 1;
            session.time = now;
            Record::Session(session.clone()).write_line(&mut self.buffer)?;
            self.write_out()?;
        }
        Ok(())
    }
}

fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

impl Sink for CaptureFile {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        let before = self.buffer.len();
        record.write_line(&mut self.buffer)?;
        let size = self.file.size() + self.buffer.len() as u64 + END_RESERVE;
        if size > self.rotate_above && self.worth_keeping && self.session.is_some() && self.file.is_regular() {
            let line = self.buffer.split_off(before);
            self.rotate()?;
            self.buffer.extend_from_slice(&line);
        }
        self.worth_keeping |= !matches!(record, Record::Session(_));
        self.ended |= matches!(record, Record::End(_));
        self.remember(record);
        if self.buffer.len() >= BATCH { self.write_out() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_out()?;
        match self.unwritten {
            lost if self.ended && lost > 0 => {
                let message = format!("the last {lost} records are missing from {}", self.path());
                Err(io::Error::other(message))
            }
            _ => Ok(()),
        }
    }

    /// A file that was removed can be read by nobody.
    fn tick(&mut self, _now: Timestamp) -> io::Result<()> {
        if self.file.is_removed() { self.reopen() } else { Ok(()) }
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.write_out()?;
        if self.file.is_still_at(&self.options.path) {
            return Ok(());
        }
        match LogFile::create(&self.options.path, self.options.default_path) {
            Ok(next) => {
                self.adrift = false;
                // That is for the next file to say.
                let unwritten = std::mem::take(&mut self.unwritten);
                let continued = self.continue_in(next);
                self.unwritten += unwritten;
                continued
            }
            Err(error) => {
                self.adrift = self.file.is_removed();
                let goes_on = if self.adrift {
                    "records are lost until it can be made again; tracing goes on"
                } else {
                    "going on in the file that was moved away"
                };
                let message = format!("cannot reopen {}: {error}\n  {goes_on}", self.path());
                self.complain(&message);
                Ok(())
            }
        }
    }
}

impl Drop for CaptureFile {
    fn drop(&mut self) {
        // The owner has flushed and seen errors; this is for ways out by error.
        let _ = self.write_out();
    }
}

#[cfg(test)]
mod tests;
