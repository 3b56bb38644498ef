//! Floods: of many failures of one kind only the first few are shown singly, the rest as a count per second.
//!
//! Pure: times come from the records and from the owner's ticks.

use std::collections::HashMap;

use crate::model::cause::Cause;
use crate::record::{Counted, Outcome, Timestamp};

/// Shown singly within a window, when there was no flood before.
const SINGLY: u64 = 4;
const WINDOW_US: i64 = 1_000_000;
/// A kind that was silent so long is new again.
const FORGET_US: i64 = 30_000_000;
/// With more kinds than this at once, further kinds are shown singly.
const KINDS: usize = 1024;

/// What makes two failures the same to a reader, whichever worker had them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Kind {
    pub(super) cause: Cause,
    pub(super) upstream: Option<String>,
}

/// Several failures in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Folded {
    pub(super) kind: Kind,
    /// When the last of them happened.
    pub(super) time: Timestamp,
    pub(super) count: u64,
    pub(super) micros: u64,
    pub(super) tally: Tally,
}

/// What became of those folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) bad_gateway: u64,
    pub(super) gateway_timeout: u64,
    pub(super) retried: u64,
    pub(super) other: u64,
}

impl Tally {
    fn count(&mut self, counted: &Counted, count: u64) {
        let status = |status| counted.by_status.get(&status).copied().unwrap_or(0);
        let retried = counted.by_outcome.get(&Outcome::Retried).copied().unwrap_or(0);
        self.bad_gateway += status(502);
        self.gateway_timeout += status(504);
        self.retried += retried;
        self.other += count.saturating_sub(counted.responses + retried);
    }

    fn add(&mut self, status: Option<u16>, outcome: Outcome) {
        match (outcome, status) {
            (Outcome::Retried, _) => self.retried += 1,
            (Outcome::Final, Some(502)) => self.bad_gateway += 1,
            (Outcome::Final, Some(504)) => self.gateway_timeout += 1,
            _ => self.other += 1,
        }
    }
}

#[derive(Debug)]
struct Window {
    begun: Timestamp,
    last: Timestamp,
    shown: u64,
    folded: u64,
    tally: Tally,
    /// The window before this had folded some.
    flood: bool,
}

impl Window {
    fn new(begun: Timestamp, shown: u64) -> Self {
        Self { begun, last: begun, shown, folded: 0, tally: Tally::default(), flood: false }
    }
}

/// The state of every kind seen lately.
#[derive(Debug, Default)]
pub(super) struct Folding {
    windows: HashMap<Kind, Window>,
}

impl Folding {
    /// Whether to show this failure singly; a count of earlier ones that must come out first.
    pub(super) fn admit(
        &mut self,
        kind: &Kind,
        time: Timestamp,
        status: Option<u16>,
        outcome: Outcome,
    ) -> (bool, Option<Folded>) {
        let Some(window) = self.windows.get_mut(kind) else {
            if self.windows.len() < KINDS {
                self.windows.insert(kind.clone(), Window::new(time, 1));
            }
            return (true, None);
        };
        let due = if time.micros_since(window.begun) >= WINDOW_US { close(kind, window, time) } else { None };
        window.last = window.last.max(time);
        if !window.flood && window.shown < SINGLY {
            window.shown += 1;
            (true, due)
        } else {
            window.folded += 1;
            window.tally.add(status, outcome);
            (false, due)
        }
    }

    /// Failures that were counted before they came here; a count of earlier ones that must come out first.
    pub(super) fn add(&mut self, counted: &Counted, time: Timestamp) -> Option<Folded> {
        let kind = Kind { cause: counted.cause, upstream: counted.upstream.clone() };
        let count = counted.failures + counted.responses_alone;
        let since = counted.since;
        // Where there is no room for another kind, one of its own: a count must not be lost.
        let mut alone = Window::new(since, 0);
        let room = self.windows.len() < KINDS || self.windows.contains_key(&kind);
        let window = if room { self.windows.entry(kind.clone()).or_insert(Window::new(since, 0)) } else { &mut alone };
        let due = if time.micros_since(window.begun) >= WINDOW_US { close(&kind, window, since) } else { None };
        window.last = window.last.max(time);
        window.folded += count;
        window.tally.count(counted, count);
        if room { due } else { close(&kind, window, time) }
    }

    /// Counts that are due by now, oldest first.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<Folded> {
        let mut due = Vec::new();
        for (kind, window) in &mut self.windows {
            if now.micros_since(window.begun) >= WINDOW_US {
                due.extend(close(kind, window, now));
            }
        }
        self.windows.retain(|_, window| window.folded > 0 || now.micros_since(window.last) < FORGET_US);
        sorted(due)
    }

    /// Everything that is still folded (at the end).
    pub(super) fn rest(&mut self) -> Vec<Folded> {
        let rest = self.windows.iter_mut().filter_map(|(kind, window)| close(kind, window, window.last)).collect();
        sorted(rest)
    }
}

