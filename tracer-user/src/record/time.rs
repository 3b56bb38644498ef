//! Wall-clock time in records: UTC, RFC 3339, microseconds.

use std::fmt;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// When something happened. Nanoseconds inside, microseconds in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(jiff::Timestamp);

impl Timestamp {
    /// The present, by the wall clock.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now())
    }

    /// From nanoseconds since 1970. What lies outside the calendar (years −9999 to 9999) becomes its nearest end.
    pub fn from_unix_ns(nanoseconds: i128) -> Self {
        let clamped = nanoseconds.clamp(jiff::Timestamp::MIN.as_nanosecond(), jiff::Timestamp::MAX.as_nanosecond());
        Self(jiff::Timestamp::from_nanosecond(clamped).unwrap_or(jiff::Timestamp::UNIX_EPOCH))
    }

    /// Nanoseconds since 1970.
    pub fn unix_ns(self) -> i128 {
        self.0.as_nanosecond()
    }

    /// Microseconds from `earlier` to this; negative when `earlier` is later.
    pub fn micros_since(self, earlier: Self) -> i64 {
        i64::try_from((self.unix_ns() - earlier.unix_ns()) / 1000).unwrap_or(i64::MAX)
    }

    /// For display in a time zone.
    pub fn as_jiff(self) -> jiff::Timestamp {
        self.0
    }
}

impl From<jiff::Timestamp> for Timestamp {
    fn from(timestamp: jiff::Timestamp) -> Self {
        Self(timestamp)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:.6}", self.0)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rfc3339;
        impl Visitor<'_> for Rfc3339 {
            type Value = Timestamp;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a time as RFC 3339")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Timestamp, E> {
                text.parse().map(Timestamp).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Rfc3339).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    #[test]
    fn microseconds_always_and_utc() {
        let time = Timestamp::from_unix_ns(1_700_000_000_000_000_000);
        assert_eq!(time.to_string(), "2023-11-14T22:13:20.000000Z");
        let time = Timestamp::from_unix_ns(1_700_000_000_123_456_789);
        assert_eq!(serde_json::to_string(&time).unwrap(), "\"2023-11-14T22:13:20.123456Z\"");
        let read: Timestamp = serde_json::from_str("\"2023-11-15T00:13:20.123456+02:00\"").unwrap();
        assert_eq!(read.unix_ns(), 1_700_000_000_123_456_000);
    }

    #[test]
    fn out_of_range_is_clamped() {
        assert_eq!(Timestamp::from_unix_ns(i128::MAX).as_jiff(), jiff::Timestamp::MAX);
    }

    #[test]
    fn differences_have_a_sign() {
        let (early, late) = (Timestamp::from_unix_ns(1_000), Timestamp::from_unix_ns(1_001_000));
        assert_eq!((late.micros_since(early), early.micros_since(late)), (1000, -1000));
    }
}
