//! How far segments of other hosts have come, as the kernel programs see it while they look.

use aya::maps::{HashMap, MapData};
use tracer_common::{drop::DropKey, ttl};

use super::address::segments;
use crate::model::host::Ends;

/// Times to live that were left when segments of a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl {
    /// When the RST came.
    pub reset_ns: u64,
    /// Of the RST.
    pub reset: u8,
    /// Of what came before it, and whether that was over this connection; None: nothing did.
    pub answer: Option<(u8, bool)>,
}

/// Times to live by connection.
#[expect(missing_debug_implementations, reason = "aya's map has none")]
pub struct Ttls {
    map: HashMap<MapData, DropKey, ttl::Ttls>,
    wanted_ns: Option<u64>,
}

impl Ttls {
    pub const fn new(map: HashMap<MapData, DropKey, ttl::Ttls>) -> Self {
        Self { map, wanted_ns: None }
    }

    /// Another host reset a connection at this time.
    pub const fn want(&mut self, time_ns: u64) {
        self.wanted_ns = Some(time_ns);
    }

    /// When one last did.
    pub const fn last_wanted_ns(&self) -> Option<u64> {
        self.wanted_ns
    }

    /// Of the RST that the connection received.
    pub fn of_reset(&self, ends: &Ends) -> Option<Ttl> {
        let key = segments(ends.remote, ends.local, ends.netns);
        let ttl::Ttls { started_ns: _, reset_ns, reset, answer, elsewhere, minute: _, reserved: _ } =
            self.map.get(&key, 0).ok()?;
        let seen = |ttl: u8, own| (ttl != 0).then_some((ttl, own));
        (reset_ns != 0).then(|| Ttl { reset_ns, reset, answer: seen(answer, true).or_else(|| seen(elsewhere, false)) })
    }
}
