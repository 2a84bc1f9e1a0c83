//! Samples, always as columns.

use crate::model::time::Timestamp;

/// The bit pattern of Prometheus' stale marker. It is a value like any other to storage,
/// and must never be canonicalised.
/// Source: prometheus/model/value/value.go.
pub const STALE_NAN_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The quiet NaN that Prometheus stores for a `NaN` read from text.
/// Source: prometheus/model/value/value.go, `NormalNaN`.
pub const NORMAL_NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// The stale marker.
pub fn stale_nan() -> f64 {
    f64::from_bits(STALE_NAN_BITS)
}

/// Whether `value` is the stale marker (another NaN is not).
#[inline]
pub fn is_stale(value: f64) -> bool {
    value.to_bits() == STALE_NAN_BITS
}

/// A series' dense id in memory, given in order of registration and never reused by one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesRef(pub u32);

impl SeriesRef {
    #[inline]
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Samples of many series in order of arrival; row `i` is `(series[i], timestamps[i], values[i])`.
///
/// What ingest hands to storage. Invariant: the columns are of equal length.
#[derive(Debug, Default, Clone)]
pub struct SampleBatch {
    pub series: Vec<SeriesRef>,
    pub timestamps: Vec<Timestamp>,
    pub values: Vec<f64>,
}

impl SampleBatch {
    #[inline]
    pub fn push(&mut self, series: SeriesRef, timestamp: Timestamp, value: f64) {
        self.series.push(series);
        self.timestamps.push(timestamp);
        self.values.push(value);
    }

    pub fn len(&self) -> usize {
        self.series.len()
    }

    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    pub fn truncate(&mut self, len: usize) {
        self.series.truncate(len);
        self.timestamps.truncate(len);
        self.values.truncate(len);
    }
}

/// Samples of one series in time order, as two columns of equal length.
#[derive(Debug, Default, Clone)]
pub struct Samples {
    pub timestamps: Vec<Timestamp>,
    pub values: Vec<f64>,
}

impl Samples {
    #[inline]
    pub fn push(&mut self, timestamp: Timestamp, value: f64) {
        self.timestamps.push(timestamp);
        self.values.push(value);
    }

    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }

    /// Empties the columns and keeps their memory.
    pub fn clear(&mut self) {
        self.timestamps.clear();
        self.values.clear();
    }
}
