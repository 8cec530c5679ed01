//! ClickHouse's `RowBinary`, read piece by piece.
//!
//! Invariant: a value that is cut off is an error, never a shorter value.

use crate::error::Error;

/// The longest text of a row that is expected; beyond it the buffer is simply refilled more often.
const MUCH: usize = 1 << 20;

/// Bytes that came and were not read yet.
pub(crate) struct Wire {
    what: &'static str,
    step: &'static str,
    bytes: Vec<u8>,
    at: usize,
}

impl Wire {
    pub(crate) fn new(what: &'static str, step: &'static str) -> Self {
        Self {
            what,
            step,
            bytes: Vec::new(),
            at: 0,
        }
    }

    /// More than any row of ours is long.
    pub(crate) fn has_much(&self) -> bool {
        self.bytes.len() - self.at >= MUCH
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.len() == self.at
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        if self.at > MUCH {
            self.bytes.drain(..self.at);
            self.at = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    fn take(&mut self, length: usize) -> Result<&[u8], Error> {
        let (from, to) = (self.at, self.at.saturating_add(length));
        if to > self.bytes.len() {
            return Err(Error::unexpected(
                self.what,
                self.step,
                "an answer that ends inside of a row",
                "whole rows",
            ));
        }
        self.at = to;
        Ok(&self.bytes[from..to])
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut value = [0; N];
        value.copy_from_slice(self.take(N)?);
        Ok(value)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Error> {
        self.fixed().map(i64::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Error> {
        self.fixed().map(u64::from_le_bytes)
    }

    pub(crate) fn i128(&mut self) -> Result<i128, Error> {
        self.fixed().map(i128::from_le_bytes)
    }

    pub(crate) fn string(&mut self) -> Result<String, Error> {
        let mut length = 0_usize;
        for shift in (0..63).step_by(7) {
            let [byte] = self.fixed()?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let text = self.take(length)?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    pub(crate) fn optional<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let [null] = self.fixed()?;
        if null == 0 {
            read(self).map(Some)
        } else {
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_in_order() {
        let mut wire = Wire::new("ClickHouse", "a test");
        wire.add(&(-5_i64).to_le_bytes());
        wire.add(&[1, 0, 2]);
        wire.add(b"ab");
        assert_eq!(wire.i64().unwrap(), -5);
        assert_eq!(wire.optional(Wire::i64).unwrap(), None);
        assert_eq!(wire.optional(Wire::string).unwrap().unwrap(), "ab");
        assert!(wire.is_empty());
    }

    #[test]
    fn a_row_cut_off_is_an_error() {
        let mut wire = Wire::new("ClickHouse", "a test");
        wire.add(&[5, b'a']);
        assert!(
            wire.string()
                .unwrap_err()
                .to_string()
                .contains("ends inside")
        );
    }
}
