//! What happened, from counts: what failed, how it ended for clients, and what to do about each. Pure.

mod text;

use std::collections::{BTreeMap, HashMap};

use super::recent::Recent;
use crate::explain;
use crate::model::cause::Cause;
use crate::record::{Counted, Failure, LossReason, Lost, Origin, Outcome, Record, Response, Timestamp};

/// Failures whose responses are still awaited.
const REMEMBERED: usize = 16_384;
/// Rows at most; what else comes is counted under its cause alone.
const GROUPS: usize = 4096;

/// Accumulated from records in their order.
#[derive(Debug)]
pub struct Summary {
    begun: Option<Timestamp>,
    attempts: u64,
    responses: u64,
    unexplained: u64,
    by_status: BTreeMap<u16, u64>,
    /// Responses that the client got as something else than an error of a server.
    mended: u64,
    /// Statuses that nginx did not make itself.
    by_origin: BTreeMap<Origin, u64>,
    retried: u64,
    /// Retried, and the request had an error in the end.
    retried_in_vain: u64,
    cut: u64,
    /// Final failures whose response has not been seen.
    unanswered: u64,
    groups: HashMap<Key, Group>,
    /// Of recent failures.
    failures: Recent<Known>,
    /// Failures and responses without records of their own.
    counted: u64,
    lost: BTreeMap<(String, LossReason), Option<u64>>,
    /// From `stats`: connections begun, by upstream.
    connections: Option<BTreeMap<String, u64>>,
}

type Key = (Cause, Option<String>);

#[derive(Clone, Debug)]
struct Known {
    key: Key,
    outcome: Outcome,
}

/// One row.
#[derive(Clone, Debug)]
struct Group {
    attempts: u64,
    /// Responses that this decided.
    errors: u64,
    first: Timestamp,
    last: Timestamp,
    reason: Option<String>,
    hint: Option<String>,
}

impl Default for Summary {
    fn default() -> Self {
        Self {
            begun: None,
            attempts: 0,
            responses: 0,
            unexplained: 0,
            by_status: BTreeMap::new(),
            mended: 0,
            by_origin: BTreeMap::new(),
            retried: 0,
            retried_in_vain: 0,
            cut: 0,
            unanswered: 0,
            groups: HashMap::new(),
            failures: Recent::new(REMEMBERED),
            counted: 0,
            lost: BTreeMap::new(),
            connections: None,
        }
    }
}

impl Summary {
    pub fn count(&mut self, record: &Record) {
        match record {
            Record::Session(session) => self.begun = self.begun.or(Some(session.time)),
            Record::Failure(failure) => self.failure(failure),
            Record::Response(response) => self.response(response),
            Record::Update(update) => {
                let Some(known) = self.failures.get_mut(update.failure) else { return };
                if let Some(root) = &update.root
                    && let Some(group) = self.groups.get_mut(&known.key)
                {
                    group.reason = Some(root.text.clone());
                    group.hint = update.hint.as_deref().map(str::to_owned).or_else(|| group.hint.take());
                }
                if let Some(outcome) = update.outcome {
                    let before = std::mem::replace(&mut known.outcome, outcome);
                    self.outcome(before, -1);
                    self.outcome(outcome, 1);
                }
            }
            Record::Lost(Lost { counted: Some(counted), time, .. }) => self.add(counted, *time),
            Record::Lost(lost) => {
                let sum = self.lost.entry((lost.program.to_string(), lost.reason)).or_insert(Some(0));
                *sum = sum.zip(lost.count).map(|(sum, count)| sum + count);
            }
            Record::Stats(stats) => {
                let connections = self.connections.get_or_insert_default();
                for upstream in &stats.upstreams {
                    if connections.len() < GROUPS || connections.contains_key(&upstream.address) {
                        *connections.entry(upstream.address.clone()).or_default() += upstream.connections;
                    }
                }
            }
            Record::Worker(_) | Record::Overflow(_) | Record::Exit(_) | Record::Attempt(_) | Record::End(_) => {}
        }
    }

