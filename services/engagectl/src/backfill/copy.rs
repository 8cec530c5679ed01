//! The binary format in which Postgres copies rows out (`COPY .. TO STDOUT (FORMAT binary)`). Pure.
//!
//! Invariant: a tuple is answered when it is whole, however it was cut into pieces on its way.

use bytes::Buf as _;
use engagement::event::Micros;

/// What the copy begins with: a signature, flags and an extension, whose length comes last.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";
const HEADER: usize = SIGNATURE.len() + 8;
/// The number of columns of what is no tuple: the end of the copy.
const END: i16 = -1;

/// It is not what it should be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the copy of rows is broken: {0}")]
pub(super) struct Broken(&'static str);

/// The rows of one copy.
#[derive(Debug, Default)]
pub(super) struct Copied {
    pending: Vec<u8>,
    /// So much of it was answered.
    taken: usize,
    begun: bool,
    ended: bool,
}

impl Copied {
    /// The next piece.
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.pending.drain(..self.taken);
        self.taken = 0;
        self.pending.extend_from_slice(piece);
    }

    /// The next tuple that is whole; `None`: there is none yet, or no more.
    ///
    /// # Errors
    /// This is no copy.
    pub(super) fn next(&mut self) -> Result<Option<Tuple<'_>>, Broken> {
        if !self.begun && !self.begins()? {
            return Ok(None);
        }
        let rest = &self.pending[self.taken..];
        self.ended = rest == END.to_be_bytes();
        let Some(size) = size(rest)? else {
            return Ok(None);
        };
        let from = self.taken + size_of_val(&END);
        self.taken += size;
        Ok(Some(Tuple(&self.pending[from..self.taken])))
    }

    /// Everything was answered, up to the word that there is no more.
    pub(super) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Takes the header. `false`: it is not there yet.
    fn begins(&mut self) -> Result<bool, Broken> {
        let Some(header) = self.pending.get(..HEADER) else {
            return Ok(false);
        };
        if !header.starts_with(SIGNATURE) {
            return Err(Broken("it does not begin with the signature of one"));
        }
        let extension = usize::try_from((&header[HEADER - 4..]).get_u32());
        let extension = extension.map_err(|_| Broken("its header has no end"))?;
        if self.pending.len() < HEADER + extension {
            return Ok(false);
        }
        (self.taken, self.begun) = (HEADER + extension, true);
        Ok(true)
    }
}

/// Bytes of the first tuple; `None`: it is not whole yet, or it is the end.
fn size(pending: &[u8]) -> Result<Option<usize>, Broken> {
    let mut rest = pending;
    let Ok(columns) = rest.try_get_i16() else {
        return Ok(None);
    };
    if columns == END {
        return Ok(None);
    }
    for _ in 0..columns {
        let Ok(length) = rest.try_get_i32() else {
            return Ok(None);
        };
        let length = match length {
            -1 => 0,
            length => usize::try_from(length).map_err(|_| Broken("a value has no length"))?,
        };
        if rest.len() < length {
            return Ok(None);
        }
        rest.advance(length);
    }
    Ok(Some(pending.len() - rest.len()))
}

/// The columns of one row, from the first to the last.
#[derive(Debug)]
pub(super) struct Tuple<'a>(&'a [u8]);

impl<'a> Tuple<'a> {
    fn column(&mut self) -> Result<Option<&'a [u8]>, Broken> {
        let length = self.0.try_get_i32();
        let length = length.map_err(|_| Broken("a row has too few columns"))?;
        let Ok(length) = usize::try_from(length) else {
            return Ok(None);
        };
        let (column, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(Broken("a row is cut"))?;
        self.0 = rest;
        Ok(Some(column))
    }

