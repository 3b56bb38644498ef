//! Causes in JSON: their ids, as strings and as keys of maps.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::cause::Cause;

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

impl<'de> Deserialize<'de> for Cause {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Id;
        impl Visitor<'_> for Id {
            type Value = Cause;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the id of a cause")
            }
            fn visit_str<E: Error>(self, id: &str) -> Result<Cause, E> {
                Cause::from_id(id).ok_or_else(|| E::custom(format_args!("no cause has the id {id:?}")))
            }
        }
        deserializer.deserialize_str(Id)
    }
}
