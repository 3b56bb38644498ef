//! Workers whose binary has no symbols: no uprobe hears nginx there, and its log files speak instead.
//!
//! A line has a time in seconds and no place among the events of its thread. So it is `likely` at most, is bound to a socket
//! only where as many sockets as lines are in question, and says what became of a request only where the access log has
//! rows that can mean nothing else. What the kernel sees of these workers waits until their lines have been read.

mod pairs;

use std::collections::{HashMap, HashSet};

use super::texts::ComplaintId;
use crate::{
    model::{
        address::Address,
        event::{Bound, Complaint, Event, Happening, Moment, Request, Status, Subject},
    },
    nginx::log::{
        access::{Row, escaped},
        frame::Standing,
        logs::{Found, Logs},
        spoken::{Spoken, understand},
        told::Told,
    },
};
use pairs::{Fate, HOLD_NS, Key, Pairs};

/// The hook of a complaint that was read, as in `evidence.source`.
pub(super) const ERROR_LOG: &str = "error_log";
const ACCESS_LOG: &str = "access_log";
/// How often the files are looked at: nothing else tells that there are lines.
const POLL_NS: u64 = 100_000_000;
/// A line waits so long for its socket and its row.
const RIPE_NS: u64 = 100_000_000;
/// Lines that are read at once have times of their own within this.
const APART_NS: u64 = 10_000_000;
/// Lines and rows kept at most.
const CAPACITY: usize = 16_384;
/// NGX_LOG_ERR.
const ERROR: u32 = 4;
/// Zones differ by multiples of a quarter of an hour.
const ZONES_S: i64 = 900;

/// Lines and sockets of such workers, until they are told.
#[derive(Debug, Default)]
pub(super) struct Fallback {
    workers: HashSet<u32>,
    lines: Vec<Heard>,
    pairs: Pairs<Event>,
    /// Rows with the time when they came, by client and request line.
    rows: HashMap<(String, String), Vec<(u64, Row)>>,
    /// Lines so far.
    heard: u64,
    left_out: u64,
    requests: u64,
    attempts: u64,
    polled_ns: u64,
}

#[derive(Debug)]
struct Heard {
    number: u64,
    arrived_ns: u64,
    worker: u32,
    connection: u64,
    local_second: i64,
    level: u32,
    spoken: Spoken,
}

impl Heard {
    fn key(&self) -> Option<Key> {
        let peer = self.spoken.peer.as_deref().map(Address::from_nginx)?;
        Some((self.worker, peer, Fate::of_line(&self.spoken)?))
    }
}

/// What comes of a line.
#[derive(Debug)]
pub(super) enum Step {
    Event(Event),
    /// nginx's word, and the text that goes with it.
    Word(ComplaintId, Event, Told),
    /// The last complaint of this worker has no socket that is still to be closed.
    WithoutSocket(u32),
}

impl Fallback {
    pub(super) fn add(&mut self, worker: u32) {
        self.workers.insert(worker);
    }

    pub(super) fn gone(&mut self, worker: u32) {
        self.workers.remove(&worker);
    }

    pub(super) fn covers(&self, worker: u32) -> bool {
        self.workers.contains(&worker)
    }

    /// Is it time to look at the files?
    pub(super) fn is_due(&mut self, now_ns: u64) -> bool {
        let due = !self.workers.is_empty() && now_ns.saturating_sub(self.polled_ns) >= POLL_NS;
        if due {
            self.polled_ns = now_ns;
        }
        due
    }

    /// This worker has ended, or with None the session: nothing of it waits any longer.
    pub(super) fn ripen(&mut self, worker: Option<u32>) {
        let concerned = |other: u32| worker.is_none_or(|worker| worker == other);
        self.polled_ns = 0;
        for heard in self.lines.iter_mut().filter(|heard| concerned(heard.worker)) {
            heard.arrived_ns = 0;
        }
        self.pairs.ripen(worker);
    }

    pub(super) fn is_needed(&self) -> bool {
        !self.workers.is_empty()
    }

    /// A socket that such a worker closed; given back where too many wait: it is told without its line then.
    pub(super) fn hold(&mut self, event: Event, now_ns: u64) -> Option<Event> {
        let Happening::Closed { connection, .. } = &event.happening else { return Some(event) };
        let key = (connection.worker, connection.remote.clone(), Fate::of_socket(connection));
        self.pairs.socket(key, event, now_ns)
    }

