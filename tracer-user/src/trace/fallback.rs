//! Workers whose binary has no symbols: no uprobe hears nginx there, and its log files speak instead.
//!
//! A line has a time in seconds and no place among the events of its thread. So it is `likely` at most, is bound to a socket
//! only where as many sockets as lines are in question, and says what became of a request only where the access log has
//! rows that can mean nothing else. What the kernel sees of these workers waits until their lines have been read.

use std::collections::HashSet;

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

/// The hook of a complaint that was read, as in `evidence.source`.
pub(super) const ERROR_LOG: &str = "error_log";
const ACCESS_LOG: &str = "access_log";
/// How often the files are looked at: nothing else tells that there are lines.
const POLL_NS: u64 = 100_000_000;
/// A line waits so long for its socket and its row.
const RIPE_NS: u64 = 100_000_000;
/// A socket waits so long for its line.
const HOLD_NS: u64 = 1_000_000_000;
/// Kept of each at most.
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
    closed: Vec<(u64, Event)>,
    rows: Vec<(u64, Row)>,
    /// Worker, peer and second of lines told lately: sockets that were theirs are no failures of their own.
    told: Vec<(u64, u32, Address)>,
    requests: u64,
    attempts: u64,
    polled_ns: u64,
}

#[derive(Debug)]
struct Heard {
    arrived_ns: u64,
    worker: u32,
    connection: u64,
    local_second: i64,
    level: u32,
    spoken: Spoken,
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
        for (arrived_ns, _) in self.closed.iter_mut().filter(|(_, event)| concerned(event.moment.pid)) {
            *arrived_ns = 0;
        }
    }

    pub(super) fn is_needed(&self) -> bool {
        !self.workers.is_empty()
    }

    /// A socket that such a worker closed; given back where too many wait: it is told without its line then.
    pub(super) fn hold(&mut self, event: Event, now_ns: u64) -> Option<Event> {
        if self.closed.len() >= CAPACITY {
            return Some(event);
        }
        self.closed.push((now_ns, event));
        None
    }

    /// A line of such a worker.
    pub(super) fn hear(&mut self, found: &Found<'_>, now_ns: u64) {
        let line = &found.line;
        let (Some(connection), Standing::Own) = (line.connection, found.standing) else { return };
        if line.level > ERROR || self.lines.len() >= CAPACITY {
            return;
        }
        let Some(spoken) = understand(&String::from_utf8_lossy(line.text), line.cut) else { return };
        let (local_second, level, worker) = (line.local_second, line.level, found.worker);
        self.lines.push(Heard { arrived_ns: now_ns, worker, connection, local_second, level, spoken });
    }

    /// What can be said now.
    pub(super) fn steps(&mut self, now_ns: u64, logs: &mut Logs) -> Vec<Step> {
        let mut steps = Vec::new();
        let ripe = |heard: &Heard| now_ns.saturating_sub(heard.arrived_ns) >= RIPE_NS;
        if self.lines.iter().any(ripe) {
            let rows = &mut self.rows;
            logs.read_access(|row| {
                if rows.len() < CAPACITY {
                    rows.push((now_ns, row));
                }
            });
        }
        while let Some(first) = self.lines.iter().find(|heard| ripe(heard)) {
            let key = (first.spoken.client.clone(), first.spoken.request.clone(), first.local_second);
            let alike = |heard: &Heard| {
                heard.spoken.client == key.0 && heard.spoken.request == key.1 && near(heard.local_second, key.2)
            };
            let (group, others): (Vec<Heard>, _) = std::mem::take(&mut self.lines).into_iter().partition(alike);
            self.lines = others;
            self.request(&group, now_ns, &mut steps);
        }
        self.rows.retain(|(arrived_ns, _)| now_ns.saturating_sub(*arrived_ns) < 2 * HOLD_NS);
        self.told.retain(|(time_ns, _, _)| now_ns.saturating_sub(*time_ns) < 2 * HOLD_NS);
        let old = |(arrived_ns, _): &(u64, Event)| now_ns.saturating_sub(*arrived_ns) >= HOLD_NS;
        let (old, young) = std::mem::take(&mut self.closed).into_iter().partition(old);
        self.closed = young;
        let old: Vec<(u64, Event)> = old;
        for (_, event) in old {
            let of_line = remote(&event).is_some_and(|(worker, remote)| {
                self.told.iter().any(|(_, teller, peer)| *teller == worker && peer == remote)
            });
            if !of_line {
                steps.push(Step::Event(event));
            }
        }
        steps
    }

    /// Lines of one client about one request line at about one time.
    fn request(&mut self, group: &[Heard], now_ns: u64, steps: &mut Vec<Step>) {
        let mut connections: Vec<(u32, u64)> = Vec::new();
        for heard in group {
            if !connections.contains(&(heard.worker, heard.connection)) {
                connections.push((heard.worker, heard.connection));
            }
        }
        let status = self.answered(group, connections.len());
        // Several attempts of one request, or a request each.
        let shared = group.len() > connections.len() && status.is_some_and(|(_, rows)| rows == connections.len());
        for place in connections {
            let mut lines = group.iter().filter(|heard| (heard.worker, heard.connection) == place).peekable();
            let mut former = None;
            while let Some(heard) = lines.next() {
                let number = former.filter(|_| shared).unwrap_or_else(|| {
                    self.requests += 1;
                    self.requests
                });
                former = Some(number);
                let (request, moment) = self.attempt(heard, number, group, now_ns, steps);
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
        let is_row = |row: &Row| {
            row.client == first.spoken.client && row.request == request && near(row.local_second, first.local_second)
        };
        let rows: Vec<u16> = self.rows.iter().filter(|(_, row)| is_row(row)).map(|(_, row)| row.status).collect();
        self.rows.retain(|(_, row)| !is_row(row));
        let status = *rows.first()?;
        let sure =
            rows.iter().all(|other| *other == status) && (rows.len() == connections || rows.len() == group.len());
        (sure && matches!(status, 502 | 504)).then_some((status, rows.len()))
    }

    /// One failed attempt.
    fn attempt(
        &mut self,
        heard: &Heard,
        number: u64,
        group: &[Heard],
        now_ns: u64,
        steps: &mut Vec<Step>,
    ) -> (Request, Moment) {
        let peer = heard.spoken.peer.as_deref().map(Address::from_nginx);
        let closed = peer.as_ref().and_then(|peer| self.socket(heard.worker, peer, group, steps));
        let time_ns = closed.as_ref().map_or(now_ns, |event| event.moment.time_ns).saturating_sub(1);
        // Two of them at one time would be taken for one.
        self.attempts += 1;
        let time_ns = if closed.is_some() { time_ns } else { time_ns + self.attempts % 1000 };
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
        if let Some(peer) = peer {
            self.told.push((now_ns, heard.worker, peer));
        }
        (request, moment)
    }

    /// The socket that a line is about: the first of those that this worker closed to this peer, if there are as many as
    /// lines about it.
    fn socket(&mut self, worker: u32, peer: &Address, group: &[Heard], steps: &[Step]) -> Option<Event> {
        let about = |heard: &&Heard| {
            heard.worker == worker && heard.spoken.peer.as_deref().map(Address::from_nginx).as_ref() == Some(peer)
        };
        let of_group = group.iter().filter(about).count();
        let spoken =
            steps.iter().filter(|step| matches!(step, Step::Word(_, event, _) if is_about(event, worker, peer)));
        let lines = self.lines.iter().filter(about).count() + of_group.saturating_sub(spoken.count());
        let sockets = self.closed.iter().filter(|(_, event)| remote(event) == Some((worker, peer))).count();
        if sockets != lines {
            return None;
        }
        let index = self.closed.iter().position(|(_, event)| remote(event) == Some((worker, peer)))?;
        Some(self.closed.remove(index).1)
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

fn is_about(event: &Event, worker: u32, peer: &Address) -> bool {
    let Happening::Complaint(Complaint { subject: Subject::Http(request), .. }) = &event.happening else {
        return false;
    };
    event.moment.pid == worker && request.peer.as_deref().map(Address::from_nginx).as_ref() == Some(peer)
}

/// Whose socket it was, and to whom.
fn remote(event: &Event) -> Option<(u32, &Address)> {
    match &event.happening {
        Happening::Closed { connection, .. } => Some((connection.worker, &connection.remote)),
        _ => None,
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
        Heard { arrived_ns: 1, worker: 7, connection, local_second: 1000, level: 4, spoken }
    }

    fn row(status: u16) -> (u64, Row) {
        let (client, request) = ("127.0.0.1".to_owned(), "GET / HTTP/1.1".to_owned());
        // Another zone, and a second later.
        (1, Row { local_second: 1001 + 3600, client, request, status })
    }

    /// Requests of the complaints, and of the answers with their status, in their order.
    fn told(lines: Vec<Heard>, rows: Vec<(u64, Row)>) -> (Vec<u64>, Vec<(u64, u16)>) {
        let mut fallback = Fallback { lines, rows, ..Fallback::default() };
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
        let mut fallback = Fallback { lines: vec![heard(1, "127.0.0.1:1")], ..Fallback::default() };
        assert!(fallback.steps(RIPE_NS, &mut Logs::default()).is_empty());
        assert!(!fallback.steps(RIPE_NS + 1, &mut Logs::default()).is_empty());
    }
}
