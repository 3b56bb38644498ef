//! nginx's complaints and their lines: a complaint that the uprobe saw gets the text of the line that nginx wrote for it.
//!
//! The uprobe says that there was a complaint, when, and about what; its line adds the server, the host and what the
//! literal leaves open. `join` says which line is whose.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::PathBuf,
    rc::Rc,
};

use tracer_common::event::complaint::NAME_LEN;

use super::{
    fallback::{Fallback, Step},
    join::{About, Stored, Waiting, join},
};
use crate::{
    collect::line::Written,
    diagnose::{rules, word},
    model::event::{Complaint, Event, Happening, Moment, Subject},
    nginx::log::{
        frame::Standing,
        line::Line,
        logs::{Found, Logs, Reading},
        tail::{Since, Start},
        told::{Told, tell},
    },
};

/// A line that has not come so long after its complaint was heard of does not come: nginx writes it some 30 µs after.
pub(super) const LET_GO_NS: u64 = 1_000_000_000;
/// How often what is too old is looked for.
const TIDY_NS: u64 = 100_000_000;
/// Complaints that wait at most.
const WAITING: usize = 65_536;
/// Lines without a complaint at most.
const LINES: usize = 65_536;
/// NGX_LOG_ERR: what is below it is no failure, and no uprobe tells of it.
const NGX_LOG_ERR: u32 = 4;

/// Names a complaint: worker and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ComplaintId {
    pub(super) worker: u32,
    pub(super) time_ns: u64,
}

/// What explains a response without an attempt.
#[derive(Debug)]
struct Wordless {
    time_ns: u64,
    /// Since when it is known.
    since_ns: u64,
    /// As the engine has it.
    message: String,
    told: Rc<Told>,
}

/// Worker and nginx's number of the client connection.
type Place = (u32, u64);

/// Complaints that wait for their text, lines that wait for their complaint, and what came of both.
#[derive(Debug, Default)]
pub(super) struct Texts {
    pub(super) logs: Logs,
    pub(super) fallback: Fallback,
    /// Whose lines are taken as they are written; what the files say of them is not needed.
    heard: HashSet<u32>,
    /// Whose line did not come: nothing that can be read has it.
    unheard: HashSet<u32>,
    waiting: HashMap<Place, Vec<Waiting>>,
    count: usize,
    lines: HashMap<Place, Vec<Stored>>,
    stored: usize,
    /// Whose lines were taken since the last reading.
    taken: Vec<ComplaintId>,
    told: HashMap<ComplaintId, Rc<Told>>,
    /// Which of them, and since when.
    told_order: VecDeque<(ComplaintId, u64)>,
    /// Of complaints that explain a response without an attempt.
    wordless: HashMap<Place, Wordless>,
    reading: bool,
    /// The lines of `fallback` are all read up to now.
    polled: bool,
    /// Files that were emptied before the last readings: if a line does not come, it went with them.
    emptied: Vec<PathBuf>,
    tidied_ns: u64,
}

impl Texts {
    /// A complaint that a verdict may come of.
    pub(super) fn expect(&mut self, moment: &Moment, complaint: &Complaint, wall_offset_ns: i128, now_ns: u64) {
        let Subject::Http(request) = &complaint.subject else { return };
        let Some(said) = word::said(complaint) else { return };
        self.logs.follow(moment.pid, Start::Recent);
        if self.count == 0 {
            self.logs.missing(moment.pid); // They may have been rotated since.
        }
        if request.connection == 0 || self.count >= WAITING {
            return;
        }
        if !self.heard.contains(&moment.pid) && !self.logs.reads(moment.pid) {
            self.unheard.insert(moment.pid);
            return;
        }
        let second = (i128::from(moment.time_ns) + wall_offset_ns).div_euclid(1_000_000_000);
        let whole = |name: &String| name.len() < NAME_LEN - 1;
        self.waiting.entry((moment.pid, request.connection)).or_default().push(Waiting {
            time_ns: moment.time_ns,
            since_ns: now_ns,
            wall_second: i64::try_from(second).unwrap_or_default(),
            about: About {
                level: complaint.level,
                literal: complaint.literal.clone(),
                errno: complaint.errno,
                action: complaint.action.clone(),
                client: request.client.clone(),
                request: request.line.clone(),
                peer: request.peer.clone().filter(whole),
            },
            message: rules::without_attempt(said).then(|| word::message(complaint)),
        });
        self.count += 1;
    }

    /// What waits for its line goes without it: there is no time to read them.
    pub(super) fn leave_out(&mut self) {
        self.waiting.clear();
        self.count = 0;
    }

    /// Does this worker speak through its log files alone? A process without any has nothing to wait for.
    pub(super) fn speaks(&self, worker: u32) -> bool {
        self.fallback.covers(worker) && self.logs.reads(worker)
    }

