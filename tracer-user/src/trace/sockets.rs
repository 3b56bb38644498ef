//! Unix sockets behind failures: looked at aside, because directories may never answer and lists are long.
//!
//! A verdict waits a moment for what is seen, the session does not; what comes later makes an `update`.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    context::namespaces::Snapshot,
    context::unix::{
        holders::Holder,
        look::{Asked, Known, Look, Seen, look, survey},
        places::Places,
    },
    model::{address::Address, cause::Cause, host::HostEvent, verdict::Failure},
};

/// How long what was seen is good for, at least, and by how long it took to see: a flood of failures looks once.
const FRESH: Duration = Duration::from_millis(100);
const FRESH_SHARE: u32 = 20;
/// Looks on their way, and kept.
const MOST: usize = 4;
const KEPT: usize = 256;
/// Failures that wait for one look.
const WAITING: usize = 4096;
/// How often it is looked who listens, and the part of the time that it may take: one in so many.
const PERIOD: Duration = Duration::from_secs(2);
const SHARE: u32 = 400;
/// How soon, and how often, it is asked again whether there is anything to look at.
const SOON: Duration = Duration::from_millis(250);
const EARLY: u32 = 20;
/// Upstreams outside of what the configuration says, as met in failures.
const MET: usize = 256;

/// What was seen of a failure's socket.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) asked: Asked,
    pub(super) look: Arc<Look>,
}

#[derive(Debug)]
enum Looked {
    /// Others are looked at.
    Queued,
    Waiting(Receiver<(Option<Look>, Duration)>),
    Seen(Option<Arc<Look>>),
}

#[derive(Debug)]
struct Asking {
    cause: Cause,
    asked: Asked,
    since: Instant,
    looked: Looked,
    fresh: Duration,
    late: Vec<(u64, u64)>,
}

/// Looks on their way, and who listens where.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    pub(super) places: Places,
    asking: Vec<Asking>,
    /// What is seen, and how long that took.
    surveying: Option<Receiver<(Vec<Seen>, Snapshot, Duration)>>,
    next_survey: Option<Instant>,
    early: u32,
    /// Of the host, when last looked.
    namespaces: Arc<Snapshot>,
    met: BTreeSet<(u32, String)>,
    /// Processes that listen and were not known to.
    new: Vec<Holder>,
}

impl Sockets {
    /// Looks, if there is something to be seen about this failure.
    pub(super) fn ask(&mut self, failure: &Failure) {
        let Some((cause, asked)) = asked(failure) else { return };
        self.asking.retain(Asking::is_of_use);
        if self.of(cause, &asked).is_some() || self.asking.len() >= KEPT {
            return;
        }
        if self.met.len() < MET {
            self.met.insert((asked.worker, asked.path.clone()));
        }
        let since = Instant::now();
        self.asking.push(Asking { cause, asked, since, looked: Looked::Queued, fresh: FRESH, late: Vec::new() });
        self.begin();
    }

    /// Begins to look for those whose turn it is.
    fn begin(&mut self) {
        let on_the_way = self.asking.iter().filter(|asking| matches!(asking.looked, Looked::Waiting(_))).count();
        let known = Known { holders: self.places.holders(), namespaces: Arc::clone(&self.namespaces) };
        let queued = self.asking.iter_mut().filter(|asking| matches!(asking.looked, Looked::Queued));
        for asking in queued.take(MOST.saturating_sub(on_the_way)) {
            let (sender, receiver) = channel();
            let (question, known) = (asking.asked.clone(), known.clone());
            let look = move || {
                let begun = Instant::now();
                let seen = look(&question, &known);
                // Nobody waits for it any more when the session has ended.
                let _ = sender.send((seen, begun.elapsed()));
            };
            asking.looked = match thread::Builder::new().name("look-at-socket".into()).spawn(look) {
                Ok(_) => Looked::Waiting(receiver),
                // Without a thread there is nothing to be seen.
                Err(_) => Looked::Seen(None),
            };
        }
    }