    /// A line of such a worker.
    pub(super) fn hear(&mut self, found: &Found<'_>, now_ns: u64) {
        let line = &found.line;
        let (Some(connection), Standing::Own) = (line.connection, found.standing) else { return };
        if line.level > ERROR {
            return;
        }
        let Some(spoken) = understand(&String::from_utf8_lossy(line.text), line.cut) else { return };
        if self.lines.len() >= CAPACITY {
            self.left_out += 1;
            return;
        }
        let (local_second, level, worker) = (line.local_second, line.level, found.worker);
        self.push(Heard { number: 0, arrived_ns: now_ns, worker, connection, local_second, level, spoken });
    }

    fn push(&mut self, heard: Heard) {
        self.heard += 1;
        let heard = Heard { number: self.heard, ..heard };
        if let Some(key) = heard.key() {
            self.pairs.line(key, heard.number);
        }
        self.lines.push(heard);
    }

    /// Lines since the last call that there was no room for.
    pub(super) fn take_left_out(&mut self) -> u64 {
        std::mem::take(&mut self.left_out)
    }

    /// What can be said now.
    pub(super) fn steps(&mut self, now_ns: u64, logs: &mut Logs) -> Vec<Step> {
        let mut steps = Vec::new();
        let ripe = |heard: &Heard| now_ns.saturating_sub(heard.arrived_ns) >= RIPE_NS;
        if self.lines.iter().any(ripe) {
            self.read_rows(now_ns, logs);
            self.groups(ripe).iter().for_each(|group| self.request(group, now_ns, &mut steps));
        }
        self.rows.retain(|_, rows| {
            rows.retain(|(arrived_ns, _)| now_ns.saturating_sub(*arrived_ns) < 2 * HOLD_NS);
            !rows.is_empty()
        });
        let mut unspoken = self.pairs.unspoken(now_ns);
        unspoken.sort_by_key(|event| event.moment.time_ns);
        steps.extend(unspoken.into_iter().map(Step::Event));
        steps
    }

    fn read_rows(&mut self, now_ns: u64, logs: &mut Logs) {
        let rows = &mut self.rows;
        let mut room = CAPACITY.saturating_sub(rows.values().map(Vec::len).sum());
        logs.read_access(|row| {
            // Without its row it is unknown what became of a request.
            if room > 0 {
                room -= 1;
                rows.entry((row.client.clone(), row.request.clone())).or_default().push((now_ns, row));
            }
        });
    }

    /// Takes the lines out that are ripe, each with those of the same client about the same request line at about its time.
    fn groups(&mut self, ripe: impl Fn(&Heard) -> bool) -> Vec<Vec<Heard>> {
        let mut lines: Vec<Option<Heard>> = std::mem::take(&mut self.lines).into_iter().map(Some).collect();
        let mut alike: HashMap<(String, String), Vec<usize>> = HashMap::new();
        for (place, heard) in lines.iter().enumerate() {
            let spoken = heard.as_ref().map(|heard| (heard.spoken.client.clone(), heard.spoken.request.clone()));
            alike.entry(spoken.unwrap_or_default()).or_default().push(place);
        }
        let mut groups = Vec::new();
        for first in 0..lines.len() {
            let Some(heard) = lines[first].as_ref().filter(|heard| ripe(heard)) else { continue };
            let key = (heard.spoken.client.clone(), heard.spoken.request.clone());
            let second = heard.local_second;
            let Some(places) = alike.get_mut(&key) else { continue };
            let mut group = Vec::new();
            places.retain(|&place| {
                let taken = lines[place].take_if(|heard| near(heard.local_second, second));
                let stays = taken.is_none();
                group.extend(taken);
                stays
            });
            groups.push(group);
        }
        self.lines = lines.into_iter().flatten().collect();
        groups
    }