/// Ends a window and begins the next one.
fn close(kind: &Kind, window: &mut Window, now: Timestamp) -> Option<Folded> {
    let Window { begun, last, shown, folded, tally, flood } = window;
    let span = last.micros_since(*begun).max(0).unsigned_abs();
    let closed = (*folded > 0).then(|| Folded {
        kind: kind.clone(),
        time: *last,
        count: *folded,
        micros: span.max(WINDOW_US.unsigned_abs() / 10),
        tally: *tally,
    });
    // A flood has ended when a window brings no more than would be shown singly.
    *flood = *folded > SINGLY;
    (*begun, *shown, *folded, *tally) = (now, 0, 0, Tally::default());
    closed
}

fn sorted(mut folded: Vec<Folded>) -> Vec<Folded> {
    folded.sort_by(|a, b| (a.time, &a.kind).cmp(&(b.time, &b.kind)));
    folded
}

#[cfg(test)]
mod tests {
    use super::{Folding, KINDS, Kind, SINGLY};
    use crate::model::cause::Cause;
    use crate::record::{
        Outcome,
        samples::{self, at},
    };

    fn kind(upstream: &str) -> Kind {
        Kind { cause: Cause::ConnectRefused, upstream: Some(upstream.to_owned()) }
    }

    fn admit(folding: &mut Folding, upstream: &str, micros: i64) -> bool {
        folding.admit(&kind(upstream), at(micros), Some(502), Outcome::Final).0
    }

    #[test]
    fn a_slow_trickle_is_never_folded() {
        let mut folding = Folding::default();
        for second in 0..100 {
            assert!(admit(&mut folding, "a", second * 500_000));
            assert!(folding.due(at(second * 500_000 + 1)).is_empty());
        }
    }

    #[test]
    fn a_flood_is_counted_once_per_second_and_every_failure_appears_once() {
        let mut folding = Folding::default();
        let (mut singly, mut folded, mut lines) = (0, 0, 0);
        for step in 0..30_000_i64 {
            let (shown, due) = folding.admit(&kind("a"), at(step * 100), Some(502), Outcome::Final);
            singly += u64::from(shown);
            for line in due.into_iter().chain(folding.due(at(step * 100 + 50))) {
                (folded, lines) = (folded + line.count, lines + 1);
            }
        }
        for line in folding.rest() {
            (folded, lines) = (folded + line.count, lines + 1);
        }
        assert_eq!((singly, singly + folded), (SINGLY, 30_000));
        assert!((3..=4).contains(&lines), "{lines}");
    }

    #[test]
    fn what_was_counted_before_comes_out_with_the_rest() {
        let mut folding = Folding::default();
        for step in 0..100 {
            admit(&mut folding, "127.0.0.1:3001", step);
        }
        let counted = samples::counted().counted.unwrap();
        assert_eq!(folding.add(&counted, at(900_000)), None);
        let due = folding.due(at(1_000_000));
        assert_eq!((due.len(), due[0].count), (1, 100 - SINGLY + 1000));
        let tally = due[0].tally;
        assert_eq!((tally.bad_gateway, tally.retried, tally.other), (100 - SINGLY + 900, 99, 1));
    }

    #[test]
    fn the_first_of_another_kind_is_shown_during_a_flood() {
        let mut folding = Folding::default();
        for step in 0..100 {
            admit(&mut folding, "a", step);
        }
        assert!(!admit(&mut folding, "a", 100) && admit(&mut folding, "b", 101));
    }

    #[test]
    fn after_a_flood_single_failures_are_shown_again() {
        let mut folding = Folding::default();
        for step in 0..100 {
            admit(&mut folding, "a", step);
        }
        assert_eq!(folding.due(at(1_000_000))[0].count, 100 - SINGLY);
        assert!(!admit(&mut folding, "a", 1_200_000), "the flood may go on");
        assert_eq!(folding.due(at(2_000_000))[0].count, 1);
        assert!(admit(&mut folding, "a", 2_100_000));
    }

    #[test]
    fn a_count_comes_out_before_the_failure_that_follows_it() {
        let mut folding = Folding::default();
        for step in 0..10 {
            admit(&mut folding, "a", step);
        }
        let (_, due) = folding.admit(&kind("a"), at(5_000_000), Some(502), Outcome::Retried);
        let due = due.unwrap();
        assert_eq!((due.count, due.tally.bad_gateway, due.time), (6, 6, at(9)));
    }

    #[test]
    fn kinds_are_forgotten() {
        let mut folding = Folding::default();
        for number in 0..2 * KINDS {
            assert!(admit(&mut folding, &number.to_string(), 0));
        }
        assert_eq!(folding.windows.len(), KINDS);
        assert!(folding.due(at(60_000_000)).is_empty());
        assert_eq!(folding.windows.len(), 0);
    }
}
