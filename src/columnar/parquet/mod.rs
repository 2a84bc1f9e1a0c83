//! Rollup files: Parquet that any tool opens without us.
//!
//! One row per (series, bucket), sorted by (metric, labels, bucket). Labels are plain dictionary
//! columns, numbers plain doubles and integers, times milliseconds in UTC; `columns` decides the
//! names, `labels` and `rows` build the batches, `encoding` decides the encodings, `reader` turns
//! batches back into series.

pub mod columns;
mod encoding;
pub mod labels;
pub mod reader;
pub mod rows;
mod texts;
pub mod writer;

pub use columns::{LabelColumns, RollupColumnSet};
pub use labels::LabelRuns;
pub use rows::RollupRows;
pub use writer::{ROW_GROUP_ROWS, RollupFileSummary, RollupFileWriter};
