//! The part of MessagePack that `cmsgpack` in Redis' Lua shares with us: integers, strings, arrays, `false`.
//!
//! Invariant: what [`Writer`] writes, Lua reads as the same value; what Lua packs from integers and strings,
//! [`Reader`] reads back.

/// Appends values to a buffer.
#[derive(Clone, Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// The bytes written so far.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// Starts an array of `len` values, which the caller writes next.
    pub fn array(&mut self, len: usize) {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        match u8::try_from(len) {
            Ok(small) if small < 16 => self.0.push(0x90 | small),
            _ => self.tagged(0xdd, &len.to_be_bytes()),
        }
    }

    /// An integer; Lua holds it exactly up to 2^53.
    pub fn int(&mut self, value: i64) {
        match value {
            0..=0x7f => self.0.push(value.to_be_bytes()[7]),
            -0x20..0 => self.0.push(value.to_be_bytes()[7]),
            _ => match i32::try_from(value) {
                Ok(short) => self.tagged(0xd2, &short.to_be_bytes()),
                Err(_) => self.tagged(0xd3, &value.to_be_bytes()),
            },
        }
    }

    /// A string of any bytes.
    pub fn bytes(&mut self, value: &[u8]) {
        let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
        match u8::try_from(len) {
            Ok(small) if small < 32 => self.0.push(0xa0 | small),
            _ => self.tagged(0xdb, &len.to_be_bytes()),
        }
        self.0.extend_from_slice(value);
    }

    /// `false`, which stands for "nothing" (a nil would end a Lua list).
    pub fn none(&mut self) {
        self.0.push(0xc2);
    }

    fn tagged(&mut self, tag: u8, rest: &[u8]) {
        self.0.push(tag);
        self.0.extend_from_slice(rest);
    }
}

/// One value that Lua packed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Packed {
    /// An integer.
    Int(i64),
    /// A string.
    Bytes(Vec<u8>),
    /// An array.
    Array(Vec<Packed>),
}

impl Packed {
    /// The integer, or 0.
    #[must_use]
    pub fn int(&self) -> i64 {
        match self {
            Self::Int(value) => *value,
            _ => 0,
        }
    }

    /// The string, or nothing.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Bytes(value) => String::from_utf8_lossy(value).into_owned(),
            _ => String::new(),
        }
    }
}

/// The values packed one after the other in `bytes`; `None` when they are cut or of another kind.
#[must_use]
pub fn unpack(bytes: &[u8]) -> Option<Vec<Packed>> {
    let mut reader = Reader(bytes);
    let mut values = Vec::new();
    while !reader.0.is_empty() {
        values.push(reader.value(0)?);
    }
    Some(values)
}

struct Reader<'a>(&'a [u8]);

/// Lua nests our values three deep; the bound keeps a damaged value from recursing.
const MAX_DEPTH: u8 = 8;

impl Reader<'_> {
    fn value(&mut self, depth: u8) -> Option<Packed> {
        let tag = self.take(1)?[0];
        Some(match tag {
            0..=0x7f => Packed::Int(i64::from(tag)),
            0xe0..=0xff => Packed::Int(i64::from(tag) - 256),
            0xcc => Packed::Int(self.unsigned(1)?),
            0xcd => Packed::Int(self.unsigned(2)?),
            0xce => Packed::Int(self.unsigned(4)?),
            0xcf => Packed::Int(self.unsigned(8)?),
            0xd0 => Packed::Int(self.signed(1)?),
            0xd1 => Packed::Int(self.signed(2)?),
            0xd2 => Packed::Int(self.signed(4)?),
            0xd3 => Packed::Int(self.signed(8)?),
            0xa0..=0xbf => self.string(usize::from(tag & 0x1f))?,
            0xd9 | 0xc4 => self.sized_string(1)?,
            0xda | 0xc5 => self.sized_string(2)?,
            0xdb | 0xc6 => self.sized_string(4)?,
            0x90..=0x9f => self.array(usize::from(tag & 0x0f), depth)?,
            0xdc => self.sized_array(2, depth)?,
            0xdd => self.sized_array(4, depth)?,
            _ => return None,
        })
    }

    fn sized_string(&mut self, width: usize) -> Option<Packed> {
        let len = usize::try_from(self.unsigned(width)?).ok()?;
        self.string(len)
    }

    fn sized_array(&mut self, width: usize, depth: u8) -> Option<Packed> {
        let len = usize::try_from(self.unsigned(width)?).ok()?;
        self.array(len, depth)
    }

    fn string(&mut self, len: usize) -> Option<Packed> {
        Some(Packed::Bytes(self.take(len)?.to_vec()))
    }

    fn array(&mut self, len: usize, depth: u8) -> Option<Packed> {
        if depth >= MAX_DEPTH {
            return None;
        }
        let mut values = Vec::new();
        for _ in 0..len {
            values.push(self.value(depth + 1)?);
        }
        Some(Packed::Array(values))
    }

    fn unsigned(&mut self, width: usize) -> Option<i64> {
        let bytes = self.take(width)?;
        let value = bytes
            .iter()
            .fold(0_u64, |acc, byte| (acc << 8) | u64::from(*byte));
        i64::try_from(value).ok()
    }

    fn signed(&mut self, width: usize) -> Option<i64> {
        let bytes = self.take(width)?;
        let first = if bytes[0] & 0x80 == 0 { 0 } else { -1_i64 };
        Some(
            bytes
                .iter()
                .fold(first, |acc, byte| (acc << 8) | i64::from(*byte)),
        )
    }

    fn take(&mut self, len: usize) -> Option<&[u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_and_strings_read_back(ints: Vec<i64>, texts: Vec<String>) {
            let mut writer = Writer::default();
            writer.array(ints.len());
            ints.iter().for_each(|value| writer.int(*value));
            texts.iter().for_each(|text| writer.bytes(text.as_bytes()));
            let mut expected = vec![Packed::Array(ints.into_iter().map(Packed::Int).collect())];
            expected.extend(texts.into_iter().map(|text| Packed::Bytes(text.into_bytes())));
            prop_assert_eq!(unpack(&writer.into_bytes()), Some(expected));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = unpack(&bytes);
        }
    }
}