    /// Processes whose lines did not come, each once.
    pub(super) fn take_unheard(&mut self) -> HashSet<u32> {
        let heard = &self.heard;
        self.unheard.retain(|pid| !heard.contains(pid));
        std::mem::take(&mut self.unheard)
    }

    /// The lines of this process are taken as it writes them.
    pub(super) fn hears(&mut self, pid: u32) {
        self.heard.insert(pid);
    }

    /// A line was written for a complaint.
    pub(super) fn written(&mut self, written: &Written<'_>, now_ns: u64) {
        let Some(line) = line_of(written.bytes) else { return };
        let Some(place) = line.connection.map(|connection| (written.worker, connection)) else { return };
        let Some(waiting) = self.waiting.get_mut(&place) else { return };
        let Some(index) = waiting.iter().position(|waiting| waiting.time_ns == written.complaint_ns) else { return };
        let about = &waiting[index].about;
        let text = String::from_utf8_lossy(line.text);
        let Some(told) = tell(&text, line.cut, &about.known()).filter(|_| line.level == about.level) else { return };
        let Waiting { time_ns, message, .. } = waiting.swap_remove(index);
        if waiting.is_empty() {
            self.waiting.remove(&place);
        }
        self.count -= 1;
        let id = self.found(place, (time_ns, now_ns), message, Rc::new(told));
        self.taken.push(id);
    }

    /// The process has ended.
    pub(super) fn gone(&mut self, pid: u32) {
        self.heard.remove(&pid);
        self.logs.gone(pid);
        self.fallback.gone(pid);
    }

    /// Reads the logs if anything waits for them. Tells which complaints got their text since the last reading, and what was missed.
    pub(super) fn read(&mut self, now_ns: u64) -> (Vec<ComplaintId>, Vec<PathBuf>) {
        let mut found = std::mem::take(&mut self.taken);
        let due = self.fallback.is_due(now_ns);
        self.polled |= due;
        if self.count == 0 && !due {
            self.reading = self.fallback.is_needed();
            if self.stored > 0 {
                self.lines.clear();
                self.stored = 0;
            }
            self.tidy(now_ns);
            return (found, Vec::new());
        }
        let since = if std::mem::replace(&mut self.reading, true) { Since::LastRead } else { Since::Idle };
        let Self { logs, fallback, heard, lines, stored, .. } = self;
        let Reading { mut gaps, emptied } = logs.read(since, |found| {
            if heard.contains(&found.worker) {
                // Taken already.
            } else if fallback.covers(found.worker) {
                fallback.hear(&found, now_ns);
            } else if let Some((place, line)) = store(&found, now_ns)
                && *stored < LINES
            {
                lines.entry(place).or_default().push(line);
                *stored += 1;
            }
        });
        self.emptied.extend(emptied);
        found.extend(self.join(now_ns));
        let let_go = self.tidy(now_ns);
        if self.count == 0 || let_go > 0 {
            let emptied = std::mem::take(&mut self.emptied);
            gaps.extend(emptied.into_iter().filter(|_| let_go > 0));
        }
        (found, gaps)
    }

    /// What lines say where no uprobe hears nginx: events for the engine.
    pub(super) fn steps(&mut self, now_ns: u64) -> Vec<Step> {
        if !std::mem::take(&mut self.polled) {
            return Vec::new();
        }
        let steps = self.fallback.steps(now_ns, &mut self.logs);
        for step in &steps {
            let Step::Word(id, Event { happening: Happening::Complaint(complaint), .. }, told) = step else { continue };
            let Subject::Http(request) = &complaint.subject else { continue };
            let said = word::said(complaint);
            let message = said.is_some_and(rules::without_attempt).then(|| word::message(complaint));
            self.found((id.worker, request.connection), (id.time_ns, now_ns), message, Rc::new(told.clone()));
        }
        steps
    }

    /// Does this complaint still wait for its text?
    pub(super) fn waits(&self, connection: u64, id: ComplaintId) -> bool {
        let waiting = self.waiting.get(&(id.worker, connection));
        waiting.is_some_and(|waiting| waiting.iter().any(|waiting| waiting.time_ns == id.time_ns))
    }

    /// The text of a complaint.
    pub(super) fn told(&self, id: ComplaintId) -> Option<&Rc<Told>> {
        self.told.get(&id)
    }

    /// The text of the complaint that explains a response without an attempt.
    pub(super) fn wordless(&self, worker: u32, connection: u64, message: &str, until_ns: u64) -> Option<&Rc<Told>> {
        let known = self.wordless.get(&(worker, connection))?;
        (known.message == message && known.time_ns <= until_ns).then_some(&known.told)
    }

    /// A complaint of that time has its text now.
    fn found(
        &mut self,
        place: Place,
        (time_ns, now_ns): (u64, u64),
        message: Option<String>,
        told: Rc<Told>,
    ) -> ComplaintId {
        let id = ComplaintId { worker: place.0, time_ns };
        if let Some(message) = message {
            self.wordless.insert(place, Wordless { time_ns, since_ns: now_ns, message, told: Rc::clone(&told) });
        }
        self.told.insert(id, told);
        self.told_order.push_back((id, now_ns));
        id
    }

