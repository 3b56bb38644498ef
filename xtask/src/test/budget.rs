//! How long all of `test` may take: what has not begun by then is skipped, and counted so.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;

/// What the last scenario and the documents may still take.
const REST: Duration = Duration::from_secs(120);
/// What is not done so long after nothing was to begin any more hangs: a scenario takes a minute on an emulated processor.
const HANGS: Duration = Duration::from_secs(300);

/// The end, if there is one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    end: Option<(Instant, SystemTime)>,
}

/// There is no time left to begin with something.
#[derive(Debug)]
pub(super) struct Over;

impl fmt::Display for Over {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("no time left (--within)")
    }
}

impl std::error::Error for Over {}

impl Budget {
    /// So many minutes from now; None: as long as it takes.
    pub(super) fn of(minutes: Option<u64>) -> Self {
        let time = minutes.map(|minutes| Duration::from_secs(minutes * 60).saturating_sub(REST));
        Self { end: time.map(|time| (Instant::now() + time, SystemTime::now() + time)) }
    }

    /// When a step has to be done that may take `most`; an error, [`Over`], where it cannot begin any more.
    pub(super) fn deadline(&self, most: Duration) -> Result<Duration> {
        let Some((end, _)) = self.end else { return Ok(most) };
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Over.into());
        }
        Ok(most.min(left + HANGS))
    }

    /// Options of the lab, on whatever machine: its clock is this one's.
    pub(super) fn options(&self) -> Option<[String; 2]> {
        let end = self.end?.1.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(["--until".into(), end.as_secs().to_string()])
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Budget, HANGS, Over, REST};

    #[test]
    fn a_step_ends_with_all_of_it() {
        let hour = Duration::from_secs(3600);
        assert_eq!(Budget::of(None).deadline(hour).unwrap(), hour);
        let ten = Budget::of(Some(10));
        let left = ten.deadline(hour).unwrap();
        let all = Duration::from_secs(600) - REST + HANGS;
        assert!(left <= all && left > all - Duration::from_secs(10), "{left:?}");
        assert_eq!(ten.deadline(REST).unwrap(), REST);
        assert!(Budget::of(Some(1)).deadline(hour).unwrap_err().is::<Over>());
    }
}
