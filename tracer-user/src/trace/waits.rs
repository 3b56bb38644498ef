//! Where requests wait that were not answered in time: looked at aside, because the descriptors of all processes are many.
//!
//! A verdict waits a moment for what is seen, the session does not; what comes later makes an `update`.

use std::{
    collections::VecDeque,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use crate::{
    context::ends::{Question, Seen, Wanted, look},
    kernel::clock,
    model::{
        address::Address,
        cause::Cause,
        host::Ends,
        verdict::{Failure, QueueFull, VerdictId},
    },
};

/// Failures that wait for a look, and those that one look answers.
const QUEUED: usize = 256;
const BATCH: usize = 64;
/// The part of the time that looking may take: one in so many, reckoned over the time before. On a slow machine one look takes
/// a third of a second, and what fails together is not all seen by the first.
const SHARE: u32 = 20;
const BEFORE: Duration = Duration::from_secs(20);
/// What is seen so long after a failure says little about it.
const LATE_NS: u64 = 2_000_000_000;
/// Failures told without an answer, whose answers are still of use.
const KEPT: usize = 256;

/// What was seen, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) taken_ns: u64,
    pub(super) seen: Seen,
}

/// Failures to be looked at, and those that were.
#[derive(Debug, Default)]
pub(super) struct Waits {
    queued: VecDeque<(VerdictId, Question)>,
    looking: Option<(Vec<VerdictId>, Receiver<Looked>)>,
    next: Option<Instant>,
    seen: VecDeque<(VerdictId, Look)>,
    /// Told already.
    late: VecDeque<Failure>,
}

/// When it was looked, how long that took, and what was seen.
type Looked = (u64, Duration, Vec<Option<Seen>>);

impl Waits {
    /// May there be something to be seen about this failure?
    pub(super) fn wants(&self, failure: &Failure) -> bool {
        self.queued.len() < QUEUED && wanted(failure, None).is_some()
    }

    /// Is to look, at the next turn, for all that have failed by then; `led`: its ends where it arrives, if that is not where
    /// nginx sent it.
    pub(super) fn ask(&mut self, failure: &Failure, led: Option<Ends>) {
        let Some(wanted) = wanted(failure, led) else { return };
        let question = Question { worker: failure.worker, time_ns: failure.time_ns, wanted };
        self.queued.push_back((failure.id, question));
    }

    fn begin(&mut self) {
        let now = Instant::now();
        if self.looking.is_some() || self.queued.is_empty() || self.next.is_some_and(|next| now < next) {
            return;
        }
        let now_ns = clock::monotonic_ns();
        self.queued.retain(|(_, question)| now_ns.saturating_sub(question.time_ns) < LATE_NS);
        let batch: Vec<_> = self.queued.drain(..self.queued.len().min(BATCH)).collect();
        let (ids, questions): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let (sender, receiver) = channel();
        let look = move || {
            let begun = Instant::now();
            let seen = look(&questions);
            // Processes were looked at last. Nobody waits for it any more when the session has ended.
            let _ = sender.send((clock::monotonic_ns(), begun.elapsed(), seen));
        };
        // Without a thread there is nothing to be seen.
        if !ids.is_empty() && thread::Builder::new().name("look-at-ends".into()).spawn(look).is_ok() {
            self.looking = Some((ids, receiver));
        }
    }

