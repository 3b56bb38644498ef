//! The log files of all workers: found through their descriptors, read when something is wanted.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    access::{Row, row},
    frame::Standing,
    line::Line,
    opened::{Elsewhere, Opened, leads_to, link, opened, own_pid},
    tail::{FileId, Since, Start, Tail},
};

/// Descriptors of a worker are looked at again after this long, while lines of it are missing.
const AGAIN: Duration = Duration::from_millis(100);
/// A process that is gone may have written a line that is still to be read.
const LINGER: Duration = Duration::from_secs(2);
/// How long another kind of file is remembered as such.
const OTHERS: Duration = Duration::from_secs(600);
/// Files read along at most.
const FILES: usize = 64;
/// So many bytes without a line of an error log: it is another kind of log.
const FOREIGN: usize = 256 << 10;

/// Processes whose lines are wanted, and their files.
#[derive(Debug, Default)]
pub struct Logs {
    workers: HashMap<u32, Worker>,
    files: BTreeMap<FileId, Known>,
    /// Others that processes append to.
    others: BTreeMap<FileId, Other>,
}

#[derive(Debug)]
struct Worker {
    /// As its lines name it.
    own_pid: u32,
    /// Descriptor and file.
    files: Vec<(u32, FileId)>,
    elsewhere: Vec<Elsewhere>,
    looked: Instant,
    gone: Option<Instant>,
}

#[derive(Debug)]
struct Known {
    tail: Tail,
    path: PathBuf,
    /// It is an error log: by a line of it, or because it is a worker's standard error.
    confirmed: bool,
    unconfirmed_bytes: usize,
    /// Nobody has it open any more.
    left: Option<Instant>,
}

#[derive(Debug)]
struct Other {
    seen: Instant,
    /// An access log whose rows can be read.
    access: Option<Tail>,
}

/// A line of a traced process.
#[derive(Debug)]
pub struct Found<'a> {
    /// Pid of the host's namespace.
    pub worker: u32,
    pub file: FileId,
    pub line: Line<'a>,
    pub standing: Standing,
}

/// What one reading of all files came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Files of which something was skipped that may have been wanted.
    pub gaps: Vec<PathBuf>,
    /// Files that were emptied while nobody read.
    pub emptied: Vec<PathBuf>,
}

/// How the lines of one process are reached, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    pub files: Vec<PathBuf>,
    pub elsewhere: Vec<Elsewhere>,
}

impl Logs {
    /// Looks at the descriptors of a process that is not known yet.
    pub fn follow(&mut self, pid: u32, start: Start) {
        if self.workers.get(&pid).is_some_and(|worker| worker.gone.is_none()) {
            return;
        }
        let Some(own_pid) = own_pid(pid) else { return };
        let looked = Instant::now();
        let worker = Worker { own_pid, files: Vec::new(), elsewhere: Vec::new(), looked, gone: None };
        self.workers.insert(pid, worker);
        self.look(pid, start);
    }

    /// The process has ended.
    pub fn gone(&mut self, pid: u32) {
        if let Some(worker) = self.workers.get_mut(&pid) {
            worker.gone = Some(Instant::now());
        }
    }

    /// Can lines of this process be read?
    pub fn reads(&self, pid: u32) -> bool {
        self.workers.get(&pid).is_some_and(|worker| !worker.files.is_empty())
    }

    /// A line of this process is missing: its files may be others by now (rotation, a reload).
    pub fn missing(&mut self, pid: u32) {
        let now = Instant::now();
        let Some(worker) = self.workers.get_mut(&pid) else { return };
        if worker.gone.is_some() || now.duration_since(worker.looked) < AGAIN {
            return;
        }
        worker.looked = now;
        if worker.files.iter().any(|(descriptor, id)| leads_to(pid, *descriptor) != Some(*id)) {
            self.look(pid, Start::Recent);
        }
    }

    /// How the lines of a process are reached; None: it is not known.
    pub fn reach(&self, pid: u32) -> Option<Reach> {
        let worker = self.workers.get(&pid)?;
        let confirmed = worker.files.iter().filter_map(|(_, id)| self.files.get(id)).filter(|file| file.confirmed);
        let mut files: Vec<PathBuf> = confirmed.map(|file| file.path.clone()).collect();
        files.sort_unstable();
        Some(Reach { files, elsewhere: worker.elsewhere.clone() })
    }

