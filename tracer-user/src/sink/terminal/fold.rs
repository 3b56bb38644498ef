//! Floods: of many failures of one kind only the first few are shown singly, the rest as a count per second.
//!
//! Pure: times come from the records and from the owner's ticks.

use std::collections::HashMap;

use crate::model::cause::Cause;
use crate::record::{Outcome, Timestamp};

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
                let first =
                    Window { begun: time, last: time, shown: 1, folded: 0, tally: Tally::default(), flood: false };
                self.windows.insert(kind.clone(), first);
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
    use crate::record::{Outcome, samples::at};

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
