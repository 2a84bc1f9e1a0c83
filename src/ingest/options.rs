//! What a request says about how its body is to be read.

use crate::ingest::limits::{AcceptedTimes, Limits};
use crate::model::Timestamp;

/// Options of one request.
#[derive(Debug, Clone)]
pub struct ParseOptions {
    /// The timestamp of samples that carry none.
    pub now_ms: Timestamp,
    /// Other timestamps are refused.
    pub accepted: AcceptedTimes,
    /// Unit of timestamps in Influx line protocol; the other formats fix theirs.
    pub precision: Precision,
    /// Whether the text exposition format is OpenMetrics, whose timestamps are seconds.
    pub open_metrics: bool,
    /// Labels that every series gets; they replace labels of the same name.
    pub extra_labels: Vec<(String, String)>,
    pub limits: Limits,
}

impl ParseOptions {
    pub fn new(now_ms: Timestamp, limits: Limits) -> Self {
        Self {
            now_ms,
            accepted: limits.accepted_times(now_ms),
            precision: Precision::Nanoseconds,
            open_metrics: false,
            extra_labels: Vec::new(),
            limits,
        }
    }
}

/// Unit of a timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    Nanoseconds,
    Microseconds,
    Milliseconds,
    Seconds,
    Minutes,
    Hours,
}

impl Precision {
    /// The unit as version 1 and 2 of Influx' API spell it.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "" | "n" | "ns" => Precision::Nanoseconds,
            "u" | "µ" | "us" | "µs" => Precision::Microseconds,
            "ms" => Precision::Milliseconds,
            "s" => Precision::Seconds,
            "m" => Precision::Minutes,
            "h" => Precision::Hours,
            _ => return None,
        })
    }

    /// `timestamp` in milliseconds, rounded down; `None` if that overflows.
    #[inline]
    pub fn to_ms(self, timestamp: i64) -> Option<Timestamp> {
        match self {
            Precision::Nanoseconds => Some(timestamp.div_euclid(1_000_000)),
            Precision::Microseconds => Some(timestamp.div_euclid(1_000)),
            Precision::Milliseconds => Some(timestamp),
            Precision::Seconds => timestamp.checked_mul(1_000),
            Precision::Minutes => timestamp.checked_mul(60_000),
            Precision::Hours => timestamp.checked_mul(3_600_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_become_milliseconds_rounded_down() {
        let to_ms = |name: &str, timestamp| Precision::parse(name).unwrap().to_ms(timestamp);
        assert_eq!(to_ms("", 1_999_999), Some(1));
        assert_eq!(to_ms("ns", -1), Some(-1));
        assert_eq!(to_ms("u", 1_001), Some(1));
        assert_eq!(to_ms("ms", 7), Some(7));
        assert_eq!(to_ms("s", -7), Some(-7_000));
        assert_eq!(to_ms("m", 2), Some(120_000));
        assert_eq!(to_ms("h", 1), Some(3_600_000));
        assert_eq!(to_ms("h", i64::MAX), None);
        assert_eq!(Precision::parse("d"), None);
    }
}
