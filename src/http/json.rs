//! JSON written by hand, byte for byte as Prometheus writes it.
//!
//! Query results are the only large thing that is answered, so they go straight from columns to
//! bytes. Numbers follow Go's `strconv.FormatFloat(v, 'f', -1, 64)`: the shortest digits that read
//! back as the same value, an exponent only outside of [1e-6, 1e21).
//! Source: prometheus/util/jsonutil/marshal.go, promql/value.go.

use crate::model::{Labels, METRIC_NAME, Timestamp};

/// Powers of ten by which a value may be a whole number and take the quick way.
const SHORT_FRACTIONS: [f64; 4] = [1.0, 10.0, 100.0, 1000.0];
/// Decimal numbers of up to 15 digits are different doubles, so such a number is the shortest
/// form of its double.
const SHORT_DIGITS_MAX: f64 = 1e15;

/// Appends a sample's value as Prometheus writes it in vectors and matrices, without quotes.
pub(crate) fn push_value(out: &mut Vec<u8>, value: f64) {
    let size = value.abs();
    let exponent = size != 0.0 && size.is_finite() && !(1e-6..1e21).contains(&size);
    push_float(out, value, exponent);
}

/// Appends a value without ever using an exponent, as Prometheus writes scalars.
pub(crate) fn push_scalar(out: &mut Vec<u8>, value: f64) {
    push_float(out, value, false);
}

/// Appends seconds with exactly three decimals, or none for a whole second.
pub(crate) fn push_timestamp(out: &mut Vec<u8>, timestamp: Timestamp) {
    if timestamp < 0 {
        out.push(b'-');
    }
    let ms = timestamp.unsigned_abs();
    push_integer(out, ms / 1000);
    let fraction = ms % 1000;
    if fraction != 0 {
        out.push(b'.');
        push_padded(out, fraction, 3);
    }
}

/// Appends seconds without trailing zeros, as Prometheus writes the time of scalars and strings.
pub(crate) fn push_timestamp_short(out: &mut Vec<u8>, timestamp: Timestamp) {
    push_timestamp(out, timestamp);
    if timestamp % 1000 != 0 {
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
}

/// Appends an unsigned integer.
pub(crate) fn push_integer(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends `text` in quotes.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut done = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[done..at]);
        done = at + 1;
        match byte {
            b'"' => out.extend_from_slice(br#"\""#),
            b'\\' => out.extend_from_slice(br"\\"),
            b'\n' => out.extend_from_slice(br"\n"),
            b'\r' => out.extend_from_slice(br"\r"),
            b'\t' => out.extend_from_slice(br"\t"),
            _ => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(br"\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
    }
    out.extend_from_slice(&bytes[done..]);
    out.push(b'"');
}

/// Appends an array of strings.
pub(crate) fn push_strings<S: AsRef<str>>(out: &mut Vec<u8>, strings: impl IntoIterator<Item = S>) {
    push_array(out, strings, |out, text| push_string(out, text.as_ref()));
}

/// Appends an array, each item by `push`.
pub(crate) fn push_array<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut push: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push(out, item);
    }
    out.push(b']');
}

/// Appends a label set as an object, names ascending with `__name__` as an ordinary name.
pub(crate) fn push_labels(out: &mut Vec<u8>, labels: &Labels) {
    out.push(b'{');
    let mut metric = Some(labels.metric_name()).filter(|metric| !metric.is_empty());
    let mut first = true;
    for (name, value) in labels.iter().filter(|(name, _)| *name != METRIC_NAME) {
        if name > METRIC_NAME
            && let Some(metric) = metric.take()
        {
            push_pair(out, METRIC_NAME, metric, &mut first);
        }
        push_pair(out, name, value, &mut first);
    }
    if let Some(metric) = metric {
        push_pair(out, METRIC_NAME, metric, &mut first);
    }
    out.push(b'}');
}

fn push_pair(out: &mut Vec<u8>, name: &str, value: &str, first: &mut bool) {
    if !std::mem::replace(first, false) {
        out.push(b',');
    }
    push_string(out, name);
    out.push(b':');
    push_string(out, value);
}

fn push_padded(out: &mut Vec<u8>, number: u64, width: usize) {
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(number).as_bytes();
    push_zeros(out, width.saturating_sub(digits.len()));
    out.extend_from_slice(digits);
}

