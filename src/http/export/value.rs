//! Values as text that reads back with the same bits.
//!
//! | value | JSON lines | CSV, OpenMetrics |
//! |---|---|---|
//! | finite | shortest digits | shortest digits |
//! | ±Inf | `"Infinity"`, `"-Infinity"` | `+Inf`, `-Inf` |
//! | stale marker | `null` | `StaleNaN` |
//! | `NaN` as Prometheus stores it | `"NaN"` | `NaN` |
//! | any other NaN | `"NaN(0x7ff8000000000000)"` | `NaN(0x7ff8000000000000)` |
//!
//! VictoriaMetrics stores no NaN but stale markers and exports them as `null`, so its exports and
//! ours mean the same.

use std::io::Write;

use crate::http::json;
use crate::model::{NORMAL_NAN_BITS, STALE_NAN_BITS};

/// Appends a value for CSV and OpenMetrics.
pub(super) fn push_text(out: &mut Vec<u8>, value: f64) {
    match value.to_bits() {
        STALE_NAN_BITS => out.extend_from_slice(b"StaleNaN"),
        bits if value.is_nan() && bits != NORMAL_NAN_BITS => {
            write!(out, "NaN({bits:#018x})").expect("writing to memory cannot fail");
        }
        _ => json::push_value(out, value),
    }
}

/// Appends a value for JSON lines.
pub(super) fn push_json(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        json::push_value(out, value);
    } else if value == f64::INFINITY {
        out.extend_from_slice(br#""Infinity""#);
    } else if value == f64::NEG_INFINITY {
        out.extend_from_slice(br#""-Infinity""#);
    } else if value.to_bits() == STALE_NAN_BITS {
        out.extend_from_slice(b"null");
    } else {
        out.push(b'"');
        push_text(out, value);
        out.push(b'"');
    }
}

/// Appends an integer.
pub(super) fn push_signed(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::parse_float;
    use crate::model::stale_nan;

    #[test]
    fn every_bit_pattern_reads_back() {
        let mut values = vec![0.0, -0.0, 1e21, 5e-324, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
        values.push(stale_nan());
        values.extend([NORMAL_NAN_BITS, 0xfff0_0000_0000_0001, u64::MAX].map(f64::from_bits));
        for value in values {
            let mut text = Vec::new();
            push_text(&mut text, value);
            let text = String::from_utf8(text).unwrap();
            assert_eq!(parse_float(&text).map(f64::to_bits), Some(value.to_bits()), "{text}");
        }
    }

    #[test]
    fn json_spells_what_it_has_no_numbers_for() {
        let written = |value| {
            let mut out = Vec::new();
            push_json(&mut out, value);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(1.5), "1.5");
        assert_eq!(written(stale_nan()), "null");
        assert_eq!(written(f64::NEG_INFINITY), r#""-Infinity""#);
        assert_eq!(written(f64::from_bits(NORMAL_NAN_BITS)), r#""NaN""#);
        assert_eq!(written(f64::from_bits(u64::MAX)), r#""NaN(0xffffffffffffffff)""#);
    }
}
