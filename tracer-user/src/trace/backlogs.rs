//! Full accept queues where the kernel has no hook that sees a SYN dropped: looked at from time to time, aside.

use std::{collections::HashMap, time::Duration};

use tracer_common::listener::Overflowed;

use crate::{
    context::{
        aside::Aside,
        backlog::{Backlog, backlogs},
    },
    kernel::clock,
    model::host::Place,
};

/// The part of the time that it may take: one in so many.
const SHARE: u32 = 400;

/// The listeners' drops when last seen, by their cookies.
#[derive(Debug)]
pub(super) struct Backlogs {
    drops: HashMap<u64, u32>,
    /// What is seen, and when (monotonic, ns).
    looking: Aside<(Vec<Backlog>, u64)>,
}

impl Default for Backlogs {
    fn default() -> Self {
        Self { drops: HashMap::new(), looking: Aside::new("look-at-queues", Duration::ZERO, SHARE) }
    }
}

impl Backlogs {
    /// Called each second. Begins to look at the listeners in these processes' network namespaces, if it is time for that, and
    /// gives those that dropped since the last look with their accept queues full, as seen since the last call.
    pub(super) fn look(&mut self, pids: impl Iterator<Item = u32>) -> Vec<(Place, Overflowed)> {
        let looked = self.looking.take();
        if self.looking.is_due() {
            let pids: Vec<u32> = pids.collect();
            self.looking.begin(move || (backlogs(pids), clock::monotonic_ns()));
        }
        looked.map_or_else(Vec::new, |(seen, time_ns)| self.take(&seen, time_ns))
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
