//! Numbers as text formats write them. Values come out correctly rounded: up to 15 digits as an
//! exact integer over an exact power of ten, longer ones through `fast-float2`.
//!
//! `NaN` is the NaN that Prometheus stores for it. Exports also hold others, which JSON and text
//! cannot say otherwise: `StaleNaN` is the stale marker, `NaN(0x7ff8000000000000)` the NaN of those
//! bits.

use crate::model::{NORMAL_NAN_BITS, STALE_NAN_BITS};

const POWERS_OF_TEN: [f64; 16] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];

/// Reads a field's value at the start of `input` and the `i` or `u` behind an integer; gives the
/// value and its length. `None` if there is no number, or more than a number before the next
/// separator of line protocol.
#[inline]
pub(crate) fn field_value(input: &[u8]) -> Option<(f64, usize)> {
    if let Some(plain) = plain_decimal(input) {
        let len = plain.len;
        if ends_field(input, len) {
            return Some((plain.value, len));
        }
        if plain.integer && input[len] == b'i' && ends_field(input, len + 1) {
            return Some((plain.value, len + 1));
        }
    }
    any_field_value(input)
}

/// Reads a number at the start of `input`, in any form; gives the value and its length.
#[inline]
pub(crate) fn float(input: &[u8]) -> Option<(f64, usize)> {
    match plain_decimal(input) {
        Some(plain) if !matches!(input.get(plain.len), Some(b'e' | b'E')) => {
            Some((plain.value, plain.len))
        }
        _ => any_float(input),
    }
}

/// Reads a decimal integer at the start of `input`; gives the value and its length.
#[inline]
pub(crate) fn integer(input: &[u8]) -> Option<(i64, usize)> {
    let negative = input.first() == Some(&b'-');
    let start = usize::from(negative);
    let mut at = start;
    let mut value = 0u64;
    // 16 digits leave room for two more in 63 bits.
    while at - start < 16
        && let Some(digits) = input.get(at..).and_then(|rest| rest.first_chunk::<8>())
        && let Some(number) = eight_digits(*digits)
    {
        value = value * 100_000_000 + number;
        at += 8;
    }
    while at - start < 18
        && let Some(digit) = digit_at(input, at)
    {
        value = value * 10 + digit;
        at += 1;
    }
    if at == start {
        return None;
    }
    if digit_at(input, at).is_some() {
        return long_integer(input, start);
    }
    let value = i64::try_from(value).ok()?;
    Some((if negative { -value } else { value }, at))
}

/// Whether a field's value ends at `at`.
#[inline]
fn ends_field(input: &[u8], at: usize) -> bool {
    matches!(input.get(at), None | Some(b' ' | b',' | b'\n' | b'\r'))
}

struct Plain {
    value: f64,
    len: usize,
    integer: bool,
}

/// Reads `[+-]digits[.digits]` with at most 15 digits.
#[inline]
fn plain_decimal(input: &[u8]) -> Option<Plain> {
    let sign = input.first().copied().filter(|byte| matches!(byte, b'-' | b'+'));
    let start = usize::from(sign.is_some());
    let mut at = start;
    let mut mantissa = 0u64;
    while let Some(digit) = digit_at(input, at) {
        // Wraps only with more digits than are accepted.
        mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
        at += 1;
    }
    let mut digits = at - start;
    let mut fraction = 0;
    let integer = input.get(at) != Some(&b'.');
    if !integer {
        at += 1;
        let point = at;
        while let Some(digit) = digit_at(input, at) {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(digit);
            at += 1;
        }
        fraction = at - point;
        digits += fraction;
    }
    if digits == 0 || digits > 15 {
        return None;
    }
    // Both are below 2^53, so the quotient is the one correctly rounded result.
    let value = if integer { mantissa as f64 } else { mantissa as f64 / POWERS_OF_TEN[fraction] };
    Some(Plain { value: if sign == Some(b'-') { -value } else { value }, len: at, integer })
}

#[cold]
fn any_field_value(input: &[u8]) -> Option<(f64, usize)> {
    let (value, len) = any_float(input)?;
    if ends_field(input, len) {
        return Some((value, len));
    }
    let digits = std::str::from_utf8(&input[..len]).ok()?;
    let in_range = match input[len] {
        b'i' => digits.parse::<i64>().is_ok(),
        b'u' => digits.parse::<u64>().is_ok(),
        _ => false,
    };
    (in_range && ends_field(input, len + 1)).then_some((value, len + 1))
}

/// Reads all of `text` as a number.
pub fn parse_float(text: &str) -> Option<f64> {
    float(text.as_bytes()).filter(|(_, len)| *len == text.len()).map(|(value, _)| value)
}

#[cold]
fn any_float(input: &[u8]) -> Option<(f64, usize)> {
    if let Some(nan) = written_nan(input) {
        return Some(nan);
    }
    let (value, len) =
        fast_float2::parse_partial::<f64, _>(input).ok().filter(|(_, len)| *len > 0)?;
    Some((if value.is_nan() { f64::from_bits(NORMAL_NAN_BITS) } else { value }, len))
}

/// Reads a NaN that is spelled by its bits.
fn written_nan(input: &[u8]) -> Option<(f64, usize)> {
    const STALE: &[u8] = b"StaleNaN";
    const OPEN: &[u8] = b"NaN(0x";
    const DIGITS: usize = 16;
    if input.starts_with(STALE) {
        return Some((f64::from_bits(STALE_NAN_BITS), STALE.len()));
    }
    let rest = input.strip_prefix(OPEN)?;
    let (digits, rest) = rest.split_at_checked(DIGITS)?;
    let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
    let value = f64::from_bits(u64::from_str_radix(digits, 16).ok()?);
    (value.is_nan() && rest.first() == Some(&b')')).then_some((value, OPEN.len() + DIGITS + 1))
}

