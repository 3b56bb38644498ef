//! What listeners of this host dropped, as the kernel programs counted it.

use std::collections::HashMap as Map;

use aya::maps::{MapData, PerCpuHashMap};
use tracer_common::listener::{ListenerKey, Overflowed};

use super::address::on_wire;
use super::host::place;
use crate::model::host::Place;

/// Drops by listener.
#[expect(missing_debug_implementations, reason = "aya's map has none")]
pub struct Overflows {
    map: PerCpuHashMap<MapData, ListenerKey, Overflowed>,
    /// Every SYN is seen when it is dropped.
    pub exact: bool,
    told: Map<Place, Overflowed>,
}

impl Overflows {
    pub fn new(map: PerCpuHashMap<MapData, ListenerKey, Overflowed>, exact: bool) -> Self {
        Self { map, exact, told: Map::new() }
    }

    /// What was seen at a listener so far.
    pub fn at(&self, place: Place) -> Option<Overflowed> {
        let address = on_wire(place.address);
        let key = ListenerKey { address, port: place.address.port(), reserved: 0, netns: place.netns };
        Some(sum(&self.map.get(&key, 0).ok()?))
    }

    /// Listeners that dropped since the last call; the counts are those of the interval.
    pub fn poll(&mut self) -> Vec<(Place, Overflowed)> {
        let mut news = Vec::new();
        let mut now = Map::new();
        for (key, seen) in self.map.iter().flatten() {
            let Some(place) = place(&key) else { continue };
            let seen = sum(&seen);
            // An entry that was evicted begins anew.
            let told = self.told.get(&place).filter(|told| told.accept <= seen.accept && told.syn <= seen.syn);
            let (accept, syn) = told.map_or((0, 0), |told| (told.accept, told.syn));
            if seen.accept > accept || seen.syn > syn {
                news.push((place, Overflowed { accept: seen.accept - accept, syn: seen.syn - syn, ..seen }));
            }
            now.insert(place, seen);
        }
        self.told = now;
        news
    }
}

/// Of all processors.
fn sum(values: &[Overflowed]) -> Overflowed {
    values.iter().fold(Overflowed::default(), |sum, value| sum.and(value))
}
