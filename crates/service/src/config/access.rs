//! serde's access to the parts of a [`Value`]: elements, keys, choices.
//! Invariant: whatever goes wrong in a part is refused with the path of that part.

use serde::de::{
    self, DeserializeSeed, EnumAccess, IntoDeserializer as _, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

use super::de::{Decoder, Unknown};
use super::refused::Refused;
use super::value::{Node, Path, Segment, Table, Value};

/// `{ variant = content }`.
impl<'de, 'a> EnumAccess<'de> for Decoder<'a> {
    type Error = Refused;
    type Variant = Decoder<'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Decoder<'a>), Refused> {
        let Node::Table(table) = &self.value.node else {
            return Err(de::Error::custom("not a choice"));
        };
        let Some((name, value)) = table.iter().next() else {
            return Err(de::Error::custom("not a choice"));
        };
        let variant = seed
            .deserialize(name.as_str().into_deserializer())
            .map_err(|error: Refused| error.at(&self.path))?;
        Ok((
            variant,
            Decoder {
                value,
                path: self.path.key(name.as_str()),
                unknown: self.unknown,
            },
        ))
    }
}

impl<'de> VariantAccess<'de> for Decoder<'_> {
    type Error = Refused;

    fn unit_variant(self) -> Result<(), Refused> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Refused> {
        let path = self.path.clone();
        seed.deserialize(self).map_err(|error| error.at(&path))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Refused> {
        let path = self.path.clone();
        self.items(visitor).map_err(|error| error.at(&path))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let path = self.path.clone();
        self.entries(Some(fields), visitor)
            .map_err(|error| error.at(&path))
    }
}

/// The elements of an array, in order; those found wrong are passed over.
pub(super) struct Items<'a, I> {
    pub(super) items: I,
    pub(super) path: Path,
    pub(super) unknown: &'a Unknown,
}

impl<'de, 'a, I: Iterator<Item = (usize, &'a Value)>> SeqAccess<'de> for Items<'a, I> {
    type Error = Refused;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Refused> {
        let Some((index, value)) = self.items.find(|(_, value)| value.node != Node::Removed) else {
            return Ok(None);
        };
        let path = self.path.then(Segment::Index(index));
        let decoder = Decoder {
            value,
            path: path.clone(),
            unknown: self.unknown,
        };
        seed.deserialize(decoder)
            .map(Some)
            .map_err(|error| error.at(&path))
    }
}

/// The keys of a table.
pub(super) struct Entries<'a> {
    entries: std::collections::btree_map::Iter<'a, String, Value>,
    current: Option<(&'a String, &'a Value)>,
    path: Path,
    unknown: &'a Unknown,
    fields: Option<&'static [&'static str]>,
}

impl<'a> Entries<'a> {
    /// `fields` are the names known there; `None` for a map of free names.
    pub(super) fn new(
        table: &'a Table,
        path: Path,
        unknown: &'a Unknown,
        fields: Option<&'static [&'static str]>,
    ) -> Self {
        Self {
            entries: table.iter(),
            current: None,
            path,
            unknown,
            fields,
        }
    }

    /// The next entry that is known, noting those that are not.
    fn advance(&mut self) -> Option<(&'a String, &'a Value)> {
        for (key, value) in self.entries.by_ref() {
            match self.fields {
                _ if value.node == Node::Removed => {}
                Some(fields) if !fields.contains(&key.as_str()) => {
                    self.unknown
                        .borrow_mut()
                        .insert(self.path.key(key.as_str()), fields);
                }
                _ => return Some((key, value)),
            }
        }
        None
    }
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Refused> {
        self.current = self.advance();
        let Some((key, _)) = self.current else {
            return Ok(None);
        };
        let path = self.path.key(key.as_str());
        seed.deserialize(key.as_str().into_deserializer())
            .map(Some)
            .map_err(|error: Refused| error.at(&path))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Refused> {
        let Some((key, value)) = self.current.take() else {
            return Err(de::Error::custom("a value without a key"));
        };
        let path = self.path.key(key.as_str());
        let decoder = Decoder {
            value,
            path: path.clone(),
            unknown: self.unknown,
        };
        seed.deserialize(decoder).map_err(|error| error.at(&path))
    }
}