    /// Are there lines of this process that no file has?
    pub fn misses_lines(&self, pid: u32) -> bool {
        self.workers.get(&pid).is_some_and(|worker| !worker.elsewhere.is_empty())
    }

    /// Reads what was written lately, and hands each line of a known process to `each`.
    pub fn read(&mut self, since: Since, mut each: impl FnMut(Found<'_>)) -> Reading {
        let mut reading = Reading::default();
        let mut foreign = Vec::new();
        let workers = &self.workers;
        for (id, file) in &mut self.files {
            let mut confirmed = file.confirmed;
            let (mut bytes, mut access) = (0, false);
            let progress = file.tail.read(since, |bytes_of_line, standing| {
                bytes += bytes_of_line.len();
                let Some(line) = Line::parse(bytes_of_line) else {
                    access |= !confirmed && row(bytes_of_line).is_some();
                    return;
                };
                confirmed = true;
                if let Some(worker) = writer(workers, line.pid, *id) {
                    each(Found { worker, file: *id, line, standing });
                }
            });
            file.confirmed = confirmed;
            file.unconfirmed_bytes = if confirmed { 0 } else { file.unconfirmed_bytes + bytes };
            if file.unconfirmed_bytes > FOREIGN || (access && !confirmed) {
                foreign.push(*id);
            }
            match progress {
                Ok(progress) => {
                    if progress.gap {
                        reading.gaps.push(file.path.clone());
                    }
                    if progress.emptied {
                        reading.emptied.push(file.path.clone());
                    }
                }
                Err(_) => foreign.push(*id), // It cannot be read: as good as another log.
            }
        }
        for id in foreign {
            self.is_foreign(id);
        }
        reading
    }

    /// Reads the rows that were written to access logs lately, which may be old ones again.
    pub fn read_access(&mut self, mut each: impl FnMut(Row)) {
        for other in self.others.values_mut() {
            let Some(tail) = &mut other.access else { continue };
            // It cannot be read: then there are no rows.
            let _ = tail.read(Since::Idle, |line, _| row(line).into_iter().for_each(&mut each));
        }
    }

    /// True: there is an access log whose rows can be read.
    pub fn has_access(&self) -> bool {
        self.others.values().any(|other| other.access.is_some())
    }

    /// Forgets the processes that are gone, and the files that nobody has open.
    pub fn tidy(&mut self) {
        let now = Instant::now();
        self.workers.retain(|_, worker| worker.gone.is_none_or(|gone| now.duration_since(gone) < LINGER));
        for (id, file) in &mut self.files {
            let open = self.workers.values().any(|worker| worker.files.iter().any(|(_, of)| of == id));
            match (open, file.left) {
                (true, _) => file.left = None,
                (false, None) => file.left = Some(now),
                (false, Some(_)) => {}
            }
        }
        self.files.retain(|_, file| file.left.is_none_or(|left| now.duration_since(left) < LINGER));
        let others = &mut self.others;
        others.retain(|_, other| {
            now.duration_since(other.seen) < OTHERS || other.access.as_ref().is_some_and(Tail::is_linked)
        });
    }

    fn look(&mut self, pid: u32, start: Start) {
        let Ok(Opened { files, elsewhere }) = opened(pid) else { return };
        let mut of_worker = Vec::new();
        for open in files {
            if self.others.contains_key(&open.id) && !open.standard_error {
                continue;
            }
            if !self.files.contains_key(&open.id)
                && !self.open(&link(pid, open.descriptor), open.id, open.path, open.standard_error, start)
            {
                continue;
            }
            of_worker.push((open.descriptor, open.id));
        }
        if let Some(worker) = self.workers.get_mut(&pid) {
            worker.files = of_worker;
            worker.elsewhere = elsewhere;
        }
    }

    /// True: it is, or may be, an error log.
    fn open(&mut self, link: &Path, id: FileId, path: PathBuf, standard_error: bool, start: Start) -> bool {
        if self.files.len() >= FILES {
            return false;
        }
        let Ok(tail) = Tail::open(link, start) else { return false };
        let looks = tail.looks_like_an_error_log().ok().flatten();
        if looks == Some(false) && !standard_error {
            let access = Some(tail).filter(Tail::looks_like_an_access_log);
            self.others.insert(id, Other { seen: Instant::now(), access });
            return false;
        }
        let confirmed = standard_error || looks == Some(true);
        self.files.insert(id, Known { tail, path, confirmed, unconfirmed_bytes: 0, left: None });
        true
    }

    fn is_foreign(&mut self, id: FileId) {
        let access = self.files.remove(&id).map(|file| file.tail.again()).filter(Tail::looks_like_an_access_log);
        self.others.insert(id, Other { seen: Instant::now(), access });
        for worker in self.workers.values_mut() {
            worker.files.retain(|(_, of)| *of != id);
        }
    }
}

/// Whose line it is: containers count their pids anew, so several processes may have this one. Then it is that which has
/// the file open, if only one has.
fn writer(workers: &HashMap<u32, Worker>, own_pid: u32, file: FileId) -> Option<u32> {
    let mut named = workers.iter().filter(|(_, worker)| worker.own_pid == own_pid);
    let (pid, worker) = named.next()?;
    let Some((other_pid, other)) = named.next() else { return Some(*pid) };
    let has = |worker: &Worker| worker.files.iter().any(|(_, id)| *id == file);
    let mut owners = [(*pid, worker), (*other_pid, other)]
        .into_iter()
        .chain(named.map(|(pid, worker)| (*pid, worker)))
        .filter(|(_, worker)| has(worker));
    let owner = owners.next()?;
    owners.next().is_none().then_some(owner.0)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File, OpenOptions},
        io::Write as _,
        path::PathBuf,
    };

    use super::{AGAIN, Logs, Since, Start};

    /// Log files of this test process: each test has its own directory and sees the others' files too.
    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("why502-logs-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("writable");
            Self(path)
        }

        fn open(&self, name: &str) -> File {
            OpenOptions::new().append(true).create(true).open(self.0.join(name)).expect("writable")
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn line(text: &str) -> String {
        format!("2026/03/04 05:06:07 [error] {pid}#{pid}: *2 {text}\n", pid = std::process::id())
    }

    fn read(logs: &mut Logs, mark: &str) -> Vec<String> {
        let mut found = Vec::new();
        logs.read(Since::LastRead, |of| {
            assert_eq!(of.worker, std::process::id());
            let text = String::from_utf8_lossy(of.line.text).into_owned();
            if text.contains(mark) {
                found.push(text);
            }
        });
        found
    }

    #[test]
    fn lines_of_a_process_come_from_all_its_logs() {
        let directory = Directory::new("all");
        let (mut one, mut two) = (directory.open("one.log"), directory.open("two.log"));
        let mut access = directory.open("access.log");
        access.write_all(b"127.0.0.1 - - GET / 200\n").expect("written");
        let mut logs = Logs::default();
        logs.follow(std::process::id(), Start::End);
        assert!(logs.reads(std::process::id()));
        one.write_all(line("all one").as_bytes()).expect("written");
        two.write_all(line("all two").as_bytes()).expect("written");
        access.write_all(line("all three").as_bytes()).expect("written");
        let mut found = read(&mut logs, "all ");
        found.sort();
        assert_eq!(found, ["all one", "all two"]);
        let reach = logs.reach(std::process::id()).expect("known");
        assert!(reach.files.contains(&directory.0.join("one.log")));
        assert!(!reach.files.contains(&directory.0.join("access.log")));
        assert_eq!(logs.reach(1), None);
    }

    #[test]
    fn a_rotated_log_is_found_again() {
        let directory = Directory::new("rotated");
        let mut file = directory.open("error.log");
        let mut logs = Logs::default();
        logs.follow(std::process::id(), Start::End);
        file.write_all(line("rotated old").as_bytes()).expect("written");
        fs::rename(directory.0.join("error.log"), directory.0.join("error.log.1")).expect("renamed");
        let old = file;
        let mut file = directory.open("error.log");
        drop(old);
        file.write_all(line("rotated new").as_bytes()).expect("written");
        if let Some(worker) = logs.workers.get_mut(&std::process::id()) {
            worker.looked -= AGAIN;
        }
        logs.missing(std::process::id());
        let mut found = read(&mut logs, "rotated ");
        found.sort();
        assert_eq!(found, ["rotated new", "rotated old"]);
    }

    #[test]
    fn lines_of_strangers_are_not_found() {
        let directory = Directory::new("strangers");
        let mut file = directory.open("error.log");
        let mut logs = Logs::default();
        logs.follow(std::process::id(), Start::End);
        let stranger = line("strangers").replace(&format!(" {}#", std::process::id()), " 4294967295#");
        file.write_all(stranger.as_bytes()).expect("written");
        assert_eq!(read(&mut logs, "strangers"), [""; 0]);
    }
}