    /// Takes in what was seen, waiting so long for it, and looks again if it is time for that.
    fn turn(&mut self, patience: Duration) {
        if let Some((ids, receiver)) = &mut self.looking {
            match receiver.recv_timeout(patience) {
                Ok((taken_ns, took, seen)) => {
                    let now = Instant::now();
                    let earliest = now.checked_sub(BEFORE).unwrap_or(now);
                    self.next = Some(self.next.map_or(earliest, |next| next.max(earliest)) + took * SHARE);
                    let found = ids.drain(..).zip(seen);
                    self.seen.extend(found.filter_map(|(id, seen)| Some((id, Look { taken_ns, seen: seen? }))));
                    while self.seen.len() > KEPT {
                        self.seen.pop_front();
                    }
                    self.looking = None;
                }
                Err(RecvTimeoutError::Disconnected) => self.looking = None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        self.begin();
    }

    fn is_asked(&self, id: VerdictId) -> bool {
        let looking = self.looking.as_ref().is_some_and(|(ids, _)| ids.contains(&id));
        looking || self.queued.iter().any(|(queued, _)| *queued == id)
    }

    /// Is something still to be seen for this failure?
    pub(super) fn waits(&mut self, failure: &Failure) -> bool {
        self.turn(Duration::ZERO);
        self.is_asked(failure.id)
    }

    /// What was seen for this failure; None: it follows, or there is nothing.
    pub(super) fn answer(&mut self, failure: &Failure) -> Option<Look> {
        if self.waits(failure) {
            if self.late.len() >= KEPT {
                self.late.pop_front();
            }
            self.late.push_back(failure.clone());
            return None;
        }
        let place = self.seen.iter().position(|(id, _)| *id == failure.id)?;
        self.seen.remove(place).map(|(_, look)| look)
    }

    /// What was seen since for failures that did not wait; waits so long for what is missing.
    pub(super) fn late(&mut self, patience: Duration) -> Vec<(Failure, Look)> {
        let end = Instant::now() + patience;
        self.turn(patience);
        while self.looking.is_some() && Instant::now() < end {
            self.turn(end.saturating_duration_since(Instant::now()));
        }
        let mut found = Vec::new();
        for failure in std::mem::take(&mut self.late) {
            if self.is_asked(failure.id) {
                self.late.push_back(failure);
            } else if let Some(place) = self.seen.iter().position(|(id, _)| *id == failure.id) {
                found.extend(self.seen.remove(place).map(|(_, look)| (failure, look)));
            }
        }
        found
    }
}

/// Which end is looked for, of a connection that is led there.
fn wanted(failure: &Failure, led: Option<Ends>) -> Option<Wanted> {
    let there = led.map(|led| Address::Tcp(led.remote));
    let upstream = there.as_ref().or(failure.upstream.as_ref())?;
    match failure.cause {
        // Nobody let it in: who should have?
        _ if failure.connection.queue_full == Some(QueueFull::Accept) => Some(Wanted::Listener(upstream.clone())),
        Cause::SocketBacklogFull => Some(Wanted::Listener(upstream.clone())),
        // Before the kernel sent its SYN again, nobody has looked at the listener.
        Cause::ConnectTimeout | Cause::ConnectTimeoutKernel => {
            matches!(upstream, Address::Tcp(_)).then(|| Wanted::Listener(upstream.clone()))
        }
        Cause::ResponseTimeout | Cause::SendTimeout | Cause::ResponseStalled | Cause::TlsTimeout => match upstream {
            Address::Tcp(upstream) => {
                let Some(Address::Tcp(nginx)) = failure.connection.local else { return None };
                Some(Wanted::Tcp { upstream: *upstream, nginx: led.map_or(nginx, |led| led.local) })
            }
            Address::Unix(_) => {
                let end = failure.connection.other_end.as_ref().filter(|end| !end.closed)?;
                if end.accepted { end.inode.map(Wanted::Inode) } else { Some(Wanted::Listener(upstream.clone())) }
            }
            Address::Name(_) => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        time::{Duration, Instant},
    };

    use super::{Waits, wanted};
    use crate::{
        context::ends::{Seen, Wanted},
        kernel::clock::monotonic_ns,
        model::{
            address::Address,
            cause::Cause,
            host::Ends,
            unix::OtherEnd,
            verdict::{Failure, QueueFull, VerdictId},
        },
        trace::roots::samples::failure,
    };

    fn timeout(upstream: &str, local: Option<&str>) -> Failure {
        let mut failure = failure(Cause::ResponseTimeout);
        failure.upstream = Some(Address::Tcp(upstream.parse().expect("an address")));
        failure.connection.local = local.map(|local| Address::Tcp(local.parse().expect("an address")));
        failure
    }

    #[test]
    fn which_end_is_looked_for() {
        let failure = timeout("127.0.0.1:80", Some("127.0.0.1:4000"));
        let ends = |upstream: &str, nginx: &str| {
            let (upstream, nginx) = (upstream.parse().expect("an address"), nginx.parse().expect("an address"));
            Some(Wanted::Tcp { upstream, nginx })
        };
        assert_eq!(wanted(&failure, None), ends("127.0.0.1:80", "127.0.0.1:4000"));
        let there = |local: &str| Ends {
            netns: 1,
            local: local.parse().expect("an address"),
            remote: "10.99.0.2:8080".parse().expect("an address"),
        };
        assert_eq!(wanted(&failure, Some(there("10.99.0.1:5000"))), ends("10.99.0.2:8080", "10.99.0.1:5000"));
        let wanted = |failure: &Failure| wanted(failure, None);
        assert_eq!(wanted(&timeout("127.0.0.1:80", None)), None);
        let mut full = failure.clone();
        full.connection.queue_full = Some(QueueFull::Accept);
        assert!(matches!(wanted(&full), Some(Wanted::Listener(_))));
        let silent = Failure { cause: Cause::ConnectTimeout, ..failure.clone() };
        assert!(matches!(wanted(&silent), Some(Wanted::Listener(_))), "is its queue full now?");
        assert_eq!(wanted(&Failure { cause: Cause::ClosedBeforeResponse, ..failure.clone() }), None);
        let mut unix = failure;
        unix.upstream = Some(Address::Unix("/run/a.sock".into()));
        let end =
            |closed, accepted, inode| OtherEnd { closed, accepted, inode, unread: 0, listener: None, closing: None };
        unix.connection.other_end = Some(end(false, true, Some(7)));
        assert_eq!(wanted(&unix), Some(Wanted::Inode(7)));
        unix.connection.other_end = Some(end(false, true, None));
        assert_eq!(wanted(&unix), None, "whose it is is not known");
        unix.connection.other_end = Some(end(false, false, None));
        assert!(matches!(wanted(&unix), Some(Wanted::Listener(_))));
        unix.connection.other_end = Some(end(true, false, None));
        assert_eq!(wanted(&unix), None);
    }

    #[test]
    fn each_failure_is_answered_once_now_or_later() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let upstream = listener.local_addr().expect("bound").to_string();
        let clients: Vec<TcpStream> = (0..5).map(|_| TcpStream::connect(&upstream).expect("it listens")).collect();
        let mut waits = Waits::default();
        let failures: Vec<Failure> = (0..)
            .zip(&clients)
            .map(|(number, client)| {
                let local = client.local_addr().expect("connected").to_string();
                let time_ns = monotonic_ns();
                let id = VerdictId(number);
                Failure { id, time_ns, worker: std::process::id(), ..timeout(&upstream, Some(&local)) }
            })
            .collect();
        failures.iter().for_each(|failure| waits.ask(failure, None));
        let now: Vec<_> = failures.iter().filter_map(|failure| waits.answer(failure)).collect();
        let mut later = Vec::new();
        let end = Instant::now() + Duration::from_secs(20);
        while failures.iter().any(|failure| waits.is_asked(failure.id)) && Instant::now() < end {
            later.extend(waits.late(Duration::from_millis(10)));
        }
        // Without the right to change namespaces there is nothing to see.
        let seen = now.len() + later.len();
        assert!(seen == 5 || seen == 0, "{seen}");
        assert!(later.iter().all(|(_, look)| matches!(look.seen, Seen::Queued(_))));
    }
}
