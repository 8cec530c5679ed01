//! Reads the lists of integers and texts that the aggregator's script packs.
//!
//! Invariant: bytes that are none give nothing, never a wrong number.

/// One packed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// A whole number.
    Int(i64),
    /// A text, or another kind of value that is not looked into.
    Other,
}

/// All values of a text of bytes, in their order; `None` when they cannot be read to the end.
pub(crate) fn values(mut bytes: &[u8]) -> Option<Vec<Value>> {
    let mut values = Vec::new();
    while let Some((first, rest)) = bytes.split_first() {
        let (value, rest) = value(*first, rest)?;
        values.push(value);
        bytes = rest;
    }
    Some(values)
}

/// The first `N` values, when all of them are whole numbers.
pub(crate) fn integers<const N: usize>(bytes: &[u8]) -> Option<[i64; N]> {
    let values = values(bytes)?;
    let mut found = [0; N];
    for (index, slot) in found.iter_mut().enumerate() {
        match values.get(index)? {
            Value::Int(n) => *slot = *n,
            Value::Other => return None,
        }
    }
    Some(found)
}

fn value(first: u8, rest: &[u8]) -> Option<(Value, &[u8])> {
    let int = |n: i64, rest| Some((Value::Int(n), rest));
    match first {
        0x00..=0x7f => int(i64::from(first), rest),
        0xe0..=0xff => int(i64::from(first.cast_signed()), rest),
        0xcc..=0xcf => {
            let (n, rest) = unsigned(rest, 1 << (first - 0xcc))?;
            int(i64::try_from(n).ok()?, rest)
        }
        0xd0..=0xd3 => {
            let size = 1 << (first - 0xd0);
            let (n, rest) = unsigned(rest, size)?;
            let unused = 64 - 8 * size;
            int((n << unused).cast_signed() >> unused, rest)
        }
        0xcb => {
            let (bits, rest) = unsigned(rest, 8)?;
            int(whole(f64::from_bits(bits))?, rest)
        }
        0xca => {
            let (bits, rest) = unsigned(rest, 4)?;
            int(
                whole(f64::from(f32::from_bits(u32::try_from(bits).ok()?)))?,
                rest,
            )
        }
        0xc0 | 0xc2 | 0xc3 => Some((Value::Other, rest)),
        0xa0..=0xbf => text(rest, usize::from(first & 0x1f)),
        0xd9..=0xdb => {
            let (length, rest) = unsigned(rest, 1 << (first - 0xd9))?;
            text(rest, usize::try_from(length).ok()?)
        }
        _ => None,
    }
}

fn text(rest: &[u8], length: usize) -> Option<(Value, &[u8])> {
    Some((Value::Other, rest.get(length..)?))
}

fn unsigned(bytes: &[u8], size: usize) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_at_checked(size)?;
    let value = number.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
    Some((value, rest))
}

/// Lua packs a number that is not whole as a double; sums never are such.
fn whole(value: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (value.fract() == 0.0 && value.abs() <= EXACT).then_some(value as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_size_and_sign_are_read() {
        let packed = [
            7, 0xff, 0xcc, 200, 0xcd, 1, 0, 0xd1, 0xff, 0xfe, 0xd2, 0x80, 0, 0, 0, 0xcb, 0x40,
            0x59, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(
            integers::<7>(&packed),
            Some([7, -1, 200, 256, -2, -2_147_483_648, 100])
        );
    }

    #[test]
    fn texts_are_passed_over_and_rubbish_is_nothing() {
        let packed = [1, 0xa2, b'a', b'b', 0xd9, 1, b'x', 0xc2, 2];
        let found = values(&packed).unwrap();
        assert_eq!(found.len(), 5);
        assert_eq!(found[4], Value::Int(2));
        assert_eq!(values(&[0xa5, b'a']), None);
        assert_eq!(integers::<2>(&packed), None);
    }
}
