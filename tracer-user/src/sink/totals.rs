//! Running totals of a session, and the `end` record made of them.

use std::collections::BTreeMap;

use super::recent::Recent;
use crate::model::cause::Cause;
use crate::record::{Counted, End, EndReason, LossReason, Outcome, Record, Timestamp};

/// Updates arrive within seconds: outcomes of older failures are settled.
const REMEMBERED: usize = 16_384;

/// Counts of everything that was handed to [`Totals::count`].
#[derive(Debug)]
pub struct Totals {
    started: Option<Timestamp>,
    pub failures: u64,
    pub responses: u64,
    /// Responses with status 502 or 504, whoever made them.
    pub gateway_errors: u64,
    /// Of failures, and of responses that had none.
    pub by_cause: BTreeMap<Cause, u64>,
    pub by_outcome: BTreeMap<Outcome, u64>,
    pub unexplained: u64,
    pub lost: u64,
    /// From `stats` records; None before the first.
    pub connections: Option<u64>,
    pub events: u64,
    outcomes: Recent<Outcome>,
    /// Failures without records of their own, whose outcome has not been seen; a reading of the kernel's counts may have an
    /// outcome before its failure.
    unsettled: i64,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            started: None,
            failures: 0,
            responses: 0,
            gateway_errors: 0,
            by_cause: BTreeMap::new(),
            by_outcome: BTreeMap::new(),
            unexplained: 0,
            lost: 0,
            connections: None,
            events: 0,
            outcomes: Recent::new(REMEMBERED),
            unsettled: 0,
        }
    }
}

impl Totals {
    pub fn count(&mut self, record: &Record) {
        match record {
            Record::Session(session) => self.started = self.started.or(Some(session.time)),
            Record::Failure(failure) => {
                self.failures += 1;
                *self.by_cause.entry(failure.cause).or_default() += 1;
                *self.by_outcome.entry(failure.outcome).or_default() += 1;
                self.outcomes.insert(failure.id, failure.outcome);
            }
            Record::Response(response) => {
                self.responses += 1;
                self.gateway_errors += u64::from(matches!(response.status, 502 | 504));
                self.unexplained += u64::from(response.cause == Cause::Unexplained);
                if response.failures.is_empty() {
                    *self.by_cause.entry(response.cause).or_default() += 1;
                }
            }
            Record::Update(update) => {
                if let Some(outcome) = update.outcome
                    && let Some(before) = self.outcomes.get_mut(update.failure)
                {
                    *self.by_outcome.entry(*before).or_default() -= 1;
                    *self.by_outcome.entry(outcome).or_default() += 1;
                    *before = outcome;
                }
            }
            // What was left out is no event; what was counted is no loss.
            Record::Lost(lost) if lost.reason == LossReason::Overload => {
                lost.counted.iter().for_each(|it| self.add(it));
            }
            Record::Lost(lost) => self.lost += lost.count.unwrap_or(1),
            Record::Stats(stats) => {
                let connections: u64 = stats.upstreams.iter().map(|upstream| upstream.connections).sum();
                *self.connections.get_or_insert_default() += connections;
                self.events += stats.events;
            }
            Record::Worker(_) | Record::Overflow(_) | Record::Exit(_) | Record::Attempt(_) | Record::End(_) => {}
        }
    }

    /// Failures and responses that have no records of their own.
    fn add(&mut self, counted: &Counted) {
        self.failures += counted.failures;
        self.responses += counted.responses;
        self.gateway_errors += counted.responses;
        *self.by_cause.entry(counted.cause).or_default() += counted.failures + counted.responses_alone;
        self.unsettled += counted.failures.cast_signed();
        for (outcome, count) in &counted.by_outcome {
            *self.by_outcome.entry(*outcome).or_default() += count;
            self.unsettled -= count.cast_signed();
        }
    }

    /// The last line of a file or stream.
    pub fn end(&self, time: Timestamp, reason: EndReason, next: Option<String>) -> End {
        let micros = time.micros_since(self.started.unwrap_or(time)).max(0);
        let mut by_outcome = self.by_outcome.clone();
        *by_outcome.entry(Outcome::Unknown).or_default() += self.unsettled.max(0).cast_unsigned();
        by_outcome.retain(|_, count| *count > 0);
        End {
            time,
            reason,
            next,
            failures: self.failures,
            responses: self.responses,
            by_cause: self.by_cause.clone(),
            by_outcome,
            unexplained: self.unexplained,
            connections: self.connections,
            lost: self.lost,
            events: self.events,
            duration_s: std::time::Duration::from_micros(micros.unsigned_abs()).as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Totals;
    use crate::model::cause::Cause;
    use crate::record::{EndReason, Outcome, Record, Update, samples};

    #[test]
    fn everything_is_counted_once() {
        let mut totals = Totals::default();
        let mut session = samples::session();
        session.part = 1;
        for record in [
            Record::Session(samples::session()),
            Record::Failure(Box::new(samples::failure())),
            Record::Failure(Box::new(samples::bare_failure())),
            Record::Response(Box::new(samples::response())),
            Record::Lost(samples::lost()),
            Record::Stats(samples::stats()),
        ] {
            totals.count(&record);
        }
        let end = totals.end(samples::at(1_500_000), EndReason::Signal, None);
        assert_eq!((end.failures, end.responses, end.unexplained, end.lost, end.events), (2, 1, 0, 12, 5));
        assert_eq!(end.connections, Some(40));
        assert_eq!(end.by_cause, BTreeMap::from([(Cause::ConnectRefused, 1), (Cause::Unexplained, 1)]));
        assert!((end.duration_s - 1.5).abs() < 1e-9);
        assert_eq!(totals.gateway_errors, 1);
    }

    #[test]
    fn what_was_only_counted_is_part_of_all_totals_and_no_loss() {
        let mut totals = Totals::default();
        totals.count(&Record::Failure(Box::new(samples::failure())));
        totals.count(&Record::Lost(samples::counted()));
        let end = totals.end(samples::at(1_500_000), EndReason::Signal, None);
        assert_eq!((end.failures, end.responses, end.lost, totals.gateway_errors), (1001, 900, 0, 900));
        assert_eq!(end.by_cause, BTreeMap::from([(Cause::ConnectRefused, 1001)]));
        let outcomes = [(Outcome::Retried, 99), (Outcome::Final, 901), (Outcome::Unknown, 1)];
        assert_eq!(end.by_outcome, BTreeMap::from(outcomes));
    }

    #[test]
    fn an_update_moves_an_outcome() {
        let mut totals = Totals::default();
        totals.count(&Record::Failure(Box::new(samples::bare_failure())));
        let update = Update {
            time: samples::at(1),
            failure: 18,
            outcome: Some(Outcome::Retried),
            root: None,
            hint: None,
            nginx: None,
        };
        totals.count(&Record::Update(Box::new(update)));
        let end = totals.end(samples::at(2), EndReason::Count, None);
        assert_eq!(end.by_outcome, BTreeMap::from([(Outcome::Retried, 1)]));
    }
}
