//! The failures that put the servers of an upstream out, before there was no live one left.

use std::collections::HashMap;

use super::{Engine, Recent};
use crate::model::{
    address::Address,
    configured::{Block, Configured},
    event::{Moment, Request},
    verdict::VerdictId,
};

/// What is older than this has put no server out: fail_timeout is 10 s by default.
const LED_HERE_NS: u64 = 300_000_000_000;
/// How many earlier failures a response without an attempt names.
const RELATED: usize = 8;
/// How long an answer is good for, where nothing has failed since: where all servers are out nothing does, and each request asks.
const FRESH_NS: u64 = 100_000_000;

/// Latest first.
#[derive(Clone, Debug, Default)]
pub(super) struct LedHere {
    pub(super) related: Vec<VerdictId>,
    /// Each server once, and when it last failed.
    pub(super) last_failed: Vec<(Address, u64)>,
}

/// The last answers, by worker and upstream.
pub(super) type Answers = HashMap<(u32, Option<Block>), Answered>;
/// So many at most.
const ANSWERS: usize = 256;

/// An answer, and as of when.
#[derive(Debug)]
pub(super) struct Answered {
    time_ns: u64,
    /// The last failure then.
    latest: Option<VerdictId>,
    answer: LedHere,
}

impl Engine {
    /// Of the same upstream, in the same worker unless only others know of any (the upstream's `zone` shares them). nginx counts none of
    /// those after the header.
    pub(super) fn led_here(&mut self, moment: &Moment, request: &Request, own: &[VerdictId]) -> LedHere {
        let wanted = request.configured.as_deref().and_then(block);
        if !own.is_empty() {
            return self.look_back(moment, wanted, own);
        }
        let latest = self.recent.back().map(|recent| recent.failure);
        let key = (moment.pid, wanted.cloned());
        if let Some(answered) = self.led_here.get(&key)
            && answered.latest == latest
            && moment.time_ns.abs_diff(answered.time_ns) < FRESH_NS
        {
            return answered.answer.clone();
        }
        let answer = self.look_back(moment, wanted, own);
        if self.led_here.len() >= ANSWERS {
            self.led_here.clear();
        }
        self.led_here.insert(key, Answered { time_ns: moment.time_ns, latest, answer: answer.clone() });
        answer
    }

    fn look_back(&self, moment: &Moment, wanted: Option<&Block>, own: &[VerdictId]) -> LedHere {
        // The cheapest question first: it may be asked of thousands.
        let same = |recent: &&Recent| {
            let known = recent.configured.as_deref().and_then(block);
            moment.time_ns.saturating_sub(recent.time_ns) < LED_HERE_NS
                && (wanted.is_none() || known.is_none() || known == wanted)
                && !own.contains(&recent.failure)
                && !self.causes.get(&recent.failure).is_some_and(|cause| cause.after_header())
        };
        let lately = || self.recent.iter().rev();
        let mut found: Vec<&Recent> =
            lately().filter(|recent| recent.worker == moment.pid).filter(same).take(RELATED).collect();
        if found.is_empty() && wanted.is_some() {
            found = lately().filter(same).take(RELATED).collect();
        }
        let mut last_failed: Vec<(Address, u64)> = Vec::new();
        for recent in &found {
            if let Some(upstream) = &recent.upstream
                && last_failed.iter().all(|(known, _)| known != upstream)
            {
                last_failed.push((upstream.clone(), recent.time_ns));
            }
        }
        LedHere { related: found.iter().map(|recent| recent.failure).collect(), last_failed }
    }
}

fn block(configured: &Configured) -> Option<&Block> {
    configured.pass.as_ref()?.block.as_ref()
}
