//! How much one request, line or series may hold. Each bound has a name that errors repeat.

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
        }
    }
}

impl Limits {
    /// The last timestamp that is taken at `now_ms`.
    pub fn timestamp_max(&self, now_ms: Timestamp) -> Timestamp {
        now_ms.saturating_add(self.future_ms_max)
    }
}
