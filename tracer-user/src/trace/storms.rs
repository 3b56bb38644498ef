//! Complaints that the kernel programs count instead of telling: which kinds those are, and what was counted.
//!
//! A kind is named to the kernel when it comes often and its cause is proven by what makes it a kind: nginx's literal, errno
//! and action, for the same peer and location of the same worker. Only causes are named that depend on nothing else.

use std::collections::{BTreeMap, HashMap as Map};

use aya::maps::{Array, HashMap, MapData};
use tracer_common::storm::{BEHIND, CALM, INTERVAL_NS, NAMED, Storm, StormKey};

use crate::{
    diagnose::{
        rules::{self, Attempt},
        word::{self, Said, errno},
    },
    model::{
        cause::Cause,
        event::{Bound, Complaint, Kind, Moment, Subject},
        verdict::Confidence,
    },
    record::{self, Counted, Outcome},
};

/// Complaints of a kind within an interval that make it worth naming: a thousand a second.
const OFTEN: u32 = 100;
/// The same while they come faster than they can be read.
const OFTEN_ENOUGH: u32 = 10;
/// Kinds that are watched at once, to see whether they come often.
const WATCHED: usize = 1024;

/// What counts of one cause and upstream are added up under.
type Row = (Cause, Option<String>);

/// Named kinds, and their counts since they were last told.
pub(super) struct Storms {
    map: HashMap<MapData, StormKey, Storm>,
    /// For the kernel programs: whether any kind is named, and whether they are read fast enough.
    on: Array<MapData, u32>,
    state: u32,
    behind: bool,
    named: Map<Kind, (Row, Storm)>,
    watched: Map<Kind, (u64, u32)>,
    untold: BTreeMap<Row, Counted>,
}

impl Storms {
    pub(super) fn new(map: HashMap<MapData, StormKey, Storm>, on: Array<MapData, u32>) -> Self {
        Self { map, on, state: CALM, behind: false, named: Map::new(), watched: Map::new(), untold: BTreeMap::new() }
    }

    /// Events come faster than they are read, or no longer.
    pub(super) fn set_behind(&mut self, behind: bool) {
        self.behind = behind;
        self.show();
    }

    /// Tells the kernel programs how things are.
    fn show(&mut self) {
        let state = match (self.named.is_empty(), self.behind) {
            (true, _) => CALM,
            (false, false) => NAMED,
            (false, true) => BEHIND,
        };
        // Where it fails it is tried again the next time.
        if state != self.state && self.on.set(0, state, 0).is_ok() {
            self.state = state;
        }
    }

    /// nginx complained; names the kind if it comes often. One that the kernel has no room for goes on being told.
    pub(super) fn heard(&mut self, moment: &Moment, complaint: &Complaint) {
        let Some(kind) = complaint.kind else { return };
        if self.named.contains_key(&kind) {
            return;
        }
        if self.watched.len() >= WATCHED && !self.watched.contains_key(&kind) {
            self.watched.clear();
        }
        let (since_ns, count) = self.watched.entry(kind).or_insert((moment.time_ns, 0));
        if moment.time_ns.saturating_sub(*since_ns) >= INTERVAL_NS {
            (*since_ns, *count) = (moment.time_ns, 0);
        }
        *count += 1;
        if *count < if self.behind { OFTEN_ENOUGH } else { OFTEN } {
            return;
        }
        *count = 0;
        if let Some(row) = row_of(complaint)
            && self.map.insert(key(&kind), Storm::default(), 0).is_ok()
        {
            self.watched.remove(&kind);
            self.named.insert(kind, (row, Storm::default()));
            self.show();
        }
    }

    /// Takes in what was counted since the last call; true: anything was.
    pub(super) fn poll(&mut self, now: record::Timestamp) -> bool {
        let mut any = false;
        for (kind, (row, seen)) in &mut self.named {
            let Ok(storm) = self.map.get(&key(kind), 0) else { continue };
            if storm.counted != seen.counted || storm.ended != seen.ended || storm.retried != seen.retried {
                any = true;
                let counted = self.untold.entry(row.clone()).or_insert_with(|| nothing(row, now));
                add(counted, seen, &storm);
            }
            *seen = storm;
        }
        any
    }

    /// What was counted and not told yet, by cause and upstream.
    pub(super) fn take(&mut self) -> Vec<Counted> {
        std::mem::take(&mut self.untold).into_values().collect()
    }

