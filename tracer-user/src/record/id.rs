//! Causes and reasons in JSON: their ids, as strings and as keys of maps.

use std::{fmt, marker::PhantomData};

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::{cause::Cause, root::RootKind};

/// What has an id.
trait Identified: Sized {
    const WHAT: &'static str;
    fn with_id(id: &str) -> Option<Self>;
}

impl Identified for Cause {
    const WHAT: &'static str = "cause";
    fn with_id(id: &str) -> Option<Self> {
        Self::from_id(id)
    }
}

impl Identified for RootKind {
    const WHAT: &'static str = "reason";
    fn with_id(id: &str) -> Option<Self> {
        Self::from_id(id)
    }
}

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

impl Serialize for RootKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}

impl<'de> Deserialize<'de> for Cause {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Id(PhantomData))
    }
}

impl<'de> Deserialize<'de> for RootKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Id(PhantomData))
    }
}

struct Id<T>(PhantomData<T>);

impl<T: Identified> Visitor<'_> for Id<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the id of a {}", T::WHAT)
    }

    fn visit_str<E: Error>(self, id: &str) -> Result<T, E> {
        T::with_id(id).ok_or_else(|| E::custom(format_args!("no {} has the id {id:?}", T::WHAT)))
    }
}