    fn of(&mut self, cause: Cause, asked: &Asked) -> Option<&mut Asking> {
        self.asking.iter_mut().find(|asking| {
            asking.cause == cause && asking.asked.worker == asked.worker && asking.asked.path == asked.path
        })
    }

    /// Is something still to be seen for this failure? The verdict may wait for it; nothing here does.
    pub(super) fn waits(&mut self, failure: &Failure) -> bool {
        let Some((cause, asked)) = asked(failure) else { return false };
        let Some(asking) = self.of(cause, &asked) else { return false };
        let seen = asking.wait(Duration::ZERO);
        let waits = !matches!(asking.looked, Looked::Seen(_));
        self.see(seen);
        self.begin();
        waits
    }

    /// What was seen for this failure; None: it follows, or there is nothing.
    pub(super) fn answer(&mut self, failure: &Failure) -> Option<Answer> {
        if self.waits(failure) {
            let (cause, asked) = asked(failure)?;
            let asking = self.of(cause, &asked).filter(|asking| asking.late.len() < WAITING)?;
            asking.late.push((failure.id.0, failure.time_ns));
            return None;
        }
        let (cause, asked) = asked(failure)?;
        let Looked::Seen(Some(look)) = &self.of(cause, &asked)?.looked else { return None };
        Some(Answer { look: Arc::clone(look), asked })
    }

    /// What was seen since for failures that did not wait, by their ids; waits so long for what is missing.
    pub(super) fn late(&mut self, patience: Duration) -> Vec<(u64, Cause, Answer)> {
        let (mut found, mut seen) = (Vec::new(), Vec::new());
        let end = Instant::now() + patience;
        for index in 0..self.asking.len() {
            self.begin();
            let asking = &mut self.asking[index];
            seen.extend(asking.wait(end.saturating_duration_since(Instant::now())));
            let Looked::Seen(look) = &asking.looked else { continue };
            for (id, time_ns) in std::mem::take(&mut asking.late) {
                let asked = Asked { time_ns, ..asking.asked.clone() };
                found.extend(look.clone().map(|look| (id, asking.cause, Answer { asked, look })));
            }
        }
        self.see(seen);
        found
    }

    /// Begins to look who listens, if it is time for that: `configured` are the paths by worker.
    pub(super) fn survey(&mut self, configured: impl FnOnce() -> Vec<(u32, Vec<String>)>) {
        let now = Instant::now();
        if self.surveying.is_some() || self.next_survey.is_some_and(|next| now < next) {
            return;
        }
        self.next_survey = Some(now + PERIOD);
        let mut places = configured();
        self.met.retain(|(worker, _)| Path::new(&format!("/proc/{worker}")).exists());
        for (worker, path) in &self.met {
            if !places.iter().any(|(_, paths)| paths.contains(path)) {
                places.push((*worker, vec![path.clone()]));
            }
        }
        if places.iter().all(|(_, paths)| paths.is_empty()) {
            // The configuration may not have been read yet.
            if self.early < EARLY {
                self.early += 1;
                self.next_survey = Some(now + SOON);
            }
            return;
        }
        let (sender, receiver) = channel();
        let known = self.places.holders();
        let look = move || {
            let begun = Instant::now();
            let (seen, namespaces) = survey(&places, &known);
            let _ = sender.send((seen, namespaces, begun.elapsed()));
        };
        if thread::Builder::new().name("look-at-sockets".into()).spawn(look).is_ok() {
            self.surveying = Some(receiver);
        }
    }

