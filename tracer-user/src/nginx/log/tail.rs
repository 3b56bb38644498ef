//! One log file, read along: through the worker's own descriptor, whatever its name has become since.

use std::{
    fs::File,
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
};

use super::{
    access::row,
    frame::{Framer, Standing},
    line::Line,
};

/// Names a file for good: device and inode.
pub type FileId = (u64, u64);

/// Read in one go at most.
const TICK: u64 = 1 << 20;
/// Behind by more than this, what is older is given up.
const BEHIND: u64 = 16 << 20;
/// Read back this far when the reading begins anew: what is wanted was written just now.
const BACK: u64 = 1 << 20;
/// Bytes by which a place is known again: more than the lines of two moments have in common.
const LAST: usize = 256;
/// What is looked at to tell what kind of log it is.
const SAMPLE: u64 = 64 << 10;

/// Where the reading of a file begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    End,
    /// With what was written lately.
    Recent,
}

/// Was it being read all along?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// What was skipped may have been wanted.
    LastRead,
    /// Nobody wanted what was written in between.
    Idle,
}

/// What one reading came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Something was skipped that may have been wanted.
    pub gap: bool,
    /// It was emptied while nobody read: what is missed from now on may have gone with it.
    pub emptied: bool,
    /// There is more than one reading may take.
    pub more: bool,
}

/// An open log file.
#[derive(Debug)]
pub struct Tail {
    file: File,
    position: u64,
    framer: Framer,
    buffer: Vec<u8>,
    /// What stands before `position`.
    last: Vec<u8>,
}