fn push_zeros(out: &mut Vec<u8>, count: usize) {
    out.resize(out.len() + count, b'0');
}

fn push_float(out: &mut Vec<u8>, value: f64, exponent: bool) {
    if value.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if value.is_infinite() {
        return out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let size = value.abs();
    if !exponent && push_short(out, size) {
        return;
    }
    let mut buffer = zmij::Buffer::new();
    let decimal = Decimal::read(buffer.format_finite(size).as_bytes());
    if exponent { decimal.push_scientific(out) } else { decimal.push_plain(out) }
}

/// Writes numbers such as `45`, `45.2` and `0.001`; says whether `size` was one.
fn push_short(out: &mut Vec<u8>, size: f64) -> bool {
    for (decimals, scale) in SHORT_FRACTIONS.iter().enumerate() {
        let scaled = (size * scale).round();
        if scaled >= SHORT_DIGITS_MAX {
            return false;
        }
        // Division rounds correctly, so equality says that the decimal number reads back as `size`.
        if scaled / scale == size {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a whole number in 0..1e15"
            )]
            let digits = scaled as u64;
            let unit = 10_u64.pow(u32::try_from(decimals).unwrap_or(0));
            push_integer(out, digits / unit);
            if decimals > 0 {
                out.push(b'.');
                push_padded(out, digits % unit, decimals);
            }
            return true;
        }
    }
    false
}

/// Shortest digits of a finite positive number: `0.d1d2d3… × 10^point`.
struct Decimal {
    digits: [u8; 20],
    len: usize,
    point: i32,
}

impl Decimal {
    /// Reads any form of decimal number, such as `1.5`, `0.00012` and `1.2e-7`.
    fn read(text: &[u8]) -> Self {
        let mut decimal = Decimal { digits: [0; 20], len: 0, point: 0 };
        let mut fraction = false;
        let mut rest = text.iter();
        while let Some(&byte) = rest.next() {
            match byte {
                b'.' => fraction = true,
                b'e' | b'E' => {
                    let exponent = std::str::from_utf8(rest.as_slice()).unwrap_or_default();
                    decimal.point += exponent.parse::<i32>().unwrap_or(0);
                    break;
                }
                b'0' if decimal.len == 0 => decimal.point -= i32::from(fraction),
                digit => {
                    if decimal.len < decimal.digits.len() {
                        decimal.digits[decimal.len] = digit;
                        decimal.len += 1;
                    }
                    decimal.point += i32::from(!fraction);
                }
            }
        }
        while decimal.len > 0 && decimal.digits[decimal.len - 1] == b'0' {
            decimal.len -= 1;
        }
        decimal
    }

    fn digits(&self) -> &[u8] {
        if self.len == 0 { b"0" } else { &self.digits[..self.len] }
    }

    fn push_plain(&self, out: &mut Vec<u8>) {
        let digits = self.digits();
        match usize::try_from(self.point) {
            Ok(point) if point >= digits.len() => {
                out.extend_from_slice(digits);
                push_zeros(out, point - digits.len());
            }
            Ok(point) if point > 0 => {
                out.extend_from_slice(&digits[..point]);
                out.push(b'.');
                out.extend_from_slice(&digits[point..]);
            }
            _ => {
                out.extend_from_slice(b"0.");
                push_zeros(out, self.point.unsigned_abs() as usize);
                out.extend_from_slice(digits);
            }
        }
    }

