//! The values of numbers, durations and strings. The lexer has checked their form.

use crate::model::labels::quote;

/// A number as Go reads it: with underscores, hexadecimal, octal with a leading zero, `Inf`, `NaN`.
pub(crate) fn number(source: &str) -> Result<f64, String> {
    let digits: String = source.chars().filter(|char| *char != '_').collect();
    if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        return i64::from_str_radix(hex, 16)
            .map(|value| value as f64)
            // Beyond 64 bits Go takes it for a float, which would need an exponent.
            .map_err(|_| wrong(source, "invalid syntax"));
    }
    if digits.len() > 1
        && digits.starts_with('0')
        && digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'))
        && let Ok(value) = i64::from_str_radix(&digits, 8)
    {
        return Ok(value as f64);
    }
    let value: f64 = digits.parse().map_err(|_| wrong(source, "invalid syntax"))?;
    if value.is_infinite() && !source.eq_ignore_ascii_case("inf") {
        return Err(wrong(source, "value out of range"));
    }
    Ok(value)
}

/// In Go's words.
fn wrong(source: &str, reason: &str) -> String {
    format!("error parsing number: strconv.ParseFloat: parsing {}: {reason}", quote(source))
}

const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Milliseconds of a duration such as `1h30m`; each unit at most once, the large ones first.
pub(crate) fn duration_millis(source: &str) -> Result<i64, String> {
    let malformed = || format!("not a valid duration string: {}", quote(source));
    let mut rest = source;
    let mut units = UNITS.iter();
    let mut millis: i64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
        let (count, tail) = rest.split_at(digits);
        let letters = tail.find(|char: char| char.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        if count.is_empty() || unit.is_empty() {
            return Err(malformed());
        }
        if !UNITS.iter().any(|(known, _)| *known == unit) {
            return Err(format!("unknown unit {} in duration {}", quote(unit), quote(source)));
        }
        let (_, unit_millis) = units.find(|(known, _)| *known == unit).ok_or_else(malformed)?;
        millis = count
            .parse::<i64>()
            .ok()
            .and_then(|count| count.checked_mul(*unit_millis))
            .and_then(|part| millis.checked_add(part))
            .filter(|millis| *millis <= i64::MAX / 1_000_000)
            .ok_or_else(|| "duration out of range".to_owned())?;
        rest = tail;
    }
    Ok(millis)
}

/// A duration as Prometheus prints it: `1h30m`; years, weeks and days only if nothing is left over.
pub(crate) fn format_duration(millis: i64) -> String {
    let mut rest = millis.unsigned_abs();
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    if millis < 0 {
        out.push('-');
    }
    for (unit, unit_millis) in UNITS {
        let unit_millis = unit_millis.unsigned_abs();
        let only_exact = matches!(unit, "y" | "w" | "d");
        if only_exact && !rest.is_multiple_of(unit_millis) {
            continue;
        }
        let count = rest / unit_millis;
        if count > 0 {
            out.push_str(&format!("{count}{unit}"));
            rest -= count * unit_millis;
        }
    }
    out
}

/// What a quoted string stands for. Escapes may name single bytes, so that it need not be text.
pub(crate) fn unquote(source: &str) -> Result<Vec<u8>, String> {
    let mut chars = source.chars();
    let quote_char = chars.next();
    let inner = chars.as_str();
    let inner = &inner[..inner.len().saturating_sub(1)];
    if quote_char == Some('`') || !inner.contains('\\') {
        return Ok(inner.as_bytes().to_vec());
    }
    let mut bytes = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let mut chars = rest[at + 1..].chars();
        let escape = chars.next().unwrap_or('\\');
        rest = chars.as_str();
        let simple = match escape {
            'a' => 0x07,
            'b' => 0x08,
            'f' => 0x0C,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 0x0B,
            '\\' | '"' | '\'' => u8::try_from(escape).unwrap_or(b'?'),
            _ => {
                // An octal escape begins with its first digit.
                let (radix, digits, len) = match escape {
                    'x' => (16, rest, 2),
                    'u' => (16, rest, 4),
                    'U' => (16, rest, 8),
                    _ => (8, &inner[inner.len() - rest.len() - 1..], 3),
                };
                let code = digits.get(..len).ok_or_else(|| invalid(source))?;
                let code = u32::from_str_radix(code, radix).map_err(|_| invalid(source))?;
                rest = &digits[len..];
                match (escape, u8::try_from(code)) {
                    ('u' | 'U', _) => {
                        let char = char::from_u32(code).ok_or_else(|| invalid(source))?;
                        bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                    (_, Ok(byte)) => bytes.push(byte),
                    (_, Err(_)) => return Err(invalid(source)),
                }
                continue;
            }
        };
        bytes.push(simple);
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

fn invalid(source: &str) -> String {
    format!("error unquoting string {}: invalid syntax", quote(source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_in_go() {
        for (source, expected) in [
            ("0x1F", 31.0),
            ("0X_ff", 255.0),
            ("0755", 493.0),
            ("0_7", 7.0),
            ("08", 8.0),
            ("1_000.5", 1000.5),
            ("1e3", 1000.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("iNf", f64::INFINITY),
            ("9007199254740993", 9_007_199_254_740_992.0),
        ] {
            assert_eq!(number(source), Ok(expected), "{source}");
        }
        assert!(number("NaN").unwrap().is_nan());
        assert!(number("1e999").unwrap_err().contains("out of range"));
        // A float, which in hexadecimal would need an exponent.
        assert!(number("0xffffffffffffffffff").unwrap_err().contains("invalid syntax"));
    }

    #[test]
    fn durations_there_and_back() {
        for (source, millis) in
            [("1h30m", 5_400_000), ("1y", 31_536_000_000), ("90d", 7_776_000_000), ("5ms", 5)]
        {
            assert_eq!(duration_millis(source), Ok(millis));
            assert_eq!(format_duration(millis), source);
        }
        assert_eq!(format_duration(604_800_000), "1w");
        assert_eq!(format_duration(-90_000), "-1m30s");
        assert_eq!(duration_millis("0s"), Ok(0));
        assert_eq!(duration_millis("5m1h"), Err("not a valid duration string: \"5m1h\"".into()));
        assert_eq!(duration_millis("5m1m"), Err("not a valid duration string: \"5m1m\"".into()));
        assert_eq!(duration_millis("1hs"), Err("unknown unit \"hs\" in duration \"1hs\"".into()));
        assert_eq!(duration_millis("300y"), Err("duration out of range".into()));
        assert_eq!(duration_millis("1.5h"), Err("unknown unit \".\" in duration \"1.5h\"".into()));
    }

    #[test]
    fn strings_are_unescaped_byte_by_byte() {
        for (source, expected) in [
            (r#""plain""#, "plain"),
            (r#""a\"b\\\n""#, "a\"b\\\n"),
            (r"'it\'s'", "it's"),
            (r"`\n`", r"\n"),
            (r#""\xc3\xa9\u00e9\U0001F600\101é""#, "éé😀Aé"),
            (r#""""#, ""),
        ] {
            assert_eq!(unquote(source), Ok(expected.as_bytes().to_vec()), "{source}");
        }
        assert_eq!(unquote(r#""a\xff""#), Ok(b"a\xff".to_vec()));
        assert!(unquote(r#""\ud800""#).is_err());
    }
}
