//! How much passes by the programs at the busiest places: where it is little they look at all of it, at no cost that counts.

use aya::maps::{MapData, PerCpuArray};
use tracer_common::passing;

use crate::kernel::clock;

/// Runs per second that are little: about 0.1 us each, 0.05 % of a processor.
const LITTLE: u64 = 5000;
/// Over how long it is measured, at least.
const MEASURED_NS: u64 = 50_000_000;
/// Where more passes by, how long until that is tried again.
const REST_NS: u64 = 10_000_000_000;

/// What passes by, by program.
#[expect(missing_debug_implementations, reason = "aya's map has none")]
pub struct Passing {
    map: PerCpuArray<MapData, u64>,
    loads: [Load; passing::COUNT as usize],
}

impl Passing {
    pub fn new(map: PerCpuArray<MapData, u64>) -> Self {
        Self { map, loads: Default::default() }
    }

    /// Whether so little passes by this program ([`passing`]) that it may stay where it is, or go there: asked several times a
    /// second.
    pub fn is_little(&mut self, program: u32, is_attached: bool) -> bool {
        let Some(load) = self.loads.get_mut(program as usize) else { return false };
        let passed = || self.map.get(&program, 0).map_or(0, |counts| counts.iter().sum());
        load.is_little(is_attached.then(passed), clock::monotonic_ns())
    }
}

/// Of one program.
#[derive(Debug, Default)]
struct Load {
    /// What had passed by when, when last measured; None: the program has just come.
    before: Option<(u64, u64)>,
    rests_until_ns: u64,
}

impl Load {
    /// `passed`: since the beginning; None: the program is not attached.
    fn is_little(&mut self, passed: Option<u64>, now_ns: u64) -> bool {
        let Some(passed) = passed else {
            self.before = None;
            return now_ns >= self.rests_until_ns;
        };
        let (before, since_ns) = *self.before.get_or_insert((passed, now_ns));
        let measured_ns = now_ns.saturating_sub(since_ns);
        if measured_ns >= MEASURED_NS {
            self.before = Some((passed, now_ns));
            let allowed = u128::from(LITTLE) * u128::from(measured_ns) / 1_000_000_000;
            if u128::from(passed.saturating_sub(before)) > allowed {
                self.rests_until_ns = now_ns + REST_NS;
            }
        }
        now_ns >= self.rests_until_ns
    }
}

#[cfg(test)]
mod tests {
    use super::{LITTLE, Load, REST_NS};

    const TENTH_NS: u64 = 100_000_000;

    #[test]
    fn it_leaves_where_much_passes_by_and_comes_back() {
        let mut load = Load::default();
        let start_ns = 7_000_000_000;
        assert!(load.is_little(None, start_ns), "nothing is known: it is tried");
        let mut passed = 1_000_000;
        assert!(load.is_little(Some(passed), start_ns), "what passed by before it was asked says nothing");
        passed += LITTLE / 10;
        assert!(load.is_little(Some(passed), start_ns + TENTH_NS), "a little");
        passed += LITTLE;
        assert!(load.is_little(Some(passed), start_ns + TENTH_NS + 1), "too short a time to tell");
        let busy_ns = start_ns + 2 * TENTH_NS;
        assert!(!load.is_little(Some(passed), busy_ns), "much");
        assert!(!load.is_little(Some(passed), busy_ns + TENTH_NS), "wanted for something else meanwhile");
        assert!(!load.is_little(None, busy_ns + REST_NS - 1), "it rests");
        assert!(load.is_little(None, busy_ns + REST_NS), "and is tried again");
    }
}
