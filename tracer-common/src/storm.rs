//! Complaints that come too often to be told one by one: counted in the kernel, by kind.
//!
//! User space names a kind once nginx's word about it is understood and known to mean one cause; the kernel programs then
//! count what goes beyond the first of each interval. Nothing is counted that nobody has named.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Length of an interval.
pub const INTERVAL_NS: u64 = 100_000_000;
/// So many of a kind and an interval are told in full: more than whoever reads them needs, fewer than would slow nginx for long.
pub const MANY: u32 = 1000;
/// So many once an interval had more than [`MANY`], until one has not.
pub const FEW: u32 = 5;

/// Entry 0 of the map `STORMING`: no kind has been named.
pub const CALM: u32 = 0;
/// Some have.
pub const NAMED: u32 = 1;
/// And user space is behind, be it because of many workers: of named kinds only [`FEW`] are told.
pub const BEHIND: u32 = 2;

/// Words of a peer's name that are looked at; kinds whose peer has a longer name are not counted.
pub const PEER_WORDS: usize = 8;

/// What the cause depends on, and where it happened. Pointers are to what never changes in a worker's life: constants of the
/// binary, and its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct StormKey {
    /// `fmt` of `ngx_log_error_core()`.
    pub literal: u64,
    /// `log->action`.
    pub action: u64,
    /// `r->loc_conf`.
    pub location: u64,
    /// [`peer_id`] of `u->peer.name`.
    pub peer: u64,
    pub tgid: u32,
    pub errno: u32,
}

crate::wire_pod!(StormKey, 40);

/// What was counted. Written in the context of its worker alone; user space puts it there, and reads it.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Storm {
    /// When the running interval began.
    pub since_ns: u64,
    /// Complaints in it, told or counted.
    pub complaints: u32,
    /// 1: the interval before had more than [`MANY`].
    pub raging: u32,
    /// Complaints counted since the beginning, as all that follows.
    pub counted: u64,
    /// Of those, the ones whose request went on to another attempt.
    pub retried: u64,
    /// Of those, the ones that an error page followed.
    pub ended: u64,
    /// Requests that got their first error page so.
    pub bad_gateway: u64,
    pub gateway_timeout: u64,
    /// Of those requests, the ones that had no other counted complaint.
    pub answered_alone: u64,
    /// Complaints counted before of the requests that were answered.
    pub in_vain: u64,
}

crate::wire_pod!(Storm, 16 + 7 * 8);

/// A main request.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct RequestId {
    pub request: u64,
    pub tgid: u32,
    pub reserved: u32,
}

crate::wire_pod!(RequestId, 16);

/// What was said of a main request: all of it is told, or all of it is counted, so that no response is both.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Spoken {
    /// When it began, ms since 1970 by nginx's clock; 0: not known.
    pub start_ms: u64,
    /// Attempts when nginx last complained: not more of them is another request at the same address.
    pub attempts: u32,
    /// Complaints told in full.
    pub told: u32,
    /// Complaints counted.
    pub counted: u32,
    /// 1: so was its error page.
    pub answered: u32,
    /// Under which kind the last one was.
    pub counted_as: StormKey,
}

crate::wire_pod!(Spoken, 64);

/// A number for a name of so many bytes, the rest of the words zero.
#[inline(always)]
pub fn peer_id(length: u64, words: &[u64; PEER_WORDS]) -> u64 {
    let mut id = length.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for word in words {
        id = (id ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        id ^= id >> 32;
    }
    id
}

/// [`peer_id`] of a name; None: it is too long, or there is none.
pub fn peer_id_of(name: &[u8]) -> Option<u64> {
    let mut bytes = [0; PEER_WORDS * 8];
    bytes.get_mut(..name.len()).filter(|place| !place.is_empty())?.copy_from_slice(name);
    let mut words = [0; PEER_WORDS];
    for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = u64::from_ne_bytes(chunk.try_into().ok()?);
    }
    Some(peer_id(name.len() as u64, &words))
}

impl Storm {
    /// One more complaint of the kind; true: there have been enough of them in this interval. `storming` is [`NAMED`] or
    /// [`BEHIND`].
    #[inline(always)]
    pub const fn is_enough(&mut self, now_ns: u64, storming: u32) -> bool {
        let passed = now_ns.wrapping_sub(self.since_ns);
        if passed >= INTERVAL_NS {
            self.raging = (self.complaints > MANY && passed < 2 * INTERVAL_NS) as u32;
            self.since_ns = now_ns;
            self.complaints = 0;
        }
        self.complaints += 1;
        self.complaints > if self.raging == 1 || storming == BEHIND { FEW } else { MANY }
    }
}

#[cfg(test)]
mod tests {
    use super::{BEHIND, FEW, INTERVAL_NS, MANY, NAMED, Storm, peer_id_of};

    /// Complaints told of so many in each interval, from the given one on.
    fn told(storm: &mut Storm, interval: u64, complaints: u64) -> u32 {
        let at = |number| interval * INTERVAL_NS + number * INTERVAL_NS / complaints.max(1);
        (0..complaints).map(|number| u32::from(!storm.is_enough(at(number), NAMED))).sum()
    }

    #[test]
    fn up_to_ten_thousand_a_second_all_are_told() {
        let mut storm = Storm::default();
        assert!((10..60).all(|interval| told(&mut storm, interval, u64::from(MANY)) == MANY));
    }

    #[test]
    fn of_a_storm_the_first_and_then_a_few_are_told_until_it_is_over() {
        let mut storm = Storm::default();
        assert_eq!(told(&mut storm, 10, 3000), MANY);
        assert_eq!(told(&mut storm, 11, 3000), FEW);
        assert_eq!(told(&mut storm, 12, 100), FEW);
        assert_eq!(told(&mut storm, 13, 100), 100, "it is over");
        assert_eq!(told(&mut storm, 14, 3000), MANY);
        assert_eq!(told(&mut storm, 20, 3000), MANY, "a pause lies between");
    }

    #[test]
    fn a_reader_that_is_behind_is_told_few() {
        let mut storm = Storm::default();
        let told = (0..100).filter(|number| !storm.is_enough(10 * INTERVAL_NS + number, BEHIND)).count();
        assert_eq!(told, FEW as usize);
        assert!(!storm.is_enough(10 * INTERVAL_NS + 100, NAMED));
    }

    #[test]
    fn names_are_told_apart() {
        let names = ["a", "b", "ab", "127.0.0.1:80", "127.0.0.1:8080", "[::1]:80"];
        let ids = names.map(|name| peer_id_of(name.as_bytes()));
        assert!(ids.iter().enumerate().all(|(index, id)| id.is_some() && !ids[..index].contains(id)), "{ids:?}");
        assert_eq!(peer_id_of(b""), None);
        assert_eq!(peer_id_of(&[b'x'; 65]), None);
    }
}
