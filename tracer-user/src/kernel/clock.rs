//! Time as the kernel tells it: monotonic nanoseconds, the length of a jiffy, the wall clock.

use rustix::time::{ClockId, clock_getres, clock_gettime};

/// `CLOCK_MONOTONIC` now, in ns: the clock of every event.
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// Wall clock minus monotonic clock, in ns. Sampled between two readings of the monotonic clock, taking their middle.
pub fn wall_offset_ns() -> i128 {
    let before = i128::from(monotonic_ns());
    let wall = i128::from(nanoseconds(ClockId::Realtime));
    let after = i128::from(monotonic_ns());
    wall - i128::midpoint(before, after)
}

/// Length of a jiffy in µs. The coarse clock ticks once a jiffy, kernel/time/posix-timers.c:
/// `posix_get_coarse_res()` answers `KTIME_LOW_RES`.
pub fn jiffy_us() -> u64 {
    let resolution = clock_getres(ClockId::MonotonicCoarse);
    let nanoseconds = resolution.tv_sec.unsigned_abs() * 1_000_000_000 + resolution.tv_nsec.unsigned_abs();
    (nanoseconds / 1000).clamp(100, 100_000)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_jiffy_is_one_to_ten_milliseconds() {
        assert!((1_000..=10_000).contains(&super::jiffy_us()));
    }
}
