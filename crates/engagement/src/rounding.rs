//! The one rounding rule: half away from zero, as Postgres rounds `numeric`.
//!
//! Invariant: integers in, integers out; the product is formed in 128 bits, so it is exact for every `i64`.

/// `numerator / denominator`, rounded half away from zero.
///
/// `None` when the denominator is zero. A quotient outside `i64` saturates.
///
/// ```
/// use engagement::rounding::divide;
/// assert_eq!(divide(1, 2), Some(1));
/// assert_eq!(divide(-1, 2), Some(-1));
/// assert_eq!(divide(1, 3), Some(0));
/// assert_eq!(divide(1, 0), None);
/// ```
#[must_use]
pub fn divide(numerator: i128, denominator: i128) -> Option<i64> {
    if denominator == 0 {
        return None;
    }
    let quotient = numerator.checked_div(denominator)?;
    let remainder = numerator.checked_rem(denominator)?;
    let away = remainder.unsigned_abs() >= denominator.unsigned_abs().div_ceil(2);
    let rounded = match (away, (numerator < 0) == (denominator < 0)) {
        (false, _) => quotient,
        (true, true) => quotient.saturating_add(1),
        (true, false) => quotient.saturating_sub(1),
    };
    Some(saturate(rounded))
}

/// The share of a content as an integer with `decimals` digits after the point of the ratio:
/// `ratio(7_000, 300, 4)` is 233, for 0.0233.
///
/// A ratio with four decimals and a percentage with two are the same integer. `None` when the length is not positive.
#[must_use]
pub fn ratio(duration_ms: i64, length_seconds: i64, decimals: u32) -> Option<i64> {
    if length_seconds <= 0 {
        return None;
    }
    let scale = 10_i128.checked_pow(decimals)?;
    let numerator = i128::from(duration_ms).checked_mul(scale)?;
    divide(numerator, i128::from(length_seconds) * 1000)
}

fn saturate(value: i128) -> i64 {
    let bounded = value.clamp(i128::from(i64::MIN), i128::from(i64::MAX));
    i64::try_from(bounded).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_the_contract_hold() {
        assert_eq!(ratio(7_000, 300, 4), Some(233));
        assert_eq!(ratio(7_000, 300, 2), Some(2));
        assert_eq!(ratio(900_000, 1_800, 4), Some(5_000));
        assert_eq!(ratio(1_000, 8, 2), Some(13));
        assert_eq!(ratio(16_845, 300, 4), Some(562));
    }

    #[test]
    fn halves_go_away_from_zero() {
        assert_eq!(divide(5, 10), Some(1));
        assert_eq!(divide(-5, 10), Some(-1));
        assert_eq!(divide(5, -10), Some(-1));
        assert_eq!(divide(15, 10), Some(2));
        assert_eq!(divide(1, 3), Some(0));
        assert_eq!(divide(2, 3), Some(1));
        assert_eq!(divide(49, 100), Some(0));
    }

    #[test]
    fn a_length_that_is_not_positive_has_no_ratio() {
        assert_eq!(ratio(1, 0, 4), None);
        assert_eq!(ratio(1, -1, 4), None);
    }

    proptest! {
        #[test]
        fn the_error_is_at_most_half_a_unit(n in any::<i64>(), d in any::<i64>().prop_filter("not zero", |d| *d != 0)) {
            let q = i128::from(divide(i128::from(n), i128::from(d)).unwrap());
            let twice_error = (i128::from(n) * 2 - q * i128::from(d) * 2).abs();
            // i64::MIN / -1 is the one quotient that saturates
            prop_assert!(twice_error <= i128::from(d).abs() || n == i64::MIN);
        }

        #[test]
        fn the_sign_does_not_change_the_size(n in -1_000_000i128..1_000_000, d in 1i128..10_000) {
            prop_assert_eq!(divide(-n, d).map(|x| -x), divide(n, d));
        }
    }
}