    /// The process has ended: nothing more is counted for it.
    pub(super) fn gone(&mut self, pid: u32, now: record::Timestamp) {
        if !self.named.keys().any(|kind| kind.worker == pid) {
            return;
        }
        self.poll(now);
        let map = &mut self.map;
        self.named.retain(|kind, _| {
            let stays = kind.worker != pid;
            if !stays {
                // Gone already, or else a place less.
                let _ = map.remove(&key(kind));
            }
            stays
        });
        self.show();
    }
}

/// Cause and upstream of what this complaint is about, if they follow from its kind alone.
fn row_of(complaint: &Complaint) -> Option<Row> {
    let Subject::Http(request) = &complaint.subject else { return None };
    let said = word::said(complaint)?;
    let connection = match &complaint.bound {
        Bound::Tcp(connection) => Some(connection),
        Bound::Unix(_) | Bound::None => None,
    };
    let decision = rules::decide(said, &Attempt { complaint, connection, jiffy_us: 0 })?;
    if decision.confidence != Confidence::Proven || decision.disagreement.is_some() {
        return None;
    }
    match (said, decision.cause) {
        // SO_ERROR is ECONNREFUSED after a connect alone (tcp_reset(), net/ipv4/tcp_input.c).
        (Said::ConnectFailed, Cause::ConnectRefused) if complaint.errno == errno::ECONNREFUSED => {
            Some((decision.cause, Some(connection?.remote.to_string())))
        }
        (Said::NoLiveUpstreams, cause) => Some((cause, request.peer.clone())),
        _ => None,
    }
}

fn key(kind: &Kind) -> StormKey {
    let Kind { worker, errno, literal, action, location, peer } = *kind;
    StormKey { literal, action, location, peer, tgid: worker, errno: errno.cast_unsigned() }
}

fn nothing((cause, upstream): &Row, since: record::Timestamp) -> Counted {
    Counted {
        cause: *cause,
        upstream: upstream.clone(),
        since,
        failures: 0,
        by_outcome: BTreeMap::new(),
        responses: 0,
        by_status: BTreeMap::new(),
        responses_alone: 0,
        retried_in_vain: 0,
    }
}

/// Adds what came between two readings of a kind.
fn add(counted: &mut Counted, before: &Storm, now: &Storm) {
    let statuses = [(502, now.bad_gateway - before.bad_gateway), (504, now.gateway_timeout - before.gateway_timeout)];
    for (status, count) in statuses.into_iter().filter(|(_, count)| *count > 0) {
        *counted.by_status.entry(status).or_default() += count;
        counted.responses += count;
    }
    counted.retried_in_vain += now.in_vain - before.in_vain;
    // Without a server to try nginx makes no attempt: the response is all there is.
    if counted.cause == Cause::NoLiveUpstreams {
        counted.responses_alone += now.answered_alone - before.answered_alone;
        return;
    }
    counted.failures += now.counted - before.counted;
    let outcomes = [(Outcome::Final, now.ended - before.ended), (Outcome::Retried, now.retried - before.retried)];
    // One may be ahead of its complaint, when a reading comes between them.
    for (outcome, count) in outcomes {
        if count > 0 {
            *counted.by_outcome.entry(outcome).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tracer_common::storm::Storm;

    use super::{add, nothing};
    use crate::{
        model::cause::Cause,
        record::{Outcome, samples::at},
    };

    #[test]
    fn what_came_between_two_readings_is_added() {
        let before = Storm {
            counted: 10,
            retried: 2,
            ended: 8,
            bad_gateway: 7,
            in_vain: 1,
            answered_alone: 6,
            ..Storm::default()
        };
        let now =
            Storm { counted: 110, retried: 12, ended: 98, bad_gateway: 97, in_vain: 4, answered_alone: 90, ..before };
        let mut counted = nothing(&(Cause::ConnectRefused, Some("127.0.0.1:80".to_owned())), at(0));
        add(&mut counted, &before, &now);
        assert_eq!((counted.failures, counted.responses, counted.retried_in_vain), (100, 90, 3));
        assert_eq!(counted.by_outcome, BTreeMap::from([(Outcome::Final, 90), (Outcome::Retried, 10)]));
        assert_eq!((counted.by_status, counted.responses_alone), (BTreeMap::from([(502, 90)]), 0));
    }

    #[test]
    fn without_a_server_to_try_nothing_was_attempted() {
        let now = Storm { counted: 50, bad_gateway: 50, answered_alone: 45, in_vain: 5, ..Storm::default() };
        let mut counted = nothing(&(Cause::NoLiveUpstreams, Some("pool".to_owned())), at(0));
        add(&mut counted, &Storm::default(), &now);
        assert_eq!((counted.failures, counted.responses, counted.responses_alone), (0, 50, 45));
        assert!(counted.by_outcome.is_empty());
    }
}
