//! The configurations of the traced workers: read once per generation, aside, and asked for advice.

use std::{
    borrow::Cow,
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::{
    advice::{Advice, Question, advise},
    master::{Generation, Process, main_file},
    root::Root,
    target::sockets,
    tree::{Tree, read},
    view::View,
};
use crate::model::observation::{Name, Observation, State};

/// How long the first advice waits for files that are still being read.
const PATIENCE: Duration = Duration::from_millis(100);
/// After this a file system is taken for one that does not answer.
const GIVEN_UP: Duration = Duration::from_secs(10);
/// Readers at work; one that hangs counts until it comes back.
const READERS: usize = 4;
/// A number cannot be another process's within this time: numbers are given in turn.
const SEEN: Duration = Duration::from_secs(1);
/// Workers remembered, also after they are gone, for late verdicts; and questions.
const CAPACITY: usize = 1024;
/// Reasons named by the observation.
const REASONS: usize = 4;
/// What serves the observation.
const HOOK: &str = "files below /proc/PID/root";

/// What was read; the reason why not.
type Answer = Result<Arc<Tree>, String>;

/// Files of one generation of workers.
#[derive(Debug)]
enum Files {
    /// This master's; not begun yet, others are being read.
    Postponed(Process),
    Reading {
        since: Instant,
        answer: Receiver<Answer>,
    },
    Read(Answer),
}

#[derive(Clone, Debug)]
struct Worker {
    started: u64,
    /// When it was last seen to be the process of that number.
    seen: Instant,
    generation: usize,
}

#[derive(Debug)]
struct Known {
    files: Files,
    loaded_ns: i128,
}

/// Knows, for each worker, which files are its configuration.
#[derive(Debug, Default)]
pub struct Advisor {
    workers: HashMap<u32, Worker>,
    /// By number; never given again.
    generations: HashMap<usize, Known>,
    next: usize,
    /// Advice by generation and question: a flood asks the same again and again.
    given: HashMap<(usize, String), Advice>,
}

impl Advisor {
    /// Begins to read the configuration of a worker, unless it is known. Never waits.
    pub fn watch(&mut self, pid: u32) {
        if self.workers.get(&pid).is_some_and(|known| known.seen.elapsed() < SEEN) {
            return;
        }
        let Some(process) = Process::read(pid) else { return };
        if let Some(known) = self.workers.get_mut(&pid).filter(|known| known.started == process.started) {
            known.seen = Instant::now();
            return;
        }
        self.tidy();
        let started = process.started;
        let number = match Generation::of(process) {
            Ok(generation) => self.same(&generation).unwrap_or_else(|| {
                let loaded_ns = generation.loaded_ns;
                let files = self.begin(generation.master);
                self.add(Known { files, loaded_ns })
            }),
            Err(reason) => self.add(Known { files: Files::Read(Err(reason)), loaded_ns: 0 }),
        };
        self.workers.insert(pid, Worker { started, seen: Instant::now(), generation: number });
    }

    /// The advice for what happened to a request of this worker. Waits for a moment where files are being read.
    pub fn advise(&mut self, worker: u32, question: &Question<'_>) -> Advice {
        self.watch(worker);
        let generation = self.workers.get(&worker).map(|worker| worker.generation);
        generation.into_iter().for_each(|number| self.resume(number));
        let Some((number, known)) = generation.and_then(|number| Some((number, self.generations.get_mut(&number)?)))
        else {
            return advise(question, None);
        };
        known.files.wait(|since| since + PATIENCE);
        let Files::Read(Ok(tree)) = &known.files else { return advise(question, None) };
        if self.given.len() >= CAPACITY {
            self.given.clear();
        }
        let ask = || advise(question, Some(View::new(tree, known.loaded_ns)));
        self.given.entry((number, question.key())).or_insert_with(ask).clone()
    }

    /// Paths of the unix sockets that the configurations name, each with a worker of theirs.
    pub fn sockets(&mut self) -> Vec<(u32, Vec<String>)> {
        let mut found: HashMap<usize, (u32, Vec<String>)> = HashMap::new();
        let numbers: Vec<usize> = self.generations.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.resume(number));
        for (pid, worker) in &self.workers {
            // Gone, it cannot be looked through.
            if found.contains_key(&worker.generation) || !Path::new(&format!("/proc/{pid}")).exists() {
                continue;
            }
            let Some(known) = self.generations.get_mut(&worker.generation) else { continue };
            if known.files.is_reading() {
                continue;
            }
            if let Files::Read(Ok(tree)) = &known.files {
                found.insert(worker.generation, (*pid, sockets(&View::new(tree, known.loaded_ns))));
            }
        }
        found.into_values().collect()
    }

    /// How well the configurations of these workers are known by now; waits for so long at most.
    pub fn observation(&mut self, workers: &[u32], patience: Duration) -> Observation {
        let end = Instant::now() + patience;
        workers.iter().for_each(|worker| self.watch(*worker));
        let mut numbers: Vec<usize> =
            workers.iter().filter_map(|worker| Some(self.workers.get(worker)?.generation)).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let (mut readable, mut reasons) = (0, Vec::new());
        for number in &numbers {
            self.resume(*number);
            let Some(known) = self.generations.get_mut(number) else { continue };
            known.files.wait(|_| end);
            match known.state() {
                Ok(problems) => {
                    readable += 1;
                    reasons.extend(problems);
                }
                Err(reason) => reasons.push(reason),
            }
        }
        if numbers.is_empty() {
            reasons.push("read when a worker starts".to_owned());
        }
        reasons.dedup();
        let more = reasons.len().saturating_sub(REASONS);
        reasons.truncate(REASONS);
        if more > 0 {
            reasons.push(format!("and {more} more"));
        }
        Observation {
            name: Name::Configuration,
            hook: (readable > 0).then_some(Cow::Borrowed(HOOK)),
            state: match (readable, reasons.is_empty()) {
                (0, _) => State::None,
                (_, true) => State::Full,
                (_, false) => State::Partial,
            },
            missing: (!reasons.is_empty()).then(|| Cow::Owned(reasons.join("; "))),
        }
    }

    /// The number of a generation of which a worker is known already.
    fn same(&self, generation: &Generation) -> Option<usize> {
        generation.workers.iter().find_map(|sibling| {
            let known = self.workers.get(&sibling.pid)?;
            (known.started == sibling.started).then_some(known.generation)
        })
    }

    fn add(&mut self, known: Known) -> usize {
        let number = self.next;
        self.next += 1;
        self.generations.insert(number, known);
        number
    }

    /// Reads in a thread of its own: what is mounted in a container may never answer.
    fn begin(&mut self, master: Process) -> Files {
        let at_work = self.generations.values_mut().map(|known| usize::from(known.files.is_reading())).sum::<usize>();
        if at_work >= READERS {
            return Files::Postponed(master);
        }
        let (sender, answer) = sync_channel(1);
        let work = move || {
            // Nobody may be waiting any more.
            let _ = sender.send(files_of(&master).map(Arc::new));
        };
        match thread::Builder::new().name("configuration".to_owned()).spawn(work) {
            Ok(_) => Files::Reading { since: Instant::now(), answer },
            Err(error) => Files::Read(Err(format!("cannot start a thread: {}", error.kind()))),
        }
    }

    /// Begins with what was postponed, if it is its turn.
    fn resume(&mut self, number: usize) {
        let Some(Known { files: Files::Postponed(master), .. }) = self.generations.get(&number) else { return };
        let master = master.clone();
        let files = self.begin(master);
        if let Some(known) = self.generations.get_mut(&number) {
            known.files = files;
        }
    }

    /// Forgets workers that are gone, and configurations that no worker has.
    fn tidy(&mut self) {
        if self.workers.len() >= CAPACITY {
            self.workers.retain(|pid, _| Path::new(&format!("/proc/{pid}")).exists());
        }
        if self.workers.len() >= CAPACITY {
            self.workers.clear();
        }
        if self.generations.len() > self.workers.len() {
            let workers = &self.workers;
            // A reader that hangs is kept, so that it counts.
            self.generations.retain(|number, known| {
                matches!(known.files, Files::Reading { .. })
                    || workers.values().any(|worker| worker.generation == *number)
            });
        }
    }
}

