//! serde's view of a [`Value`]: text from the environment becomes what the field wants, errors know their path.
//! Invariant: a key that no struct knows is noted and passed over, never given to the visitor and never forgotten.

use serde::de::{self, Deserializer, IntoDeserializer as _, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use std::cell::RefCell;
use std::collections::BTreeMap;

use super::access::{Entries, Items};
use super::file;
use super::refused::Refused;
use super::value::{Node, Path, Table, Value};

/// The keys found that nobody knows, with the names known at that place.
pub(super) type Unknown = RefCell<BTreeMap<Path, &'static [&'static str]>>;

/// Reads a whole table.
pub(super) struct Root<'a> {
    pub(super) table: &'a Table,
    pub(super) unknown: &'a Unknown,
}

impl<'de> Deserializer<'de> for Root<'_> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        visitor.visit_map(Entries::new(
            self.table,
            Path::default(),
            self.unknown,
            None,
        ))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_map(Entries::new(
            self.table,
            Path::default(),
            self.unknown,
            Some(fields),
        ))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

/// Reads one value.
pub(super) struct Decoder<'a> {
    pub(super) value: &'a Value,
    pub(super) path: Path,
    pub(super) unknown: &'a Unknown,
}

impl Decoder<'_> {
    /// The number in a text, or a refusal that says what was expected.
    fn number<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let Node::Text(text) = &self.value.node else {
            return self.deserialize_any(visitor);
        };
        let digits = text.trim().replace('_', "");
        match (digits.parse::<i64>(), digits.parse::<u64>()) {
            (Ok(number), _) => visitor.visit_i64(number),
            (_, Ok(number)) => visitor.visit_u64(number),
            _ => Err(de::Error::invalid_value(Unexpected::Str(text), &visitor)),
        }
    }

    fn float<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match &self.value.node {
            Node::Text(text) => match text.trim().parse() {
                Ok(number) => visitor.visit_f64(number),
                Err(_) => Err(de::Error::invalid_value(Unexpected::Str(text), &visitor)),
            },
            _ => self.deserialize_any(visitor),
        }
    }

    /// The array or table written as TOML in `text`.
    fn parsed(&self, text: &str) -> Result<Value, Refused> {
        file::parse_value(text.trim(), &self.value.origin).map_err(de::Error::custom)
    }

    /// The same place with another value.
    fn with<'b>(self, value: &'b Value) -> Decoder<'b>
    where
        Self: 'b,
    {
        Decoder {
            value,
            path: self.path,
            unknown: self.unknown,
        }
    }

    /// An array, a TOML array in a text, or a text of parts separated by commas.
    pub(super) fn items<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match &self.value.node {
            Node::Text(text) if text.trim_start().starts_with('[') => {
                let value = self.parsed(text)?;
                self.with(&value).items(visitor)
            }
            Node::Text(text) => {
                let parts = text
                    .split(',')
                    .map(str::trim)
                    .filter(|part| !part.is_empty());
                let items: Vec<_> = parts
                    .map(|part| Value::text(part, self.value.origin.clone()))
                    .collect();
                visitor.visit_seq(Items {
                    items: items.iter().enumerate(),
                    path: self.path,
                    unknown: self.unknown,
                })
            }
            _ => self.deserialize_any(visitor),
        }
    }

    /// A table, or a TOML table in a text.
    pub(super) fn entries<'de, V: Visitor<'de>>(
        self,
        fields: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        match &self.value.node {
            Node::Text(text) if text.trim_start().starts_with('{') => {
                let value = self.parsed(text)?;
                self.with(&value).entries(fields, visitor)
            }
            Node::Table(table) => {
                visitor.visit_map(Entries::new(table, self.path, self.unknown, fields))
            }
            _ => self.deserialize_any(visitor),
        }
    }
}

/// The same body for each method: serde has one per width.
macro_rules! each {
    ($body:ident: $($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
            self.$body(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Decoder<'_> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match &self.value.node {
            Node::Text(text) | Node::String(text) => visitor.visit_str(text),
            Node::Integer(number) => visitor.visit_i64(*number),
            Node::Float(number) => visitor.visit_f64(*number),
            Node::Boolean(truth) => visitor.visit_bool(*truth),
            Node::Array(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
                path: self.path,
                unknown: self.unknown,
            }),
            Node::Table(table) => {
                visitor.visit_map(Entries::new(table, self.path, self.unknown, None))
            }
            Node::Removed => visitor.visit_unit(),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let Node::Text(text) = &self.value.node else {
            return self.deserialize_any(visitor);
        };
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => visitor.visit_bool(true),
            "false" | "0" | "no" | "off" => visitor.visit_bool(false),
            _ => Err(de::Error::invalid_value(Unexpected::Str(text), &visitor)),
        }
    }

    each! { number: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 }
    each! { float: deserialize_f32 deserialize_f64 }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        match self.value.node {
            Node::Removed => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.items(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Refused> {
        self.items(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.items(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.entries(None, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        self.entries(Some(fields), visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        match &self.value.node {
            Node::Text(text) | Node::String(text) => {
                visitor.visit_enum(text.trim().into_deserializer())
            }
            Node::Table(table) if table.len() == 1 => visitor.visit_enum(self),
            _ => self.deserialize_any(visitor),
        }
    }

    forward_to_deserialize_any! { i128 u128 char str string bytes byte_buf unit unit_struct identifier ignored_any }
}