#[cold]
fn long_integer(input: &[u8], start: usize) -> Option<(i64, usize)> {
    let digits = input[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = std::str::from_utf8(&input[..start + digits]).ok()?;
    Some((text.parse().ok()?, start + digits))
}

#[inline]
fn digit_at(input: &[u8], at: usize) -> Option<u64> {
    let digit = input.get(at)?.wrapping_sub(b'0');
    (digit < 10).then_some(u64::from(digit))
}

/// The number that eight ASCII digits write, all at once in one register.
#[inline]
fn eight_digits(chunk: [u8; 8]) -> Option<u64> {
    let word = u64::from_le_bytes(chunk);
    let high = word & 0xf0f0_f0f0_f0f0_f0f0;
    let carried = word.wrapping_add(0x0606_0606_0606_0606) & 0xf0f0_f0f0_f0f0_f0f0;
    if high | (carried >> 4) != 0x3333_3333_3333_3333 {
        return None;
    }
    let digits = word & 0x0f0f_0f0f_0f0f_0f0f;
    let pairs = (digits * 10).wrapping_add(digits >> 8);
    let even = (pairs & 0x0000_00ff_0000_00ff).wrapping_mul(0x000f_4240_0000_0064);
    let odd = ((pairs >> 16) & 0x0000_00ff_0000_00ff).wrapping_mul(0x0000_2710_0000_0001);
    Some(even.wrapping_add(odd) >> 32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(text: &str) -> Option<f64> {
        field_value(text.as_bytes()).filter(|(_, len)| *len == text.len()).map(|(value, _)| value)
    }

    #[test]
    fn every_form_of_a_value() {
        for (text, value) in [
            ("45.2", 45.2),
            ("-0", -0.0),
            ("+7", 7.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("-1.5E-3", -0.0015),
            ("0.30000000000000004", 0.30000000000000004),
            ("123456789012345678901234567890", 123456789012345678901234567890.0),
            ("42i", 42.0),
            ("-42i", -42.0),
            ("42u", 42.0),
            ("18446744073709551615u", 18446744073709551615.0),
            ("9223372036854775807i", 9223372036854775807.0),
            ("Inf", f64::INFINITY),
            ("-inf", f64::NEG_INFINITY),
            ("+Infinity", f64::INFINITY),
            ("1e999", f64::INFINITY),
        ] {
            assert_eq!(field(text).map(f64::to_bits), Some(value.to_bits()), "{text}");
        }
        assert_eq!(field("NaN").unwrap().to_bits(), NORMAL_NAN_BITS);
        assert_eq!(field("-nan").unwrap().to_bits(), NORMAL_NAN_BITS);
        for bits in [STALE_NAN_BITS, 0x7ff8_0000_0000_0000, 0xfff0_0000_0000_0001] {
            assert_eq!(field(&format!("NaN({bits:#018x})")).map(f64::to_bits), Some(bits));
        }
        assert_eq!(field("StaleNaN").unwrap().to_bits(), STALE_NAN_BITS);
        assert_eq!(parse_float("-2.5"), Some(-2.5));
        for text in [
            "",
            "-",
            ".",
            "StaleNaNs",
            "NaN(0x7ff0000000000000)",
            "NaN(0x+ff8000000000000)",
            "NaN(0x7ff8)",
            "NaN(0x7ff8000000000001",
            "1.5i",
            "1e3i",
            "-1u",
            "9223372036854775808i",
            "1x",
            "1.2.3",
            "0x10",
            "i",
            "--1",
        ] {
            assert_eq!(field(text), None, "{text}");
        }
        assert_eq!(field_value(b"1.5,b=2"), Some((1.5, 3)));
        assert_eq!(field_value(b"1i 5"), Some((1.0, 2)));
    }

    #[test]
    fn every_form_of_an_integer() {
        for (text, value) in [
            ("0", 0),
            ("-1", -1),
            ("12345678", 12345678),
            ("1699500000000", 1699500000000),
            ("1699500000000123456", 1699500000000123456),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
            ("00000000000000000000000007", 7),
        ] {
            assert_eq!(integer(text.as_bytes()), Some((value, text.len())), "{text}");
        }
        for text in ["", "-", "x", "9223372036854775808", "--1"] {
            assert_eq!(integer(text.as_bytes()), None, "{text}");
        }
        assert_eq!(integer(b"12345678 x"), Some((12345678, 8)));
        assert_eq!(integer(b"1234567a"), Some((1234567, 7)));
    }

    proptest! {
        #[test]
        fn values_equal_the_standard_librarys(value in any::<f64>().prop_filter("", |v| !v.is_nan())) {
            for text in [format!("{value}"), format!("{value:e}"), format!("{value:.3}")] {
                prop_assert_eq!(field(&text).map(f64::to_bits), text.parse::<f64>().ok().map(f64::to_bits));
            }
        }

        #[test]
        fn short_decimals_equal_the_standard_librarys(text in "[+-]?[0-9]{1,9}\\.[0-9]{0,9}") {
            prop_assert_eq!(field(&text).map(f64::to_bits), text.parse::<f64>().ok().map(f64::to_bits));
        }

        #[test]
        fn integers_equal_the_standard_librarys(value in any::<i64>(), shift in 0..64u32) {
            let value = value >> shift;
            let text = value.to_string();
            prop_assert_eq!(integer(text.as_bytes()), Some((value, text.len())));
        }

        #[test]
        fn any_bytes_are_read_without_panic(input in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = (field_value(&input), float(&input), integer(&input));
        }
    }
}
