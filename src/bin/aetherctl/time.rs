//! Times as people type them.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::client::Failure;

/// Unix seconds with milliseconds, as the API takes them. Reads Unix seconds, RFC 3339, `now`,
/// and `now-5m` or `-1h` before now.
pub(crate) fn parse(text: &str) -> Result<String, Failure> {
    let wrong = || {
        Failure::Usage(format!(
            "`{text}` is not a time: say Unix seconds, RFC 3339, now, now-5m or -1h"
        ))
    };
    if let Some(back) = text.strip_prefix("now").or(text.starts_with('-').then_some(text)) {
        let back_ms = match back.strip_prefix('-') {
            Some(back) => duration_ms(back).ok_or_else(wrong)?,
            None if back.is_empty() => 0,
            None => return Err(wrong()),
        };
        return Ok(seconds(now_ms().saturating_sub(back_ms)));
    }
    if let Ok(seconds) = text.parse::<f64>() {
        return if seconds.is_finite() { Ok(text.to_owned()) } else { Err(wrong()) };
    }
    let time = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| wrong())?;
    Ok(seconds(time.timestamp_millis()))
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1_000), ms.rem_euclid(1_000))
}

/// `1h30m`, `15s`, `250ms`.
fn duration_ms(text: &str) -> Option<i64> {
    const UNITS: [(&str, i64); 7] = [
        ("ms", 1),
        ("s", 1_000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
        ("w", 604_800_000),
        ("y", 31_536_000_000),
    ];
    let mut total = 0i64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at(letters);
        let (_, ms) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<i64>().ok()?.checked_mul(*ms)?)?;
        rest = tail;
    }
    (!text.is_empty()).then_some(total)
}

#[expect(clippy::disallowed_methods, reason = "the tool's clock is the machine's")]
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_type_them() {
        assert_eq!(parse("1699500000").unwrap(), "1699500000");
        assert_eq!(parse("2023-11-09T03:20:00.25Z").unwrap(), "1699500000.250");
        let now: f64 = parse("now").unwrap().parse().unwrap();
        let back: f64 = parse("now-1h30m").unwrap().parse().unwrap();
        assert!((now - back - 5_400.0).abs() < 5.0);
        assert!(parse("-15s").is_ok());
        for bad in ["", "yesterday", "now-", "now+5m", "-", "-5", "-5x", "inf", "nan"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
