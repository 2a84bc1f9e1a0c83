//! Plain values that every folder speaks of: time, labels, samples, matchers, metadata.
//!
//! No I/O, no async, no clock. Lowest row of the dependency table.

pub mod labels;
pub mod matcher;
pub mod metadata;
pub(crate) mod pattern;
pub mod resolution;
pub mod sample;
pub mod start_timestamps;
pub mod time;

pub use labels::{Labels, LabelsBuilder, LabelsError, METADATA_LABELS, METRIC_NAME};
pub use matcher::{MatchOp, Matcher, MatcherError};
pub use metadata::{Metadata, MetricType};
pub use resolution::{Resolution, UnknownResolution};
pub use sample::{
    NORMAL_NAN_BITS, STALE_NAN_BITS, SampleBatch, Samples, SeriesRef, is_stale, stale_nan,
};
pub use time::{Span, TimeRange, Timestamp};