    /// The next column, a `text`.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn text(&mut self) -> Result<Option<String>, Broken> {
        let column = self.column()?;
        let text = column.map(|bytes| std::str::from_utf8(bytes).map(str::to_owned));
        text.transpose()
            .map_err(|_| Broken("a text is not in UTF-8"))
    }

    /// The next column, a `bigint`.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn bigint(&mut self) -> Result<Option<i64>, Broken> {
        let column = self.column()?;
        let number = column.map(|bytes| <[u8; 8]>::try_from(bytes).map(i64::from_be_bytes));
        number
            .transpose()
            .map_err(|_| Broken("a bigint has not eight bytes"))
    }

    /// The next column, microseconds as a `bigint`.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn micros(&mut self) -> Result<Option<Micros>, Broken> {
        Ok(self.bigint()?.map(Micros))
    }

    /// The next column, a `bool`; NULL is false.
    ///
    /// # Errors
    /// It is not.
    pub(super) fn bool(&mut self) -> Result<bool, Broken> {
        match self.column()? {
            Some([1]) => Ok(true),
            Some([0]) | None => Ok(false),
            Some(_) => Err(Broken("a bool is neither")),
        }
    }
}

/// A value that must be there.
///
/// # Errors
/// It is NULL.
pub(super) fn not_null<T>(value: Option<T>) -> Result<T, Broken> {
    value.ok_or(Broken("a value is NULL that cannot be"))
}

#[cfg(test)]
pub(super) mod tests {
    use bytes::{BufMut as _, Bytes, BytesMut};
    use proptest::prelude::*;

    use super::*;

    /// A copy of these rows, as Postgres writes it.
    pub(in super::super) fn copy(rows: &[Vec<Option<Vec<u8>>>]) -> Bytes {
        let mut copy = BytesMut::from(SIGNATURE);
        copy.put_u32(0);
        copy.put_u32(0);
        for row in rows {
            copy.put_i16(i16::try_from(row.len()).unwrap());
            for value in row {
                match value {
                    None => copy.put_i32(-1),
                    Some(value) => {
                        copy.put_i32(i32::try_from(value.len()).unwrap());
                        copy.put_slice(value);
                    }
                }
            }
        }
        copy.put_i16(END);
        copy.freeze()
    }

    fn columns(mut tuple: Tuple<'_>) -> Vec<Option<Vec<u8>>> {
        let mut columns = Vec::new();
        while let Ok(column) = tuple.column() {
            columns.push(column.map(<[u8]>::to_vec));
        }
        columns
    }

    proptest! {
        #[test]
        fn rows_are_the_same_however_the_copy_is_cut(
            rows in prop::collection::vec(prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..9)), 0..5), 0..6),
            cut in 1usize..40,
        ) {
            let (mut copied, mut found) = (Copied::default(), Vec::new());
            for piece in copy(&rows).chunks(cut) {
                copied.push(piece);
                prop_assert!(!copied.has_ended());
                while let Some(tuple) = copied.next().unwrap() {
                    found.push(columns(tuple));
                }
            }
            prop_assert!(copied.has_ended());
            prop_assert_eq!(found, rows);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), signed in any::<bool>()) {
            let mut copied = Copied { begun: signed, ..Copied::default() };
            copied.push(&bytes);
            while let Ok(Some(mut tuple)) = copied.next() {
                let _ = (tuple.text(), tuple.bigint(), tuple.bool());
            }
        }
    }

    #[test]
    fn values_are_read_by_their_types_and_what_is_of_another_is_refused() {
        let row = vec![
            Some(b"a".to_vec()),
            None,
            Some((-5i64).to_be_bytes().to_vec()),
            Some(vec![1]),
            Some(vec![0xff]),
        ];
        let mut copied = Copied::default();
        copied.push(&copy(&[row]));
        let mut tuple = copied.next().unwrap().unwrap();
        assert_eq!(tuple.text(), Ok(Some("a".to_owned())));
        assert_eq!(tuple.text(), Ok(None));
        assert_eq!(tuple.bigint(), Ok(Some(-5)));
        assert_eq!(tuple.bool(), Ok(true));
        assert!(tuple.text().unwrap_err().to_string().contains("UTF-8"));
        assert!(tuple.text().unwrap_err().to_string().contains("too few"));
        assert!(copied.next().unwrap().is_none() && copied.has_ended());
        let mut other = Copied::default();
        other.push(b"HTTP/1.1 400 Bad Request");
        assert!(other.next().unwrap_err().to_string().contains("signature"));
    }
}
