//! Full accept queues where the kernel has no hook that sees a SYN dropped: looked at from time to time, aside.

use std::{
    collections::HashMap,
    sync::mpsc::{Receiver, TryRecvError, channel},
    thread,
    time::{Duration, Instant},
};

use tracer_common::listener::Overflowed;

use crate::{
    context::backlog::{Backlog, backlogs},
    kernel::clock,
    model::host::Place,
};

/// The part of the time that it may take: one in so many.
const SHARE: u32 = 400;

/// What was seen, when (monotonic, ns), and how long that took.
type Seen = (Vec<Backlog>, u64, Duration);

/// The listeners' drops when last seen, by their cookies.
#[derive(Debug, Default)]
pub(super) struct Backlogs {
    drops: HashMap<u64, u32>,
    looking: Option<Receiver<Seen>>,
    next: Option<Instant>,
}

impl Backlogs {
    /// Called each second. Begins to look at the listeners in these processes' network namespaces, if it is time for that, and gives those that
    /// dropped since the last look with their accept queues full, as seen since the last call.
    pub(super) fn look(&mut self, pids: impl Iterator<Item = u32>) -> Vec<(Place, Overflowed)> {
        let mut full = Vec::new();
        if let Some(receiver) = &self.looking {
            match receiver.try_recv() {
                Ok((seen, time_ns, took)) => {
                    self.looking = None;
                    self.next = Some(Instant::now() + took * SHARE);
                    full = self.take(&seen, time_ns);
                }
                Err(TryRecvError::Empty) => return full,
                Err(TryRecvError::Disconnected) => self.looking = None,
            }
        }
        if self.next.is_some_and(|next| Instant::now() < next) {
            return full;
        }
        let (sender, receiver) = channel();
        let pids: Vec<u32> = pids.collect();
        let look = move || {
            let begun = Instant::now();
            let seen = backlogs(pids);
            // Nobody waits for it any more when the session has ended.
            let _ = sender.send((seen, clock::monotonic_ns(), begun.elapsed()));
        };
        // Without a thread there is nothing to be seen.
        if thread::Builder::new().name("look-at-queues".into()).spawn(look).is_ok() {
            self.looking = Some(receiver);
        }
        full
    }

    /// A listener drops for other reasons as well: it counts only with its accept queue full, and not as a number of SYNs.
    fn take(&mut self, seen: &[Backlog], time_ns: u64) -> Vec<(Place, Overflowed)> {
        let before = std::mem::take(&mut self.drops);
        let mut full = Vec::new();
        for backlog in seen {
            let Backlog { place, cookie, queued, limit, drops, only_ipv6: _ } = backlog;
            self.drops.insert(*cookie, *drops);
            let Some(more) = before.get(cookie).map(|before| drops.wrapping_sub(*before)) else { continue };
            if more > 0 && backlog.is_full() {
                let (queued, limit, accept) = (*queued, *limit, u64::from(more));
                full.push((*place, Overflowed { last_ns: time_ns, accept, queued, limit, ..Overflowed::default() }));
            }
        }
        full
    }
}

#[cfg(test)]
mod tests {
    use super::Backlogs;
    use crate::{context::backlog::Backlog, model::host::Place};

    fn backlog(cookie: u64, queued: u32, drops: u32) -> Backlog {
        let address = "127.0.0.1:80".parse().expect("an address");
        Backlog { place: Place { netns: 7, address }, cookie, queued, limit: 1, drops, only_ipv6: false }
    }

    #[test]
    fn full_and_dropping_at_once() {
        let mut backlogs = Backlogs::default();
        let mut take = |seen: &[Backlog]| -> Vec<u64> {
            backlogs.take(seen, 5).into_iter().map(|(_, overflowed)| overflowed.accept).collect()
        };
        assert!(take(&[backlog(1, 2, 9)]).is_empty(), "nobody knows when it dropped these");
        assert!(take(&[backlog(1, 2, 9)]).is_empty(), "full, and nobody came");
        assert!(take(&[backlog(1, 1, 12)]).is_empty(), "it dropped for whatever reason");
        assert_eq!(take(&[backlog(1, 2, 15)]), [3]);
        assert!(take(&[backlog(2, 2, 20)]).is_empty(), "another socket in its place");
        assert_eq!(take(&[backlog(2, 2, 20_u32.wrapping_add(u32::MAX))]), [u64::from(u32::MAX)], "it wraps");
        take(&[]);
        assert!(backlogs.drops.is_empty(), "what is gone is forgotten");
    }
}
