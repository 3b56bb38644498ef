//! The failures that put the servers of an upstream out, before there was no live one left.

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

/// The last answer, and what it is one to.
#[derive(Debug)]
pub(super) struct Answered {
    time_ns: u64,
    worker: u32,
    block: Option<Block>,
    latest: Option<VerdictId>,
    answer: LedHere,
}

impl Engine {
    /// Of the same upstream, in the same worker unless only others know of any (the upstream's `zone` shares them). nginx counts none of
    /// those after the header.
    pub(super) fn led_here(&mut self, moment: &Moment, request: &Request, own: &[VerdictId]) -> LedHere {
        let wanted = request.configured.as_deref().and_then(block);
        let latest = self.recent.back().map(|recent| recent.failure);
        if let Some(answered) = &self.led_here
            && own.is_empty()
            && (answered.worker, answered.latest, answered.block.as_ref()) == (moment.pid, latest, wanted)
            && moment.time_ns.abs_diff(answered.time_ns) < FRESH_NS
        {
            return answered.answer.clone();
        }
        let answer = self.look_back(moment, wanted, own);
        if own.is_empty() {
            self.led_here = Some(Answered {
                time_ns: moment.time_ns,
                worker: moment.pid,
                block: wanted.cloned(),
                latest,
                answer: answer.clone(),
            });
        }
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