fn files_of(master: &Process) -> Result<Tree, String> {
    let (path, directives) = main_file(master)?;
    let mut root = Root::of(master.pid)?;
    read(&mut root, &path, directives.as_deref())
}

impl Files {
    fn is_reading(&mut self) -> bool {
        self.wait(|since| since);
        matches!(self, Self::Reading { .. })
    }

    /// Takes the answer if it comes before a time, which may depend on when reading began.
    fn wait(&mut self, until: impl FnOnce(Instant) -> Instant) {
        let Self::Reading { since, answer } = self else { return };
        let left = until(*since).saturating_duration_since(Instant::now());
        let answer = if left.is_zero() {
            answer.try_recv().map_err(|error| error == TryRecvError::Disconnected)
        } else {
            answer.recv_timeout(left).map_err(|error| error == RecvTimeoutError::Disconnected)
        };
        match answer {
            Ok(answer) => *self = Self::Read(answer),
            Err(true) => *self = Self::Read(Err("the files made the reader fail: a bug of why502".to_owned())),
            Err(false) => {}
        }
    }
}

impl Known {
    /// What is missing from files that could be read; the reason why none could.
    fn state(&self) -> Result<Vec<String>, String> {
        let tree = match &self.files {
            Files::Read(Ok(tree)) => tree,
            Files::Read(Err(reason)) => return Err(reason.clone()),
            Files::Postponed(_) => return Err("other configurations are still being read".to_owned()),
            Files::Reading { since, .. } if since.elapsed() > GIVEN_UP => {
                return Err("its files are not answered for".to_owned());
            }
            Files::Reading { .. } => return Err("its files are still being read".to_owned()),
        };
        let changed =
            tree.changed_after(self.loaded_ns).map(|file| format!("{file} was changed after the workers started"));
        Ok(tree.problems.iter().cloned().chain(changed).collect())
    }
}

#[cfg(test)]
mod tests;