    /// Lines of one client about one request line at about one time.
    fn request(&mut self, group: &[Heard], now_ns: u64, steps: &mut Vec<Step>) {
        let mut of_connection: HashMap<(u32, u64), Vec<&Heard>> = HashMap::new();
        let mut connections: Vec<(u32, u64)> = Vec::new();
        for heard in group {
            let lines = of_connection.entry((heard.worker, heard.connection)).or_default();
            if lines.is_empty() {
                connections.push((heard.worker, heard.connection));
            }
            lines.push(heard);
        }
        let status = self.answered(group, connections.len());
        // Several attempts of one request, or a request each.
        let shared = group.len() > connections.len() && status.is_some_and(|(_, rows)| rows == connections.len());
        for place in connections {
            let mut lines = of_connection.remove(&place).unwrap_or_default().into_iter().peekable();
            let mut former = None;
            while let Some(heard) = lines.next() {
                let number = former.filter(|_| shared).unwrap_or_else(|| {
                    self.requests += 1;
                    self.requests
                });
                former = Some(number);
                let (request, moment) = self.attempt(heard, number, now_ns, steps);
                if let Some((status, _)) = status
                    && (!shared || lines.peek().is_none())
                {
                    let moment = Moment { source: ACCESS_LOG, ..moment };
                    steps.push(Step::Event(Event { moment, happening: Happening::Status(Status { request, status }) }));
                }
            }
        }
    }

    /// What all of these requests were answered with, and in how many rows; None: the access log does not say, or says
    /// something else of one with the same words.
    fn answered(&mut self, group: &[Heard], connections: usize) -> Option<(u16, usize)> {
        let first = group.first()?;
        let request = escaped(&first.spoken.request);
        let all = self.rows.get_mut(&(first.spoken.client.clone(), request))?;
        let is_row = |(_, row): &mut (u64, Row)| near(row.local_second, first.local_second);
        let rows: Vec<u16> = all.extract_if(.., is_row).map(|(_, row)| row.status).collect();
        let status = *rows.first()?;
        let sure =
            rows.iter().all(|other| *other == status) && (rows.len() == connections || rows.len() == group.len());
        (sure && matches!(status, 502 | 504)).then_some((status, rows.len()))
    }

    /// One failed attempt.
    fn attempt(&mut self, heard: &Heard, number: u64, now_ns: u64, steps: &mut Vec<Step>) -> (Request, Moment) {
        let closed = heard.key().and_then(|key| self.pairs.tell(&key, heard.number, now_ns));
        let time_ns = closed.as_ref().map_or(now_ns, |event| event.moment.time_ns).saturating_sub(1);
        // Two of them at one time would be taken for one.
        self.attempts += 1;
        let time_ns = if closed.is_some() { time_ns } else { time_ns + self.attempts % APART_NS };
        let moment = Moment { time_ns, pid: heard.worker, sequence: 0, source: ERROR_LOG };
        let request = request(heard, number);
        let bound = match &closed {
            Some(Event { happening: Happening::Closed { connection, .. }, .. }) => Bound::Tcp(connection.clone()),
            _ => Bound::None,
        };
        let complaint = Complaint {
            subject: Subject::Http(request.clone()),
            bound,
            level: heard.level,
            errno: heard.spoken.errno,
            number: heard.spoken.number,
            literal: heard.spoken.literal.to_owned(),
            text: heard.spoken.text.clone(),
            action: heard.spoken.action.clone(),
            kind: None,
        };
        let id = ComplaintId { worker: heard.worker, time_ns };
        let event = Event { moment, happening: Happening::Complaint(complaint) };
        steps.push(Step::Word(id, event, heard.spoken.told.clone()));
        match closed {
            Some(event) => steps.push(Step::Event(event)),
            None => steps.push(Step::WithoutSocket(heard.worker)),
        }
        (request, moment)
    }
}

/// The request of a line, as the engine knows requests; its number stands for the address in nginx's memory.
fn request(heard: &Heard, number: u64) -> Request {
    // No address of user space.
    let address = (1 << 63) | number;
    Request {
        request: address,
        main: address,
        connection: heard.connection,
        has_upstream: true,
        log_level: ERROR,
        peer: heard.spoken.peer.clone(),
        client: Some(heard.spoken.client.clone()),
        line: Some(heard.spoken.request.clone()),
        ..Request::default()
    }
}