    fn push_scientific(&self, out: &mut Vec<u8>) {
        let digits = self.digits();
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        let exponent = self.point - 1;
        out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
        push_padded(out, u64::from(exponent.unsigned_abs()), 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(push: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8(out).unwrap()
    }

    /// The right column was printed by Go 1.24's `strconv.AppendFloat(…, -1, 64)`.
    #[test]
    fn values_are_written_as_go_writes_them() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-1.0, "-1"),
            (45.2, "45.2"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1.0 / 3.0, "0.3333333333333333"),
            (2.0 / 3.0, "0.6666666666666666"),
            (100.0, "100"),
            (0.001, "0.001"),
            (0.0012, "0.0012"),
            (1.005, "1.005"),
            (12345.678, "12345.678"),
            (999_999_999_999_999.0, "999999999999999"),
            (1e15, "1000000000000000"),
            (123_456_789_012_345_680.0, "123456789012345680"),
            (9_007_199_254_740_993.0, "9007199254740992"),
            (1e20, "100000000000000000000"),
            (1.5e20, "150000000000000000000"),
            (999_999_999_999_999_900_000.0, "999999999999999900000"),
            (1e21, "1e+21"),
            (1.25e21, "1.25e+21"),
            (-1e21, "-1e+21"),
            (1e100, "1e+100"),
            (0.000_001, "0.000001"),
            (0.000_001_5, "0.0000015"),
            (0.000_000_999_999, "9.99999e-07"),
            (1e-7, "1e-07"),
            (1.5e-10, "1.5e-10"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
            (f64::EPSILON, "2.220446049250313e-16"),
            (std::f64::consts::PI, "3.141592653589793"),
            (8_589_934_592.0, "8589934592"),
            (0.3, "0.3"),
            (4.35, "4.35"),
            (2.675, "2.675"),
            (1.1, "1.1"),
            (123_456.789_1, "123456.7891"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(written(|out| push_value(out, value)), expected, "{value:e}");
        }
    }

    #[test]
    fn scalars_have_no_exponent() {
        assert_eq!(written(|out| push_scalar(out, 1e21)), "1000000000000000000000");
        assert_eq!(written(|out| push_scalar(out, 1.5e-7)), "0.00000015");
        assert_eq!(written(|out| push_scalar(out, f64::NAN)), "NaN");
        assert_eq!(written(|out| push_scalar(out, 2.0)), "2");
    }

    /// Whatever is written reads back as the same bits, and is never longer than Rust's own
    /// shortest form.
    #[test]
    fn every_value_reads_back() {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut bits = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..200_000_u32 {
            let value = match round % 4 {
                0 => f64::from_bits(bits()),
                1 => f64::from(u32::try_from(bits() >> 40).unwrap()) / 1000.0,
                2 => f64::from(u32::try_from(bits() >> 32).unwrap()) / 1024.0,
                _ => f64::from(i32::try_from(bits() >> 36).unwrap()) * 1e-5,
            };
            if value.is_nan() {
                continue;
            }
            let text = written(|out| push_value(out, value));
            assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{text}");
            let digits = |text: &str| {
                let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
                let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
                digits.trim_matches('0').len()
            };
            assert_eq!(digits(&text), digits(&format!("{value:e}")), "{text} {value:e}");
        }
    }

    #[test]
    fn timestamps_have_three_decimals_or_none() {
        for (timestamp, expected, short) in [
            (0, "0", "0"),
            (1, "0.001", "0.001"),
            (10, "0.010", "0.01"),
            (100, "0.100", "0.1"),
            (1000, "1", "1"),
            (1_435_781_451_781, "1435781451.781", "1435781451.781"),
            (1_435_781_451_070, "1435781451.070", "1435781451.07"),
            (1_435_781_460_000, "1435781460", "1435781460"),
            (-1, "-0.001", "-0.001"),
            (-1500, "-1.500", "-1.5"),
            (i64::MIN, "-9223372036854775.808", "-9223372036854775.808"),
        ] {
            assert_eq!(written(|out| push_timestamp(out, timestamp)), expected);
            assert_eq!(written(|out| push_timestamp_short(out, timestamp)), short);
        }
    }

    #[test]
    fn strings_escape_what_json_demands() {
        let odd = "a\"b\\c\nd\re\tf\u{1}g\u{7f}é\u{2028}<&>";
        let text = written(|out| push_string(out, odd));
        assert_eq!(text, "\"a\\\"b\\\\c\\nd\\re\\tf\\u0001g\u{7f}é\u{2028}<&>\"");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), odd);
    }

    #[test]
    fn the_metric_name_takes_its_place_among_the_labels() {
        let labels = |pairs: &[(&'static str, &'static str)]| {
            Labels::from_pairs(pairs.iter().copied()).unwrap()
        };
        let up = labels(&[("__name__", "up"), ("job", "a"), ("Zone", "b"), ("__a__", "c")]);
        assert_eq!(
            written(|out| push_labels(out, &up)),
            r#"{"Zone":"b","__a__":"c","__name__":"up","job":"a"}"#
        );
        assert_eq!(written(|out| push_labels(out, &Labels::empty())), "{}");
        let bare = labels(&[("__name__", "up")]);
        assert_eq!(written(|out| push_labels(out, &bare)), r#"{"__name__":"up"}"#);
    }
}