    fn failure(&mut self, failure: &Failure) {
        self.attempts += 1;
        self.outcome(failure.outcome, 1);
        let key = self.key(failure.cause, failure.upstream.as_ref().map(|upstream| upstream.address.as_str()));
        let group = self.groups.entry(key.clone()).or_insert_with(|| Group::new(failure.time));
        group.attempts += 1;
        group.last = group.last.max(failure.time);
        if let Some(root) = &failure.root {
            group.reason = Some(root.text.clone());
        }
        if let Some(hint) = &failure.hint {
            group.hint = Some(hint.to_string());
        }
        self.failures.insert(failure.id, Known { key, outcome: failure.outcome });
    }

    /// Failures and responses that have no records of their own.
    fn add(&mut self, counted: &Counted, time: Timestamp) {
        self.counted += counted.failures + counted.responses;
        self.attempts += counted.failures;
        self.responses += counted.responses;
        for (status, count) in &counted.by_status {
            *self.by_status.entry(*status).or_default() += count;
        }
        self.retried += counted.by_outcome.get(&Outcome::Retried).copied().unwrap_or(0);
        self.retried_in_vain += counted.retried_in_vain;
        let key = self.key(counted.cause, counted.upstream.as_deref());
        let group = self.groups.entry(key).or_insert_with(|| Group::new(counted.since));
        group.attempts += counted.failures;
        group.errors += counted.responses;
        group.last = group.last.max(time);
    }

    fn response(&mut self, response: &Response) {
        self.responses += 1;
        self.retried_in_vain += u64::from(response.counted);
        self.unexplained += u64::from(response.cause == Cause::Unexplained);
        self.mended += u64::from(response.client_status.is_some_and(|status| status < 500));
        *self.by_status.entry(response.status).or_default() += 1;
        if response.origin != Origin::Nginx {
            *self.by_origin.entry(response.origin).or_default() += 1;
        }
        let attempts = response.failures.iter().filter_map(|id| self.failures.get(*id));
        self.retried_in_vain += attempts.filter(|known| known.outcome == Outcome::Retried).count() as u64;
        let decisive = response.failures.last().filter(|_| response.is_of_last_failure());
        let decisive = decisive.and_then(|id| self.failures.get(*id));
        if decisive.is_some_and(|known| known.outcome == Outcome::Final) {
            self.unanswered = self.unanswered.saturating_sub(1);
        }
        let key = match decisive {
            Some(known) => known.key.clone(),
            None => self.key(response.cause, response.upstream.as_deref()),
        };
        let group = self.groups.entry(key).or_insert_with(|| Group::new(response.time));
        group.errors += 1;
        group.last = group.last.max(response.time);
        if let Some(hint) = &response.hint {
            group.hint = Some(hint.to_string());
        }
    }

    fn outcome(&mut self, outcome: Outcome, step: i64) {
        match outcome {
            Outcome::Retried => self.retried = self.retried.saturating_add_signed(step),
            Outcome::Truncated => self.cut = self.cut.saturating_add_signed(step),
            Outcome::Final => self.unanswered = self.unanswered.saturating_add_signed(step),
            Outcome::ClientGone | Outcome::Unknown => {}
        }
    }

    fn key(&self, cause: Cause, upstream: Option<&str>) -> Key {
        let key = (cause, upstream.map(str::to_owned));
        if self.groups.len() < GROUPS || self.groups.contains_key(&key) { key } else { (cause, None) }
    }

    /// Most errors first.
    fn rows(&self) -> Vec<(&Key, &Group)> {
        let mut rows: Vec<_> = self.groups.iter().collect();
        rows.sort_by(|(a_key, a), (b_key, b)| {
            (b.errors, b.attempts).cmp(&(a.errors, a.attempts)).then_with(|| a_key.cmp(b_key))
        });
        rows
    }
}

impl Group {
    fn new(time: Timestamp) -> Self {
        Self { attempts: 0, errors: 0, first: time, last: time, reason: None, hint: None }
    }

    fn advice(&self, cause: Cause) -> &str {
        self.hint.as_deref().unwrap_or_else(|| explain::hint(cause))
    }
}

#[cfg(test)]
mod tests;
