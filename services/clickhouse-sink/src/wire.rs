//! ClickHouse's RowBinary: rows are built, answers are read.
//!
//! Invariant: a cut or malformed answer is an error naming the query, never a panic or a guess.

use crate::error::ServerError;

/// A cursor over an answer in RowBinary.
pub struct Reader<'a> {
    query: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads the answer to a query; its name goes into the errors.
    #[must_use]
    pub fn new(query: &'static str, bytes: &'a [u8]) -> Self {
        Self { query, rest: bytes }
    }

    /// Whether everything was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What is not read yet; with [`Self::since`] a way to keep columns as they came.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The bytes read since `rest` was taken.
    #[must_use]
    pub fn since(&self, rest: &'a [u8]) -> &'a [u8] {
        &rest[..rest.len() - self.rest.len()]
    }

    /// `UInt8`.
    ///
    /// # Errors
    /// The answer is cut.
    pub fn u8(&mut self) -> Result<u8, ServerError> {
        Ok(self.array::<1>()?[0])
    }

    /// `Int32`.
    ///
    /// # Errors
    /// The answer is cut.
    pub fn i32(&mut self) -> Result<i32, ServerError> {
        Ok(i32::from_le_bytes(self.array()?))
    }

    /// `Int64`.
    ///
    /// # Errors
    /// The answer is cut.
    pub fn i64(&mut self) -> Result<i64, ServerError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// `UInt64`.
    ///
    /// # Errors
    /// The answer is cut.
    pub fn u64(&mut self) -> Result<u64, ServerError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// `String` as it came, without its length.
    ///
    /// # Errors
    /// The answer is cut.
    pub fn bytes(&mut self) -> Result<&'a [u8], ServerError> {
        let length = self.length()?;
        self.take(length)
    }

    /// `String` as text.
    ///
    /// # Errors
    /// The answer is cut or not UTF-8.
    pub fn text(&mut self) -> Result<String, ServerError> {
        let bytes = self.bytes()?;
        String::from_utf8(bytes.to_vec()).map_err(|_| self.error("a text is not UTF-8"))
    }

    /// `Nullable(String)`, passed over.
    ///
    /// # Errors
    /// The answer is cut.
    pub fn skip_nullable_text(&mut self) -> Result<(), ServerError> {
        if self.u8()? == 0 {
            self.bytes()?;
        }
        Ok(())
    }

    /// `Nullable(Int64)`, passed over.
    ///
    /// # Errors
    /// The answer is cut.
    pub fn skip_nullable_i64(&mut self) -> Result<(), ServerError> {
        if self.u8()? == 0 {
            self.i64()?;
        }
        Ok(())
    }

    /// A length: LEB128.
    ///
    /// # Errors
    /// The answer is cut or the length absurd.
    pub fn length(&mut self) -> Result<usize, ServerError> {
        let mut value = 0_usize;
        for shift in (0..35).step_by(7) {
            let byte = self.u8()?;
            value |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.error("a length of more than 5 bytes"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ServerError> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| self.error("it is cut"))
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], ServerError> {
        let (head, tail) = self
            .rest
            .split_at_checked(count)
            .ok_or_else(|| self.error("it is cut"))?;
        self.rest = tail;
        Ok(head)
    }

    fn error(&self, what: &str) -> ServerError {
        ServerError::Answer {
            query: self.query,
            what: what.to_owned(),
        }
    }
}

/// Builds a row in RowBinary: little-endian integers, LEB128 lengths, one flag byte before a Nullable.
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Bytes so far.
    pub(crate) fn mark(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn finish(self) -> Box<[u8]> {
        self.0.into_boxed_slice()
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn nullable_i64(&mut self, value: Option<i64>) {
        self.u8(u8::from(value.is_none()));
        if let Some(value) = value {
            self.i64(value);
        }
    }

    pub(crate) fn nullable_text(&mut self, value: Option<&str>) {
        self.u8(u8::from(value.is_none()));
        if let Some(value) = value {
            self.text(value);
        }
    }

    pub(crate) fn text(&mut self, value: &str) {
        self.length(value.len());
        self.0.extend_from_slice(value.as_bytes());
    }

    pub(crate) fn length(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.0.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
            value >>= 7;
        }
        self.0.push(u8::try_from(value).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cut_answer_is_an_error_that_names_the_query() {
        let mut r = Reader::new("the read-back", &[5, b'a', b'b']);
        assert_eq!(
            r.text().unwrap_err().to_string(),
            "the answer to the read-back is not what was asked for: it is cut"
        );
    }

    #[test]
    fn columns_can_be_kept_as_they_came() {
        let mut r = Reader::new("q", &[0, 2, b'h', b'i', 9]);
        let start = r.rest();
        r.skip_nullable_text().unwrap();
        assert_eq!(r.since(start), &[0, 2, b'h', b'i']);
        assert_eq!(r.u8().unwrap(), 9);
        assert!(r.is_empty());
    }

    proptest! {
        #[test]
        fn no_answer_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut r = Reader::new("q", &bytes);
            while !r.is_empty() && r.text().is_ok() && r.skip_nullable_i64().is_ok() && r.u64().is_ok() {}
        }
    }
}
