//! How many requests of a scenario were explained, in numbers; what exactly differed is for [`crate::check`] to say.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::scenario::{Case, Reply};

/// The requests of a scenario by what was said about them. A request is *due* if a failed attempt or a response of it
/// must be reported; every due request is exactly one of right, wrong, missing and extra.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that something must be said about.
    pub due: usize,
    /// All that must be said was said, once, and nothing else.
    pub right: usize,
    /// As many records as there must be, not all of them true.
    pub wrong: usize,
    /// A record too few.
    pub missing: usize,
    /// A record too many.
    pub extra: usize,
    /// Requests that nginx logged with status 502 or 504, whoever made it.
    pub errors: usize,
    /// Of those, the ones about which all that must be said was said, be it nothing.
    pub errors_right: usize,
    /// Requests that nothing may be said about.
    pub quiet: usize,
    /// Of those, the ones that something was said about; and records about no request at all.
    pub spurious: usize,
    /// The reported attempts by outcome.
    pub outcomes: BTreeMap<String, usize>,
    /// The reported attempts by confidence.
    pub confidences: BTreeMap<String, usize>,
}

/// How much was reported about a request, and the status that nginx logged for it.
#[derive(Clone, Copy, Debug)]
pub struct Reported {
    /// `failure` records.
    pub failures: usize,
    /// `response` records.
    pub responses: usize,
    /// Whether they say what they must.
    pub agree: bool,
    /// 0 if it is in no log.
    pub status: u16,
}

impl Tally {
    /// Counts a request.
    pub fn request(&mut self, case: &Case, reported: Reported) {
        let Reported { failures, responses, agree, status } = reported;
        if [502, 504].contains(&status) {
            self.errors += 1;
            self.errors_right += usize::from(agree);
        }
        let (least, most) = responses_wanted(case);
        if case.attempts.is_empty() && least == 0 {
            self.quiet += 1;
            self.spurious += usize::from(!agree);
            return;
        }
        self.due += 1;
        *if agree {
            &mut self.right
        } else if failures < case.attempts.len() || responses < least {
            &mut self.missing
        } else if failures > case.attempts.len() || responses > most {
            &mut self.extra
        } else {
            &mut self.wrong
        } += 1;
    }

    /// Counts attempts whose requests are not known: so many provoked and so many reported, by cause; and requests that
    /// provoked none.
    pub fn anonymous(&mut self, meant: &BTreeMap<&str, usize>, seen: &BTreeMap<&str, usize>, quiet: usize) {
        self.quiet = quiet;
        self.due = meant.values().sum();
        self.right = meant.iter().map(|(cause, &count)| count.min(seen.get(cause).copied().unwrap_or(0))).sum();
        let reported: usize = seen.values().sum();
        self.wrong = reported.min(self.due) - self.right.min(reported);
        self.missing = self.due.saturating_sub(reported);
        self.spurious = reported.saturating_sub(self.due);
    }

    /// Counts what the records of failed attempts say about them.
    pub fn attempts(&mut self, failures: &[&Value]) {
        for (counts, field) in [(&mut self.outcomes, "outcome"), (&mut self.confidences, "confidence")] {
            for failure in failures {
                *counts.entry(failure[field].as_str().unwrap_or("null").to_owned()).or_default() += 1;
            }
        }
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let Self { due, right, wrong, missing, extra, errors, errors_right, quiet, spurious, outcomes, confidences } =
            self;
        json!({
            "due": due, "right": right, "wrong": wrong, "missing": missing, "extra": extra,
            "errors": errors, "errors_right": errors_right, "quiet": quiet, "spurious": spurious, "outcomes": outcomes, "confidences": confidences,
        })
    }
}

/// The least and the most `response` records of a request.
fn responses_wanted(case: &Case) -> (usize, usize) {
    match case.reply {
        Reply::Follows => {
            let one = usize::from(case.attempts.last().is_some_and(|attempt| attempt.outcome == "final"));
            (one, one)
        }
        Reply::Is(..) => (1, 1),
        Reply::None => (0, 0),
        Reply::Maybe(_) => (0, 1),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Reported, Tally};
    use crate::scenario::{Attempt, attempt, get};

    const ONE: &[Attempt] = &[attempt(&["connect_refused"], "")];

    #[test]
    fn a_due_request_is_right_wrong_missing_or_extra() {
        let case = get("/a").fails(502, ONE);
        for (failures, responses, agree, counts) in [
            (1, 1, true, [1, 0, 0, 0]),
            (1, 1, false, [0, 1, 0, 0]),
            (0, 1, false, [0, 0, 1, 0]),
            (1, 0, false, [0, 0, 1, 0]),
            (2, 1, false, [0, 0, 0, 1]),
            (1, 2, false, [0, 0, 0, 1]),
        ] {
            let mut tally = Tally::default();
            tally.request(&case, Reported { failures, responses, agree, status: 502 });
            assert_eq!([tally.right, tally.wrong, tally.missing, tally.extra], counts, "{failures} {responses}");
            assert_eq!((tally.due, tally.quiet), (1, 0));
            assert_eq!((tally.errors, tally.errors_right), (1, usize::from(agree)));
        }
    }

    #[test]
    fn a_healthy_request_is_quiet() {
        let mut tally = Tally::default();
        tally.request(&get("/a"), Reported { failures: 0, responses: 0, agree: true, status: 200 });
        tally.request(&get("/a"), Reported { failures: 1, responses: 0, agree: false, status: 200 });
        assert_eq!((tally.due, tally.quiet, tally.spurious), (0, 2, 1));
    }

    #[test]
    fn without_names_causes_are_counted() {
        let mut tally = Tally::default();
        tally.anonymous(&BTreeMap::from([("a", 5), ("b", 5)]), &BTreeMap::from([("a", 4), ("c", 2)]), 3);
        assert_eq!((tally.due, tally.right, tally.wrong, tally.missing, tally.spurious), (10, 4, 2, 4, 0));
        assert_eq!(tally.quiet, 3);
        let mut tally = Tally::default();
        tally.anonymous(&BTreeMap::new(), &BTreeMap::from([("a", 1)]), 1);
        assert_eq!((tally.due, tally.right, tally.wrong, tally.spurious), (0, 0, 0, 1));
    }
}
