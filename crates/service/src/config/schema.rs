//! The keys a configuration type knows, asked from the type itself.
//! Invariant: nothing is listed by hand, so the list cannot differ from what is accepted.

use std::cell::Cell;

use serde::de::value::{Error, StrDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer as _, MapAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::flatten;

type Fields = &'static [&'static str];

/// All keys of `T` down to the last structs, as ways of names: `[["kafka", "bootstrap_servers"], ..]`.
pub(super) fn keys<T: DeserializeOwned>() -> Vec<Vec<&'static str>> {
    let mut keys = Vec::new();
    collect::<T>(&mut Vec::new(), &mut keys);
    keys
}

/// The names at the top of `T`.
pub(super) fn top<T: DeserializeOwned>() -> Fields {
    fields_at::<T>(&[]).unwrap_or_default()
}

/// Whether a struct at `way` hides its fields, having been built with `#[serde(flatten)]`.
pub(super) fn is_flattened<T: DeserializeOwned>(way: &[&'static str]) -> bool {
    fields_at::<T>(way).is_none() && flatten::passes_over::<T>(way)
}

fn collect<T: DeserializeOwned>(way: &mut Vec<&'static str>, keys: &mut Vec<Vec<&'static str>>) {
    // Deeper than any configuration that a person would write: a type that contains itself.
    const DEEPEST: usize = 8;
    match fields_at::<T>(way) {
        Some(fields) if way.len() < DEEPEST => {
            for field in fields {
                way.push(field);
                collect::<T>(way, keys);
                way.pop();
            }
        }
        _ if way.is_empty() => {}
        None if flatten::passes_over::<T>(way) => {
            keys.extend(
                flatten::names::<T>(way)
                    .into_iter()
                    .map(|name| [way.as_slice(), &[name]].concat()),
            );
        }
        _ => keys.push(way.clone()),
    }
}

/// The fields of the struct at `way` inside `T`; `None` when no struct is there.
fn fields_at<T: DeserializeOwned>(way: &[&'static str]) -> Option<Fields> {
    let found = Cell::new(None);
    // Always an error: the probe has no value to give.
    let _ = T::deserialize(Probe { way, found: &found });
    found.get()
}

/// Goes down `way` by asking for that one field only, then notes the fields that the struct there asks for.
struct Probe<'a> {
    way: &'a [&'static str],
    found: &'a Cell<Option<Fields>>,
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(serde::de::Error::custom("no value"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: Fields,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.way.split_first() {
            None => {
                self.found.set(Some(fields));
                Err(serde::de::Error::custom("no value"))
            }
            Some((key, way)) => visitor.visit_map(OneKey {
                key: Some(key),
                probe: Some(Probe {
                    way,
                    found: self.found,
                }),
            }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

struct OneKey<'a> {
    key: Option<&'static str>,
    probe: Option<Probe<'a>>,
}

impl<'de> MapAccess<'de> for OneKey<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let key = self
            .key
            .take()
            .map(|key| -> StrDeserializer<'static, Error> { key.into_deserializer() });
        key.map(|key| seed.deserialize(key)).transpose()
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let probe = self
            .probe
            .take()
            .ok_or_else(|| serde::de::Error::custom("no value"))?;
        seed.deserialize(probe)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Default)]
    #[serde(default, deny_unknown_fields)]
    struct Outer {
        name: String,
        inner: Inner,
        maybe: Option<Inner>,
    }

    #[derive(Deserialize, Default)]
    #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
    struct Inner {
        url: Option<url::Url>,
        max_rows: u32,
    }

    #[test]
    fn the_keys_are_those_of_the_nested_structs() {
        let keys: Vec<_> = keys::<Outer>().iter().map(|way| way.join(".")).collect();
        assert_eq!(
            keys,
            [
                "name",
                "inner.url",
                "inner.max-rows",
                "maybe.url",
                "maybe.max-rows"
            ]
        );
        assert_eq!(top::<Outer>(), ["name", "inner", "maybe"]);
    }
}