impl Tail {
    /// Opens a file; `path` is the link of a descriptor in /proc.
    pub fn open(path: &Path, start: Start) -> io::Result<Self> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut tail = Self { file, position: 0, framer: Framer::default(), buffer: Vec::new(), last: Vec::new() };
        match start {
            Start::End => tail.jump(size),
            Start::Recent => tail.jump(size.saturating_sub(BACK)),
        }
        Ok(tail)
    }

    /// Does it look like an error log? None: it is empty.
    pub fn looks_like_an_error_log(&self) -> io::Result<Option<bool>> {
        let size = self.file.metadata()?.len();
        let from = size.saturating_sub(SAMPLE);
        let mut bytes = vec![0; usize::try_from(size - from).unwrap_or(0)];
        let length = self.file.read_at(&mut bytes, from)?;
        bytes.truncate(length);
        if bytes.is_empty() {
            return Ok(None);
        }
        Ok(Some(bytes.split(|byte| *byte == b'\n').any(|line| Line::parse(line).is_some())))
    }

    /// True: the last whole lines are rows of an access log.
    pub fn looks_like_an_access_log(&self) -> bool {
        let Ok(size) = self.file.metadata().map(|metadata| metadata.len()) else { return false };
        let from = size.saturating_sub(SAMPLE);
        let mut bytes = vec![0; usize::try_from(size - from).unwrap_or(0)];
        let length = self.file.read_at(&mut bytes, from).unwrap_or(0);
        bytes.truncate(length);
        bytes.split(|byte| *byte == b'\n').rev().take(8).any(|line| row(line).is_some())
    }

    /// From what was written lately, as if it had just been opened.
    pub fn again(mut self) -> Self {
        let size = self.file.metadata().map_or(self.position, |metadata| metadata.len());
        self.jump(size.saturating_sub(BACK));
        self
    }

    /// Hands the lines that were written since the last reading to `each`.
    pub fn read(&mut self, since: Since, mut each: impl FnMut(&[u8], Standing)) -> io::Result<Progress> {
        let size = self.file.metadata()?.len();
        let mut progress = Progress::default();
        if size < self.position || !self.still_there() {
            // Emptied (copytruncate): nginx goes on at the new end, and the rest of the old is gone.
            progress.gap = since == Since::LastRead;
            progress.emptied = since == Since::Idle;
            self.position = 0;
            self.last.clear();
            self.framer.restart();
        }
        let behind = size - self.position;
        let (limit, back) = match since {
            Since::LastRead => (BEHIND, TICK),
            Since::Idle => (BACK, BACK),
        };
        if behind > limit {
            progress.gap |= since == Since::LastRead;
            self.jump(size - back);
        }
        let wanted = (size - self.position).min(TICK);
        progress.more = size - self.position > TICK;
        self.buffer.resize(usize::try_from(wanted).unwrap_or(0), 0);
        let length = self.file.read_at(&mut self.buffer, self.position)?;
        self.position += length as u64;
        if length > 0 {
            self.last.clear();
            self.last.extend_from_slice(&self.buffer[length.saturating_sub(LAST)..length]);
        }
        self.framer.feed(&self.buffer[..length], &mut each);
        Ok(progress)
    }

    /// True while the file has a name.
    pub fn is_linked(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() > 0)
    }

    /// False: the file was emptied, and has grown beyond the former place since.
    fn still_there(&self) -> bool {
        let mut now = [0; LAST];
        let Some(now) = now.get_mut(..self.last.len()) else { return true };
        let from = self.position.saturating_sub(now.len() as u64);
        self.file.read_exact_at(now, from).is_ok() && now == self.last.as_slice()
    }

    fn jump(&mut self, position: u64) {
        self.position = position;
        self.last = vec![0; usize::try_from(position).map_or(LAST, |position| position.min(LAST))];
        let from = position - self.last.len() as u64;
        if self.file.read_exact_at(&mut self.last, from).is_err() {
            self.last.clear();
        }
        let mut before = [b'\n'];
        if position > 0
            && self.file.read_at(&mut before, position - 1).is_ok_and(|length| length == 1)
            && before != *b"\n"
        {
            self.framer.skip();
        } else {
            self.framer.restart();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File, OpenOptions},
        io::Write as _,
        path::PathBuf,
    };

    use super::{BACK, BEHIND, Progress, Since, Start, TICK, Tail};

    const LINE: &str = "2026/03/04 05:06:07 [error] 1#1: *2 x";

    /// A file of its own, removed at the end.
    struct Log(PathBuf);

    impl Log {
        fn new(name: &str, text: &str) -> Self {
            let path = std::env::temp_dir().join(format!("why502-tail-{}-{name}", std::process::id()));
            fs::write(&path, text).expect("writable");
            Self(path)
        }

        fn append(&self, text: &str) {
            let mut file = OpenOptions::new().append(true).open(&self.0).expect("there");
            file.write_all(text.as_bytes()).expect("writable");
        }
    }

    impl Drop for Log {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn read(tail: &mut Tail, since: Since) -> (Vec<String>, Progress) {
        let mut lines = Vec::new();
        let progress =
            tail.read(since, |line, _| lines.push(String::from_utf8_lossy(line).into_owned())).expect("readable");
        (lines, progress)
    }

    #[test]
    fn what_comes_after_the_start_is_read_once() {
        let log = Log::new("once", "old\n");
        let mut tail = Tail::open(&log.0, Start::End).expect("there");
        assert_eq!(read(&mut tail, Since::Idle).0, [""; 0]);
        log.append("one\ntw");
        assert_eq!(read(&mut tail, Since::LastRead).0, ["one"]);
        log.append("o\n");
        assert_eq!(read(&mut tail, Since::LastRead).0, ["two"]);
        assert_eq!(read(&mut tail, Since::LastRead).0, [""; 0]);
    }

    #[test]
    fn a_start_inside_a_line_waits_for_the_next() {
        let log = Log::new("inside", "half a li");
        let mut tail = Tail::open(&log.0, Start::End).expect("there");
        log.append("ne\nwhole\n");
        assert_eq!(read(&mut tail, Since::Idle).0, ["whole"]);
    }

    #[test]
    fn a_renamed_file_is_read_to_its_end() {
        let log = Log::new("renamed", "");
        let mut tail = Tail::open(&log.0, Start::End).expect("there");
        let moved = Log(log.0.with_extension("1"));
        fs::rename(&log.0, &moved.0).expect("renamed");
        fs::write(&log.0, "new\n").expect("writable");
        moved.append("late\n");
        assert_eq!(read(&mut tail, Since::LastRead).0, ["late"]);
        assert!(tail.is_linked());
        fs::remove_file(&moved.0).expect("there");
        assert!(!tail.is_linked());
    }

    #[test]
    fn an_emptied_file_begins_anew() {
        let log = Log::new("emptied", "a long line of old\n");
        let mut tail = Tail::open(&log.0, Start::End).expect("there");
        File::create(&log.0).expect("emptied");
        log.append("new\n");
        assert_eq!(
            read(&mut tail, Since::LastRead),
            (vec!["new".to_owned()], Progress { gap: true, ..Progress::default() })
        );
        File::create(&log.0).expect("emptied");
        assert_eq!(read(&mut tail, Since::Idle), (vec![], Progress { emptied: true, ..Progress::default() }));
    }

    #[test]
    fn an_emptied_file_that_has_grown_again_is_noticed() {
        let log = Log::new("grown", "one\n");
        let mut tail = Tail::open(&log.0, Start::End).expect("there");
        log.append("two\n");
        assert_eq!(read(&mut tail, Since::LastRead).0, ["two"]);
        File::create(&log.0).expect("emptied");
        log.append("three\nfour\n");
        assert_eq!(read(&mut tail, Since::LastRead).0, ["three", "four"]);
        log.append("five\n");
        assert_eq!(read(&mut tail, Since::LastRead), (vec!["five".to_owned()], Progress::default()));
    }

    #[test]
    fn readings_are_bounded_and_gaps_are_told() {
        let log = Log::new("bounded", "");
        let mut tail = Tail::open(&log.0, Start::Recent).expect("there");
        let mebibyte = format!("{:1023}\n", "x").repeat(1024);
        log.append(&mebibyte);
        log.append("last\n");
        let (lines, progress) = read(&mut tail, Since::LastRead);
        assert_eq!((lines.len(), progress), (1024, Progress { more: true, ..Progress::default() }));
        assert_eq!(read(&mut tail, Since::LastRead), (vec!["last".to_owned()], Progress::default()));
        for _ in 0..=BEHIND / TICK {
            log.append(&mebibyte);
        }
        assert!(read(&mut tail, Since::LastRead).1.gap);
        log.append(&mebibyte);
        log.append(&mebibyte);
        let (lines, progress) = read(&mut tail, Since::Idle);
        assert_eq!((lines.len() as u64, progress), (BACK / 1024, Progress::default()));
    }

    #[test]
    fn kinds_of_logs_are_told_by_their_lines() {
        let looks = |name: &str, text: &str| {
            let log = Log::new(name, text);
            Tail::open(&log.0, Start::End).expect("there").looks_like_an_error_log().expect("readable")
        };
        assert_eq!(looks("empty", ""), None);
        assert_eq!(looks("error", &format!("a trace\n{LINE}\n")), Some(true));
        assert_eq!(
            looks("access", "127.0.0.1 - - [04/Mar/2026:05:06:07 +0000] \"GET / HTTP/1.1\" 502 157\n"),
            Some(false)
        );
    }
}
