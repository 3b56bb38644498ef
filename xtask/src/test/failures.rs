//! What the output of a step says of its failures.

/// Lines of one failure that are kept: the first ones say what it is.
const LINES: usize = 4;
/// Lines of all failures of a step that are kept.
const MOST: usize = 40;

/// Reads along and keeps the lines of failures: the lab's `NAME FAILED …` with the indented lines behind it, and
/// libtest's `test NAME ... FAILED`.
#[derive(Debug, Default)]
pub(super) struct Failures {
    kept: Vec<String>,
    /// Lines that still belong to the last failure.
    rest: usize,
}

impl Failures {
    pub(super) fn read(&mut self, line: &str) {
        if line.contains(" FAILED") {
            self.rest = LINES;
        } else if !line.starts_with("    ") {
            self.rest = 0;
        }
        if self.rest > 0 && self.kept.len() < MOST {
            self.kept.push(line.trim_end().to_owned());
            self.rest -= 1;
        }
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::Failures;

    #[test]
    fn keeps_what_failed_and_how() {
        let mut failures = Failures::default();
        for line in [
            "connect/refused      200 requests  ok  (1 s)",
            "connect/reset        FAILED (1.6 s)",
            "    1",
            "    2",
            "    3",
            "    4",
            "connect/again        20 requests  ok  (1 s)",
            "    of nothing",
            "test diagnose::connect ... FAILED",
            "1 passed, 2 failed, 0 skipped",
        ] {
            failures.read(line);
        }
        let kept =
            ["connect/reset        FAILED (1.6 s)", "    1", "    2", "    3", "test diagnose::connect ... FAILED"];
        assert_eq!(failures.into_lines(), kept);
    }
}
