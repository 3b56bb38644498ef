//! After how long an upstream closes idle connections: its keepalive timeout, as measured.

use std::net::SocketAddr;

use aya::maps::{MapData, PerCpuHashMap};
use tracer_common::upstream::{IDLE_CLASSES, IdleCloses, UpstreamKey};

use super::address::on_wire;

/// Fewer closes say nothing.
const FEWEST: u64 = 3;

/// Idle times by upstream.
#[expect(missing_debug_implementations, reason = "aya's map has none")]
pub struct Idle {
    map: PerCpuHashMap<MapData, UpstreamKey, IdleCloses>,
    jiffy_us: u64,
}

/// What the closes agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeout {
    pub idle_us: u64,
    /// How many closes were about there, and how many there were in all.
    pub agreeing: u64,
    pub closes: u64,
}

impl Idle {
    pub const fn new(map: PerCpuHashMap<MapData, UpstreamKey, IdleCloses>, jiffy_us: u64) -> Self {
        Self { map, jiffy_us }
    }

    /// The keepalive timeout of an upstream; None: too few closes were seen, or they do not agree.
    pub fn timeout(&self, netns: u32, upstream: SocketAddr) -> Option<Timeout> {
        let address = on_wire(upstream);
        let key = UpstreamKey { address, port: upstream.port(), reserved: 0, netns };
        let seen = self.map.get(&key, 0).ok()?;
        let mut classes = [(0, 0); IDLE_CLASSES];
        for closes in seen.iter() {
            for ((count, sum), (more, jiffies)) in classes.iter_mut().zip(closes.closes.iter().zip(closes.jiffies)) {
                *count += u64::from(*more);
                *sum += jiffies;
            }
        }
        agreed(&classes, self.jiffy_us)
    }
}

/// Two neighbouring classes (a timeout may lie on the border) must have two thirds of all closes.
fn agreed(classes: &[(u64, u64); IDLE_CLASSES], jiffy_us: u64) -> Option<Timeout> {
    let closes: u64 = classes.iter().map(|(count, _)| count).sum();
    let pairs = classes.windows(2).filter_map(|pair| match pair {
        [(one, jiffies), (other, more)] => Some((one + other, jiffies + more)),
        _ => None,
    });
    let (agreeing, jiffies) = pairs.max_by_key(|(count, _)| *count)?;
    (closes >= FEWEST && agreeing * 3 >= closes * 2).then(|| Timeout {
        idle_us: jiffies * jiffy_us / agreeing,
        agreeing,
        closes,
    })
}

#[cfg(test)]
mod tests {
    use super::{IDLE_CLASSES, Timeout, agreed};

    fn seen(classes: &[(usize, u64, u64)]) -> Option<Timeout> {
        let mut all = [(0, 0); IDLE_CLASSES];
        for (class, count, jiffies) in classes {
            all[*class] = (*count, count * jiffies);
        }
        agreed(&all, 4_000)
    }

    #[test]
    fn what_most_closes_agree_on() {
        // 5 s at 250 Hz, and one close of another reason.
        let timeout = seen(&[(40, 9, 1250), (30, 1, 200)]).expect("nine of ten");
        assert_eq!(timeout, Timeout { idle_us: 5_000_000, agreeing: 9, closes: 10 });
        assert_eq!(seen(&[(40, 2, 1279), (41, 1, 1280)]).expect("on the border").agreeing, 3);
    }

    #[test]
    fn too_few_or_too_different() {
        assert_eq!(seen(&[(40, 2, 1250)]), None);
        assert_eq!(seen(&[(40, 3, 1250), (30, 3, 200), (50, 3, 8000)]), None);
        assert_eq!(seen(&[]), None);
    }
}
