//! When events come faster than they can be told: what is needed least is left out before the ring overflows.

/// An event that waited so long in the ring: it is read every 10 ms, and holds some 50 ms of the fastest storm.
const LATE_NS: u64 = 25_000_000;
/// So many events at once fill a quarter of it. With fewer the collector was late for another reason: it had no processor.
const MANY: usize = 1200;
/// It does not end before all was quiet for so long.
const CALM_NS: u64 = 1_000_000_000;

/// Whether the collector is behind.
#[derive(Debug, Default)]
pub(super) struct Overload {
    until_ns: u64,
    /// The same, as far as it was the collector that was late.
    behind_until_ns: u64,
}

impl Overload {
    /// So many events were in the ring, the oldest of this time; true: it begins now.
    pub(super) fn saw(&mut self, events: usize, oldest_ns: u64, now_ns: u64) -> bool {
        if events < MANY || now_ns.saturating_sub(oldest_ns) < LATE_NS {
            return false;
        }
        self.behind_until_ns = now_ns.saturating_add(CALM_NS);
        self.goes_on(now_ns)
    }

    /// Events come faster than they are read.
    pub(super) const fn is_behind(&self, now_ns: u64) -> bool {
        now_ns < self.behind_until_ns
    }

    /// Not everything could be told just now; true: it begins now.
    pub(super) const fn goes_on(&mut self, now_ns: u64) -> bool {
        let begins = !self.is_on(now_ns);
        self.until_ns = now_ns.saturating_add(CALM_NS);
        begins
    }

    pub(super) const fn is_on(&self, now_ns: u64) -> bool {
        now_ns < self.until_ns
    }
}

#[cfg(test)]
mod tests {
    use super::{CALM_NS, LATE_NS, MANY, Overload};

    #[test]
    fn what_is_counted_elsewhere_does_not_make_it_late() {
        let mut overload = Overload::default();
        assert!(overload.goes_on(CALM_NS) && overload.is_on(CALM_NS) && !overload.is_behind(CALM_NS));
        assert!(!overload.saw(MANY, CALM_NS - LATE_NS, CALM_NS) && overload.is_behind(CALM_NS));
    }

    #[test]
    fn begins_once_and_ends_when_all_is_calm() {
        let mut overload = Overload::default();
        let now = CALM_NS;
        assert!(!overload.saw(MANY, now - LATE_NS + 1, now) && !overload.saw(MANY - 1, 0, now) && !overload.is_on(now));
        assert!(overload.saw(MANY, now - LATE_NS, now) && overload.is_on(now));
        assert!(!overload.saw(MANY, now, now + LATE_NS), "it goes on");
        assert!(overload.is_on(now + CALM_NS) && !overload.is_on(now + LATE_NS + CALM_NS));
        assert!(overload.saw(MANY, now, now + 2 * CALM_NS));
    }
}