/// Within a second of each other, whatever the zones.
fn near(one: i64, other: i64) -> bool {
    let apart = (one - other).rem_euclid(ZONES_S);
    apart <= 1 || apart >= ZONES_S - 1
}

#[cfg(test)]
mod tests {
    use super::{Fallback, Heard, Logs, RIPE_NS, Row, Step, understand};
    use crate::model::event::{Complaint, Happening, Subject};

    fn heard(connection: u64, peer: &str) -> Heard {
        let text = format!(
            "connect() failed (111: Connection refused) while connecting to upstream, client: 127.0.0.1, server: s, \
             request: \"GET / HTTP/1.1\", upstream: \"http://{peer}/\""
        );
        let spoken = understand(&text, false).expect("a line of nginx");
        Heard { number: 0, arrived_ns: 1, worker: 7, connection, local_second: 1000, level: 4, spoken }
    }

    fn row(status: u16) -> (u64, Row) {
        let (client, request) = ("127.0.0.1".to_owned(), "GET / HTTP/1.1".to_owned());
        // Another zone, and a second later.
        (1, Row { local_second: 1001 + 3600, client, request, status })
    }

    /// Requests of the complaints, and of the answers with their status, in their order.
    fn told(lines: Vec<Heard>, rows: Vec<(u64, Row)>) -> (Vec<u64>, Vec<(u64, u16)>) {
        let mut fallback = Fallback::default();
        lines.into_iter().for_each(|heard| fallback.push(heard));
        for (at, row) in rows {
            fallback.rows.entry((row.client.clone(), row.request.clone())).or_default().push((at, row));
        }
        let (mut complaints, mut answers, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for step in fallback.steps(RIPE_NS + 1, &mut Logs::default()) {
            match step {
                Step::Word(id, event, _) => {
                    assert!(!ids.contains(&id), "a word of its own time");
                    ids.push(id);
                    let Happening::Complaint(Complaint { subject: Subject::Http(request), .. }) = event.happening
                    else {
                        panic!("a word is a complaint about a request");
                    };
                    complaints.push(request.main);
                }
                Step::Event(event) => {
                    let Happening::Status(status) = event.happening else { panic!("no socket was closed") };
                    answers.push((status.request.main, status.status));
                }
                Step::WithoutSocket(worker) => assert_eq!(worker, 7),
            }
        }
        (complaints, answers)
    }

    #[test]
    fn one_row_answers_one_request() {
        let (complaints, answers) = told(vec![heard(1, "127.0.0.1:1")], vec![row(502)]);
        assert_eq!(answers, [(complaints[0], 502)]);
    }

    #[test]
    fn several_attempts_of_one_request_share_its_row() {
        let (complaints, answers) = told(vec![heard(1, "127.0.0.1:1"), heard(1, "127.0.0.1:2")], vec![row(502)]);
        assert_eq!(complaints[0], complaints[1]);
        assert_eq!(answers, [(complaints[0], 502)]);
    }

    #[test]
    fn as_many_rows_as_lines_are_one_each() {
        let lines = vec![heard(1, "127.0.0.1:1"), heard(1, "127.0.0.1:1"), heard(2, "127.0.0.1:1")];
        let (complaints, answers) = told(lines, vec![row(502), row(502), row(502)]);
        assert_eq!(answers.iter().map(|(main, _)| *main).collect::<Vec<_>>(), complaints);
        assert_ne!(complaints[0], complaints[1]);
    }

    #[test]
    fn what_can_mean_two_things_is_no_answer() {
        let lines = || vec![heard(1, "127.0.0.1:1"), heard(2, "127.0.0.1:1")];
        for rows in
            [vec![], vec![row(502)], vec![row(502), row(200)], vec![row(200), row(200)], vec![row(502), row(504)]]
        {
            let (complaints, answers) = told(lines(), rows);
            assert_eq!(answers, []);
            assert_ne!(complaints[0], complaints[1]);
        }
    }

    #[test]
    fn a_line_waits_for_its_row() {
        let mut fallback = Fallback::default();
        fallback.push(heard(1, "127.0.0.1:1"));
        assert!(fallback.steps(RIPE_NS, &mut Logs::default()).is_empty());
        assert!(!fallback.steps(RIPE_NS + 1, &mut Logs::default()).is_empty());
    }
}
