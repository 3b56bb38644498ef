//! How far away a reset was sent, beside the answers, by what was left of their time to live.

use crate::collect::ttl::Ttl;

/// What senders begin with: Linux and macOS, Windows, and much of what stands on the way.
const INITIAL: [u8; 3] = [64, 128, 255];

/// Ways of more routers than these are not met.
const LONGEST: u8 = 40;

/// How far a reset has come, where something else of the upstream has come, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Distance {
    ttl: Ttl,
    answer: u8,
    own: bool,
}

impl Distance {
    /// None: there is nothing that it could be held against.
    pub(super) fn of(ttl: Ttl) -> Option<Self> {
        let (answer, own) = ttl.answer?;
        Some(Self { ttl, answer, own })
    }

    /// Routers on the way from who sent the reset, where the answers come from farther away: then another one sent it. One router
    /// more or less may be another way's.
    pub(super) fn of_another(self) -> Option<u8> {
        let (reset, answer) = (routers(self.ttl.reset), routers(self.answer));
        (self.is_plausible() && reset + 1 < answer).then_some(reset)
    }

    /// Both began with what senders begin with, as far as can be told: no way is longer.
    fn is_plausible(self) -> bool {
        [self.ttl.reset, self.answer].into_iter().all(|ttl| routers(ttl) <= LONGEST)
    }

    /// Goes on behind where and when it came.
    pub(super) fn text(self) -> String {
        let answers = if self.own { "its answers" } else { "the answers over other connections" };
        let (reset, answer) = (self.ttl.reset, self.answer);
        match (routers(reset), routers(answer)) {
            _ if reset == answer => format!("; its TTL is that of {answers} ({reset})"),
            _ if !self.is_plausible() => format!("; its TTL is {reset}, that of {answers} {answer}"),
            (one, other) if one == other => format!("; it has come as far as {answers} (TTL {reset} and {answer})"),
            (near, far) => {
                let surely = self.own && self.of_another().is_some();
                let other =
                    if surely { "most likely another one sent it" } else { "another one sent it, or over another way" };
                format!("; it has passed {near} routers, {answers} {far} (TTL {reset} and {answer}): {other}")
            }
        }
    }
}

/// Each on the way takes one off.
const fn routers(ttl: u8) -> u8 {
    let mut place = 0;
    while INITIAL[place] < ttl {
        place += 1;
    }
    INITIAL[place] - ttl
}

#[cfg(test)]
mod tests {
    use super::{Distance, routers};
    use crate::collect::ttl::Ttl;

    fn distance(reset: u8, answer: u8, own: bool) -> Distance {
        Distance::of(Ttl { reset_ns: 1, reset, answer: Some((answer, own)) }).expect("a distance")
    }

    #[test]
    fn routers_are_counted_from_what_senders_begin_with() {
        assert_eq!([0, 1, 57, 64, 65, 128, 129, 250, 255].map(routers), [64, 63, 7, 0, 63, 0, 126, 5, 0]);
    }

    #[test]
    fn another_one_is_nearer() {
        assert_eq!(distance(57, 57, true).of_another(), None);
        assert_eq!(distance(248, 57, true).of_another(), None, "7 routers each");
        assert_eq!(distance(62, 57, true).of_another(), Some(2));
        assert_eq!(distance(65, 64, true).of_another(), None, "it began with neither 64 nor 128");
        assert_eq!(distance(65, 64, true).text(), "; its TTL is 65, that of its answers 64");
        assert_eq!(
            distance(57, 62, true).of_another(),
            None,
            "what is farther may be the upstream, and the answers a proxy's"
        );
        assert_eq!(distance(58, 57, true).of_another(), None, "over another way");
        assert_eq!(Distance::of(Ttl { reset_ns: 1, reset: 57, answer: None }), None);
    }

    #[test]
    fn what_is_compared_is_said() {
        assert_eq!(distance(57, 57, true).text(), "; its TTL is that of its answers (57)");
        assert_eq!(distance(57, 57, false).text(), "; its TTL is that of the answers over other connections (57)");
        assert_eq!(distance(248, 57, true).text(), "; it has come as far as its answers (TTL 248 and 57)");
        assert_eq!(
            distance(62, 57, true).text(),
            "; it has passed 2 routers, its answers 7 (TTL 62 and 57): most likely another one sent it"
        );
        for one in [distance(62, 57, false), distance(56, 57, true), distance(50, 57, true)] {
            assert!(one.text().ends_with("another one sent it, or over another way"), "{}", one.text());
        }
    }
}
