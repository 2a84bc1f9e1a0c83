//! Rollup files: Parquet that any tool opens without us.
//!
//! One row per (series, bucket), sorted by (metric, labels, bucket). Labels are plain dictionary
//! columns, numbers plain doubles and integers, times milliseconds in UTC; `columns` decides the
//! names, `writer` the encodings, `reader` turns batches back into series.

pub mod columns;
pub mod reader;
pub mod writer;

pub use columns::LabelColumns;
pub use writer::{RollupFileSummary, RollupFileWriter, RollupWriterOptions};