    /// Takes in who listens, once that was seen; waits so long. Gives the processes that were not known to.
    pub(super) fn surveyed(&mut self, patience: Duration) -> Vec<Holder> {
        if let Some(receiver) = &self.surveying {
            match receiver.recv_timeout(patience) {
                Ok((seen, namespaces, took)) => {
                    self.surveying = None;
                    self.namespaces = Arc::new(namespaces);
                    self.next_survey = Some(Instant::now() + PERIOD.max(took * SHARE));
                    self.see(seen);
                }
                Err(RecvTimeoutError::Disconnected) => self.surveying = None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        std::mem::take(&mut self.new)
    }

    /// Takes in what happened to a process; gives the paths that it served.
    pub(super) fn event(&mut self, event: &HostEvent) -> Vec<String> {
        let served = self.places.event(event);
        if !served.is_empty() && self.surveying.is_none() {
            // Another may listen there soon.
            self.next_survey = None;
        }
        served
    }

    fn see(&mut self, seen: impl IntoIterator<Item = Seen>) {
        for seen in seen {
            self.new.extend(self.places.take(seen));
        }
    }
}

impl Asking {
    fn is_of_use(&self) -> bool {
        self.since.elapsed() < self.fresh || !self.late.is_empty() || !matches!(self.looked, Looked::Seen(_))
    }

    /// Takes what was seen if it comes in time.
    fn wait(&mut self, patience: Duration) -> Option<Seen> {
        let Looked::Waiting(receiver) = &self.looked else { return None };
        let look = match receiver.recv_timeout(patience) {
            Ok((look, took)) => {
                self.fresh = FRESH.max(took * FRESH_SHARE);
                look.map(Arc::new)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => return None,
        };
        let seen = look.as_ref().map(|look| look.seen(&self.asked.path));
        self.looked = Looked::Seen(look);
        seen
    }
}

/// What there is to be asked about a failure.
fn asked(failure: &Failure) -> Option<(Cause, Asked)> {
    let Some(Address::Unix(path)) = &failure.upstream else { return None };
    let wanted = [Cause::SocketMissing, Cause::SocketDenied, Cause::SocketRefused, Cause::SocketBacklogFull]
        .contains(&failure.cause);
    // A path that is no UTF-8 is not known.
    (wanted && !path.contains('\u{fffd}') && !path.is_empty())
        .then(|| (failure.cause, Asked { worker: failure.worker, time_ns: failure.time_ns, path: path.clone() }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Sockets;
    use crate::{
        context::unix::walk::End,
        kernel::clock::monotonic_ns,
        model::{
            address::Address,
            cause::Cause,
            verdict::{Failure, VerdictId},
        },
        trace::roots::samples::failure,
    };

    fn missing(number: u64) -> Failure {
        let mut failure = failure(Cause::SocketMissing);
        failure.id = VerdictId(number);
        failure.worker = std::process::id();
        failure.time_ns = monotonic_ns();
        failure.upstream = Some(Address::Unix(format!("/nowhere/{number}.sock")));
        failure
    }

    #[test]
    fn each_failure_is_answered_once_now_or_later() {
        let mut sockets = Sockets::default();
        let failures: Vec<Failure> = (0..20).map(missing).collect();
        failures.iter().for_each(|failure| sockets.ask(failure));
        let now = failures.iter().filter_map(|failure| Some(sockets.answer(failure)?.asked.path)).count();
        let later = sockets.late(Duration::from_secs(60));
        assert_eq!(now + later.len(), failures.len());
        for (id, cause, answer) in later {
            assert_eq!((answer.asked.path, cause), (format!("/nowhere/{id}.sock"), Cause::SocketMissing));
            let end = answer.look.walk.as_ref().map(|walk| walk.end.clone());
            assert_eq!(end, Some(End::Missing { path: "/nowhere".into(), last: false }));
        }
        assert!(sockets.late(Duration::ZERO).is_empty());
    }

    #[test]
    fn what_is_not_known_is_not_looked_at() {
        let mut sockets = Sockets::default();
        let mut gone = missing(1);
        gone.time_ns = 0; // The worker that has the number now came later.
        sockets.ask(&gone);
        assert!(sockets.answer(&gone).is_none() && sockets.late(Duration::from_secs(60)).is_empty());
        let mut odd = missing(2);
        odd.upstream = Some(Address::Unix("/run/\u{fffd}.sock".into()));
        sockets.ask(&odd);
        assert!(
            sockets
                .of(
                    Cause::SocketMissing,
                    &super::Asked { worker: odd.worker, time_ns: 0, path: "/run/\u{fffd}.sock".into() }
                )
                .is_none()
        );
    }
}
