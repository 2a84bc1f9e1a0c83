//! How settings are written: sizes, periods, retentions, switches. What is printed reads back.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::http::parse_duration_ms;
use crate::storage::Retention;

/// `on` or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    On,
    Off,
}

impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Switch::On => "on",
            Switch::Off => "off",
        })
    }
}

impl FromStr for Switch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "on" => Ok(Switch::On),
            "off" => Ok(Switch::Off),
            _ => Err("say on or off".to_owned()),
        }
    }
}

/// A size, written as `512MiB`, `64MB` or a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    pub(super) fn from_len(len: usize) -> Self {
        Self(len as u64)
    }

    pub(super) fn len(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Largest first, so that a size is printed in the largest unit that divides it.
const BYTE_UNITS: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = BYTE_UNITS.iter().find(|(_, bytes)| self.0 > 0 && self.0.is_multiple_of(*bytes));
        match unit {
            Some((name, bytes)) => write!(f, "{}{name}", self.0 / bytes),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let per_unit = match unit.trim() {
            "" | "B" => Some(1),
            unit => BYTE_UNITS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                .map(|(_, bytes)| *bytes),
        };
        let number = number.parse::<u64>().ok();
        number
            .zip(per_unit)
            .and_then(|(number, per_unit)| number.checked_mul(per_unit))
            .map(Bytes)
            .ok_or_else(|| "not a size such as 512MiB, 64MB or a number of bytes".to_owned())
    }
}

/// A length of time, written as `1h30m`, `100ms` or a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period(pub Duration);

impl Period {
    pub(super) fn from_ms(ms: i64) -> Self {
        Self(Duration::from_millis(ms.unsigned_abs()))
    }

    pub(super) fn ms(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
        let mut rest = self.ms();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, ms) in units {
            if rest >= ms {
                write!(f, "{}{name}", rest / ms)?;
                rest %= ms;
            }
        }
        Ok(())
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match parse_duration_ms(text) {
            Ok(ms) if ms >= 0 => Ok(Self::from_ms(ms)),
            _ => Err("not a duration such as 30s, 1h30m or a number of seconds".to_owned()),
        }
    }
}

/// How long data is kept, written as `30d`, `forever` or `raw=15d,1m=90d,5m=1y,1h=forever`; a
/// resolution may be `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept(pub Retention);

const FOREVER: &str = "forever";
/// Rollups that are never written.
const NONE: &str = "none";

impl Kept {
    fn parts(self) -> [(&'static str, Option<i64>); 4] {
        let Retention { raw_ms, one_minute_ms, five_minutes_ms, one_hour_ms } = self.0;
        [("raw", raw_ms), ("1m", one_minute_ms), ("5m", five_minutes_ms), ("1h", one_hour_ms)]
    }
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |ms: Option<i64>| match ms {
            None => FOREVER.to_owned(),
            Some(0) => NONE.to_owned(),
            Some(ms) => Period::from_ms(ms).to_string(),
        };
        if self.0 == Retention::of_all(self.0.raw_ms) {
            return f.write_str(&text(self.0.raw_ms));
        }
        let parts = self.parts().map(|(name, ms)| format!("{name}={}", text(ms)));
        f.write_str(&parts.join(","))
    }
}

impl FromStr for Kept {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let length = |text: &str| match text {
            FOREVER => Ok(None),
            _ => match parse_duration_ms(text) {
                Ok(ms) if ms > 0 => Ok(Some(ms)),
                _ => Err(format!("`{text}` is neither a duration such as 15d nor `{FOREVER}`")),
            },
        };
        if !text.contains('=') {
            return length(text).map(|ms| Self(Retention::of_all(ms)));
        }
        let mut retention = Retention::default();
        let mut named = Vec::new();
        for part in text.split(',') {
            let (name, kept) = part.split_once('=').unwrap_or((part, ""));
            let field = match name {
                "raw" => &mut retention.raw_ms,
                "1m" => &mut retention.one_minute_ms,
                "5m" => &mut retention.five_minutes_ms,
                "1h" => &mut retention.one_hour_ms,
                _ => return Err(format!("`{name}` is not one of raw, 1m, 5m, 1h")),
            };
            *field = if kept == NONE && name != "raw" { Some(0) } else { length(kept)? };
            if named.contains(&name) {
                return Err(format!("`{name}` is named twice"));
            }
            named.push(name);
        }
        Ok(Self(retention))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retentions_are_read_as_they_are_written() {
        const DAY_MS: i64 = 86_400_000;
        for text in [
            "forever",
            "30d",
            "raw=15d,1m=90d,5m=365d,1h=forever",
            "raw=forever,1m=none,5m=365d,1h=none",
        ] {
            assert_eq!(text.parse::<Kept>().unwrap().to_string(), text);
        }
        let kept = "5m=1y,raw=15d".parse::<Kept>().unwrap().0;
        assert_eq!((kept.raw_ms, kept.one_minute_ms), (Some(15 * DAY_MS), None));
        assert_eq!((kept.five_minutes_ms, kept.one_hour_ms), (Some(365 * DAY_MS), None));
        for bad in ["", "0", "-1d", "raw", "raw=", "raw=0d", "2m=1d", "raw=1d,raw=2d", "raw=1d,"] {
            assert!(bad.parse::<Kept>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_and_periods() {
        for (text, bytes) in [("0", 0), ("17", 17), ("1KiB", 1024), ("3MB", 3_000_000)] {
            let size = text.parse::<Bytes>().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, text));
        }
        assert_eq!("2 gib".parse(), Ok(Bytes(2 << 30)));
        assert!("-1".parse::<Bytes>().is_err() && "99999999TiB".parse::<Bytes>().is_err());
        assert_eq!("90".parse::<Period>().unwrap().to_string(), "1m30s");
        assert!("-1".parse::<Period>().is_err());
    }
}
