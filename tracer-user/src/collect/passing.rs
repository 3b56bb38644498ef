//! How much passes by the programs at the busiest places: where it is little they look at all of it, at no cost that counts.

use aya::maps::{MapData, PerCpuArray};
use tracer_common::passing;

use crate::kernel::clock;

/// What may pass by within [`WINDOW_NS`]: about 0.1 us each, 0.05 % of a processor; up to ten times as much where all of it is of interest
/// (a flood of packets that a firewall drops).
const LITTLE: u64 = 5000;
const WINDOW_NS: u64 = 1_000_000_000;
/// Where more passes by, how long until that is tried again; twice as long each time, as long as it does not help.
const REST_NS: u64 = 10_000_000_000;
const LONGEST_NS: u64 = 80_000_000_000;

/// A place where much passes by, with a program that can be taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `kfree_skb`.
    Drops = passing::DROPS as isize,
    /// `tcp_probe`.
    Segments = passing::SEGMENTS as isize,
}

/// What passes by, by place.
#[expect(missing_debug_implementations, reason = "aya's map has none")]
pub struct Passing {
    map: PerCpuArray<MapData, u64>,
    drops: Load,
    segments: Load,
}

impl Passing {
    pub fn new(map: PerCpuArray<MapData, u64>) -> Self {
        Self { map, drops: Load::default(), segments: Load::default() }
    }

    /// Whether so little passes by that the program may stay, or come back: asked several times a second.
    pub fn is_little(&mut self, place: Place) -> bool {
        // What cannot be told is much.
        let passed = self.count(place as u32).unwrap_or(u64::MAX);
        let load = match place {
            Place::Drops => &mut self.drops,
            Place::Segments => &mut self.segments,
        };
        load.is_little(passed, clock::monotonic_ns())
    }

    /// How many dropped packets have been recorded; None: it cannot be told.
    pub fn recorded(&self) -> Option<u64> {
        self.count(passing::RECORDED)
    }

    fn count(&self, index: u32) -> Option<u64> {
        Some(self.map.get(&index, 0).ok()?.iter().sum())
    }
}

/// At one place. While the program is away nothing is counted.
#[derive(Debug)]
struct Load {
    /// When the window began, and what had passed by then.
    since_ns: u64,
    before: u64,
    rest_ns: u64,
    rests_until_ns: u64,
}

impl Default for Load {
    fn default() -> Self {
        Self { since_ns: 0, before: 0, rest_ns: REST_NS, rests_until_ns: 0 }
    }
}

impl Load {
    /// `passed`: since the beginning.
    fn is_little(&mut self, passed: u64, now_ns: u64) -> bool {
        if self.rests_until_ns != 0 {
            // Meanwhile it was counted for something else, if at all.
            (self.since_ns, self.before) = (now_ns, passed);
            let rested = now_ns >= self.rests_until_ns;
            if rested {
                self.rests_until_ns = 0;
            }
            return rested;
        }
        let passed_ns = now_ns.saturating_sub(self.since_ns);
        let windows = passed_ns.div_ceil(WINDOW_NS).max(1);
        if passed.saturating_sub(self.before) > LITTLE.saturating_mul(windows) {
            (self.since_ns, self.before) = (now_ns, passed);
            self.rests_until_ns = now_ns + self.rest_ns;
            self.rest_ns = (2 * self.rest_ns).min(LONGEST_NS);
            return false;
        }
        if passed_ns >= WINDOW_NS {
            // A whole window was calm.
            (self.since_ns, self.before, self.rest_ns) = (now_ns, passed, REST_NS);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{LITTLE, Load, REST_NS, WINDOW_NS};

    const TENTH_NS: u64 = WINDOW_NS / 10;

    #[test]
    fn it_leaves_where_much_passes_by_and_comes_back() {
        let (mut load, mut passed, mut now_ns) = (Load::default(), 0, 7 * WINDOW_NS);
        for _ in 0..50 {
            assert!(load.is_little(passed, now_ns), "4,000 a second");
            (passed, now_ns) = (passed + 400, now_ns + TENTH_NS);
        }
        passed += 1000;
        assert!(load.is_little(passed, now_ns), "a burst");
        (passed, now_ns) = (passed + 2 * LITTLE, now_ns + TENTH_NS);
        assert!(!load.is_little(passed, now_ns), "much, at once");
        assert!(!load.is_little(passed + LITTLE, now_ns + TENTH_NS), "wanted for something else meanwhile");
        let (passed, back_ns) = (passed + LITTLE, now_ns + REST_NS);
        assert!(load.is_little(passed, back_ns), "and is tried again");
        let gone_ns = back_ns + TENTH_NS;
        assert!(!load.is_little(passed + 2 * LITTLE, gone_ns), "as much as before");
        assert!(!load.is_little(passed + 2 * LITTLE, gone_ns + 2 * REST_NS - 1), "twice as long");
        let calm_ns = gone_ns + 2 * REST_NS;
        let passed = passed + 2 * LITTLE;
        assert!(load.is_little(passed, calm_ns) && load.is_little(passed, calm_ns + WINDOW_NS));
        assert!(!load.is_little(passed + 2 * LITTLE, calm_ns + WINDOW_NS + TENTH_NS));
        assert!(load.is_little(passed + 2 * LITTLE, calm_ns + WINDOW_NS + TENTH_NS + REST_NS), "it was calm meanwhile");
    }
}
