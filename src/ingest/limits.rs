//! How much one request, line or series may hold. Each bound has a name that errors repeat.

use crate::ingest::error::LineErrorCode;
use crate::model::Timestamp;

/// Bounds on what clients send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a body as they come over the wire.
    pub body_bytes_max: usize,
    /// Bytes of a body after decompression.
    pub decompressed_bytes_max: usize,
    pub samples_per_request_max: usize,
    pub line_bytes_max: usize,
    /// Labels of a series, the metric name not counted.
    pub labels_per_series_max: usize,
    pub label_name_bytes_max: usize,
    /// Bytes of a label's value or of a metric name.
    pub label_value_bytes_max: usize,
    /// Bytes of all of a series' names and values.
    pub series_key_bytes_max: usize,
    /// How far a timestamp may lie ahead of the server's clock.
    pub future_ms_max: i64,
    /// How far a timestamp may lie behind the server's clock: what is older would be dropped at
    /// once. `None`: as far as it likes.
    pub past_ms_max: Option<i64>,
}

/// The timestamps that are taken at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AcceptedTimes {
    pub now_ms: Timestamp,
    pub min: Timestamp,
    pub max: Timestamp,
    /// What is older has been dropped, though it may not be as old as samples are kept.
    dropped_before: Timestamp,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes_max: 32 << 20,
            decompressed_bytes_max: 64 << 20,
            samples_per_request_max: 1_000_000,
            line_bytes_max: 64 << 10,
            labels_per_series_max: 64,
            label_name_bytes_max: 256,
            label_value_bytes_max: 4 << 10,
            series_key_bytes_max: 16 << 10,
            future_ms_max: 10 * 60 * 1000,
            past_ms_max: None,
        }
    }
}

impl Limits {
    pub fn accepted_times(&self, now_ms: Timestamp) -> AcceptedTimes {
        AcceptedTimes {
            now_ms,
            min: self.past_ms_max.map_or(Timestamp::MIN, |past_ms| now_ms.saturating_sub(past_ms)),
            max: now_ms.saturating_add(self.future_ms_max),
            dropped_before: Timestamp::MIN,
        }
    }
}

impl AcceptedTimes {
    #[inline]
    pub fn contains(self, timestamp: Timestamp) -> bool {
        self.min <= timestamp && timestamp <= self.max
    }

    /// Takes nothing from before `dropped_before` either: nobody would ever see it.
    pub fn exclude_dropped(&mut self, dropped_before: Timestamp) {
        self.dropped_before = dropped_before;
        self.min = self.min.max(dropped_before);
    }

    /// What is wrong with a timestamp that is not taken.
    #[cold]
    pub(crate) fn refusal(self, timestamp: Timestamp) -> (LineErrorCode, String) {
        if timestamp > self.max {
            let ahead = timestamp.saturating_sub(self.now_ms);
            let message = format!("the timestamp is {ahead} ms ahead of the server's clock");
            return (LineErrorCode::FutureTimestamp, message);
        }
        let behind = self.now_ms.saturating_sub(timestamp);
        let kept = self.now_ms.saturating_sub(self.min);
        let message = if timestamp < self.dropped_before {
            let before = self.dropped_before;
            format!("the timestamp is {behind} ms old, and all before {before} has been dropped")
        } else {
            format!("the timestamp is {behind} ms old, and samples are kept for {kept} ms")
        };
        (LineErrorCode::OldTimestamp, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_between_retention_and_the_near_future() {
        let limits = Limits { past_ms_max: Some(1_000), future_ms_max: 100, ..Limits::default() };
        let times = limits.accepted_times(5_000);
        assert!(times.contains(4_000) && times.contains(5_100));
        assert!(!times.contains(3_999) && !times.contains(5_101));
        let (code, message) = times.refusal(3_900);
        assert_eq!(code, LineErrorCode::OldTimestamp);
        assert_eq!(message, "the timestamp is 1100 ms old, and samples are kept for 1000 ms");
        assert_eq!(times.refusal(6_000).0, LineErrorCode::FutureTimestamp);
        assert!(Limits::default().accepted_times(0).contains(Timestamp::MIN));
    }

    #[test]
    fn what_would_be_dropped_at_once_is_not_taken() {
        let mut times = Limits::default().accepted_times(5_000);
        times.exclude_dropped(4_500);
        assert!(times.contains(4_500) && !times.contains(4_499));
        let (code, message) = times.refusal(4_400);
        assert_eq!(code, LineErrorCode::OldTimestamp);
        assert_eq!(message, "the timestamp is 600 ms old, and all before 4500 has been dropped");
        let limits = Limits { past_ms_max: Some(1_000), ..Limits::default() };
        let mut times = limits.accepted_times(5_000);
        times.exclude_dropped(3_000);
        let (_, message) = times.refusal(3_900);
        assert_eq!(message, "the timestamp is 1100 ms old, and samples are kept for 1000 ms");
    }
}
