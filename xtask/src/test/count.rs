//! Counts of tests, and the two lines of text that carry them: cargo's and ours.

use std::fmt;
use std::ops::AddAssign;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) skipped: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        let Self { passed, failed, skipped } = other;
        self.passed += passed;
        self.failed += failed;
        self.skipped += skipped;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, skipped } = self;
        write!(formatter, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

impl Count {
    /// `N passed, N failed, N skipped`, the whole line.
    pub(super) fn from_summary(line: &str) -> Option<Self> {
        let mut parts = line.trim().split(", ");
        let mut number = |name: &str| parts.next()?.strip_suffix(name)?.strip_suffix(' ')?.parse().ok();
        let count = Self { passed: number("passed")?, failed: number("failed")?, skipped: number("skipped")? };
        parts.next().is_none().then_some(count)
    }

    /// libtest's `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    pub(super) fn from_cargo(line: &str) -> Option<Self> {
        let (_, counts) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
        let mut parts = counts.split("; ");
        let mut number = |name: &str| parts.next()?.strip_suffix(name)?.strip_suffix(' ')?.parse().ok();
        Some(Self { passed: number("passed")?, failed: number("failed")?, skipped: number("ignored")? })
    }
}

#[cfg(test)]
mod tests {
    use super::Count;

    #[test]
    fn a_summary_is_read_as_it_is_written() {
        let count = Count { passed: 12, failed: 0, skipped: 3 };
        assert_eq!(Count::from_summary(&count.to_string()), Some(count));
        for line in [
            "",
            "12 passed",
            "12 passed, 0 failed",
            "x passed, 0 failed, 0 skipped",
            "1 passed, 0 failed, 0 skipped, 1 x",
        ] {
            assert_eq!(Count::from_summary(line), None, "{line}");
        }
    }

    #[test]
    fn cargo_counts_ignored_tests_as_skipped() {
        let line = "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.00s";
        assert_eq!(Count::from_cargo(line), Some(Count { passed: 3, failed: 1, skipped: 2 }));
        assert_eq!(Count::from_cargo("test diagnose::connect ... ok"), None);
    }
}
