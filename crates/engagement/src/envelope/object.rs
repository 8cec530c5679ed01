//! JSON objects read field by field, without a map and without owning their names.
//!
//! Invariant: a value that is no object is reported as what it is, not as a syntax error.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Where the fields of one JSON object go; filled in place, because a row is too large to hand around.
pub(super) trait Fields<'de> {
    fn read<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error>;
}

/// What stood where an object belongs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Object {
    /// An object, and it was read.
    Read,
    Null,
    /// What it is instead.
    Other(&'static str),
}

pub(super) struct ObjectSeed<'de, F> {
    fields: F,
    text: PhantomData<&'de str>,
}

impl<'de, F: Fields<'de>> ObjectSeed<'de, F> {
    pub(super) const fn new(fields: F) -> Self {
        Self {
            fields,
            text: PhantomData,
        }
    }
}

impl<'de, F: Fields<'de>> DeserializeSeed<'de> for ObjectSeed<'de, F> {
    type Value = Object;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: Fields<'de>> Visitor<'de> for ObjectSeed<'de, F> {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        self.fields.read(map).map(|()| Object::Read)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Object::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Object::Other("a boolean"))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Object::Other("a number"))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Object::Other("a number"))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Object::Other("a number"))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Object::Other("text"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Object::Other("an array"))
    }
}

/// The name of a field, turned into something smaller before it is gone.
pub(super) struct NameSeed<F>(pub(super) F);

impl<'de, T, F: FnOnce(&str) -> T> DeserializeSeed<'de> for NameSeed<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T, F: FnOnce(&str) -> T> Visitor<'_> for NameSeed<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<T, E> {
        Ok((self.0)(name))
    }
}