    fn join(&mut self, now_ns: u64) -> Vec<ComplaintId> {
        let mut joined = Vec::new();
        for (place, waiting) in &mut self.waiting {
            let Some(lines) = self.lines.get_mut(place) else { continue };
            let (before, before_lines) = (waiting.len(), lines.len());
            joined.extend(join(waiting, lines).into_iter().map(|text| (*place, text)));
            self.count -= before - waiting.len();
            self.stored -= before_lines - lines.len();
        }
        self.waiting.retain(|_, waiting| !waiting.is_empty());
        let found = |(place, (time_ns, message, told))| self.found(place, (time_ns, now_ns), message, told);
        joined.into_iter().map(found).collect()
    }

    /// Lets go of what is too old; tells how many complaints went without their text.
    fn tidy(&mut self, now_ns: u64) -> usize {
        if now_ns.saturating_sub(self.tidied_ns) < TIDY_NS {
            return 0;
        }
        let before = self.count;
        self.tidied_ns = now_ns;
        let fresh = |time_ns: u64| now_ns.saturating_sub(time_ns) < LET_GO_NS;
        let Self { waiting, unheard, logs, count, lines, stored, .. } = self;
        waiting.retain(|(worker, _), waiting| {
            logs.missing(*worker);
            let before = waiting.len();
            waiting.retain(|waiting| fresh(waiting.since_ns));
            if waiting.len() < before {
                unheard.insert(*worker);
            }
            *count -= before - waiting.len();
            !waiting.is_empty()
        });
        lines.retain(|_, lines| {
            let before = lines.len();
            lines.retain(|line| fresh(line.arrived_ns));
            *stored -= before - lines.len();
            !lines.is_empty()
        });
        while self.told_order.front().is_some_and(|(_, since_ns)| !fresh(*since_ns)) {
            if let Some((old, _)) = self.told_order.pop_front() {
                self.told.remove(&old);
            }
        }
        self.wordless.retain(|_, known| fresh(known.since_ns));
        logs.tidy();
        before - self.count
    }
}

/// The line in what was written; syslog's header stands before it (ngx_syslog_add_header(), src/core/ngx_syslog.c).
fn line_of(bytes: &[u8]) -> Option<Line<'_>> {
    let line = if bytes.starts_with(b"<") {
        let end = bytes.windows(2).position(|pair| pair == b": ")?;
        bytes.get(end + 2..)?
    } else {
        bytes
    };
    Line::parse(line.strip_suffix(b"\n").unwrap_or(line))
}

fn store(found: &Found<'_>, now_ns: u64) -> Option<(Place, Stored)> {
    let line = &found.line;
    let connection = line.connection?;
    // An application that speaks through nginx can forge what belongs to its own request: then there is one line more than
    // complaints, and none is taken.
    let own = match found.standing {
        Standing::Own | Standing::AfterUnknown => true,
        Standing::PerhapsInside(of) => of == Some((line.pid, connection)),
    };
    (own && line.level <= NGX_LOG_ERR).then(|| {
        let text = String::from_utf8_lossy(line.text).into_owned();
        let (local_second, level, cut) = (line.local_second, line.level, line.cut);
        let stored = Stored { file: found.file, arrived_ns: now_ns, local_second, level, text, cut };
        ((found.worker, connection), stored)
    })
}

#[cfg(test)]
mod tests {
    use super::{About, ComplaintId, Texts, Waiting, Written};

    #[test]
    fn whose_line_was_taken_late_is_told() {
        let mut texts = Texts::default();
        let about = About {
            level: 4,
            literal: "upstream prematurely closed connection".into(),
            errno: 0,
            action: "reading response header from upstream".into(),
            client: None,
            request: None,
            peer: None,
        };
        texts.waiting.entry((7, 3)).or_default().push(Waiting {
            time_ns: 9,
            since_ns: 9,
            wall_second: 0,
            about,
            message: None,
        });
        texts.count = 1;
        let id = ComplaintId { worker: 7, time_ns: 9 };
        assert!(texts.waits(3, id) && texts.read(10).0.is_empty());
        let bytes = b"2026/11/28 13:00:00 [error] 7#7: *3 upstream prematurely closed connection while reading response header \
            from upstream, client: 127.0.0.1, server: lab, request: \"GET / HTTP/1.1\", upstream: \"http://127.0.0.1:1/\", \
            host: \"lab\"";
        texts.written(&Written { worker: 7, complaint_ns: 9, bytes }, 10);
        assert!(!texts.waits(3, id) && texts.told(id).is_some());
        assert_eq!((texts.read(11).0, texts.read(12).0), (vec![id], vec![]));
    }
}
