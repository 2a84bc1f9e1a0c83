//! Writes one rollup file, series by series, in bounded memory.
//!
//! Rows are gathered until a row group is full; `encoding` then looks at each of its columns.

use std::io::Write;

use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

use crate::columnar::aggregate::RollupColumns;
use crate::columnar::parquet::columns::{LabelColumns, ROLLUP_SCHEMA_VERSION};
use crate::columnar::parquet::encoding::Encoders;
use crate::columnar::parquet::rows::RollupRows;
use crate::model::Labels;

/// Rows of a row group. They are held in memory until they are encoded, and are as alike as
/// neighbours in the order of series are; its footer costs as much as some hundred rows.
pub const ROW_GROUP_ROWS: usize = 128 * 1024;

/// What a finished file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RollupFileSummary {
    pub rows: u64,
    pub series: u64,
    /// First and last `bucket_end`, in ms.
    pub first_bucket: Option<i64>,
    pub last_bucket: Option<i64>,
    /// The least and the greatest metric name as text. Series stand in another order: `cpu` comes
    /// after `cpu_idle`, since the byte that ends a name in a key is greater than any letter.
    pub first_metric: String,
    pub last_metric: String,
}

/// Writes the rows of series in ascending order of labels.
pub struct RollupFileWriter<W: Write + Send> {
    file: SerializedFileWriter<W>,
    encoders: Encoders,
    rows: RollupRows,
    row_group_rows: usize,
    summary: RollupFileSummary,
}

impl<W: Write + Send> RollupFileWriter<W> {
    /// Row groups get `row_group_rows` rows, or some more: a series is not cut.
    pub fn new(
        sink: W,
        columns: &LabelColumns,
        resolution_ms: i64,
        row_group_rows: usize,
    ) -> parquet::errors::Result<Self> {
        let rows = RollupRows::new(columns, resolution_ms);
        let encoders = Encoders::new(rows.schema())?;
        let properties = Some(properties(resolution_ms));
        let (file, _) =
            ArrowWriter::try_new(sink, rows.schema(), properties)?.into_serialized_writer()?;
        let summary = RollupFileSummary::default();
        Ok(Self { file, encoders, rows, row_group_rows, summary })
    }

    /// Adds the rows of one series. Labels without a column in this file are an error of the
    /// caller, who must have added them to the [`LabelColumns`].
    pub fn push(&mut self, labels: &Labels, rows: &RollupColumns) -> parquet::errors::Result<()> {
        let (Some(&first), Some(&last)) = (rows.bucket_end.first(), rows.bucket_end.last()) else {
            return Ok(());
        };
        let metric = labels.metric_name();
        let first_series = self.summary.series == 0;
        if first_series || metric < self.summary.first_metric.as_str() {
            metric.clone_into(&mut self.summary.first_metric);
        }
        if first_series || metric > self.summary.last_metric.as_str() {
            metric.clone_into(&mut self.summary.last_metric);
        }
        self.summary.series += 1;
        self.summary.rows += rows.len() as u64;
        let summary = &mut self.summary;
        summary.first_bucket = Some(summary.first_bucket.map_or(first, |known| known.min(first)));
        summary.last_bucket = Some(summary.last_bucket.map_or(last, |known| known.max(last)));

        self.rows.push(labels, rows);
        if self.rows.len() >= self.row_group_rows { self.write_group() } else { Ok(()) }
    }

    /// Ends the row group; labels may start anew, since rows are sorted inside of one.
    pub fn cut(&mut self) -> parquet::errors::Result<()> {
        self.write_group()
    }

    /// Where the file goes.
    pub fn sink(&self) -> &W {
        self.file.inner()
    }

    /// Writes what is left and the footer; gives the sink back.
    pub fn finish(mut self) -> parquet::errors::Result<(W, RollupFileSummary)> {
        self.write_group()?;
        Ok((self.file.into_inner()?, self.summary))
    }

    fn write_group(&mut self) -> parquet::errors::Result<()> {
        if self.rows.is_empty() {
            return Ok(());
        }
        self.encoders.write(&self.rows.take()?, &mut self.file)
    }
}

fn properties(resolution_ms: i64) -> WriterProperties {
    let facts = [
        ("aetherdb.schema_version", ROLLUP_SCHEMA_VERSION.to_string()),
        ("aetherdb.resolution_ms", resolution_ms.to_string()),
        ("aetherdb.buckets", "left-open, right-closed".to_owned()),
    ];
    let facts = facts.into_iter().map(|(key, value)| KeyValue::new(key.to_owned(), value));
    WriterProperties::builder()
        .set_created_by(concat!("aetherdb ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_key_value_metadata(Some(facts.collect()))
        .build()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;
    use crate::columnar::aggregate::roll_up_samples;
    use crate::columnar::parquet::columns::RollupColumnSet;
    use crate::columnar::parquet::reader::{append_rows, series_runs};
    use crate::model::{METRIC_NAME, Samples, stale_nan};

    fn series(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    #[test]
    fn a_file_gives_back_series_and_rows() {
        let mut wanted = Vec::new();
        let mut columns = LabelColumns::new();
        for number in 0..7 {
            let host = format!("h{number}");
            let labels = if number % 2 == 0 {
                series(&[(METRIC_NAME, "cpu"), ("host", &host), ("sum", "x")])
            } else {
                series(&[(METRIC_NAME, "mem"), ("host", &host)])
            };
            labels.iter().skip(1).for_each(|(name, _)| columns.add(name));
            let mut samples = Samples::default();
            for step in 0..50 {
                let value = if step == 49 { stale_nan() } else { f64::from(step * number) };
                samples.push(i64::from(step) * 15_000 + 1, value);
            }
            samples.push(900_000, stale_nan());
            let mut rows = RollupColumns::default();
            roll_up_samples(&samples, 60_000, &mut rows);
            wanted.push((labels, rows));
        }
        wanted.sort_by(|left, right| left.0.cmp(&right.0));
        let mut writer = RollupFileWriter::new(Vec::new(), &columns, 60_000, 30).unwrap();
        for (labels, rows) in &wanted {
            writer.push(labels, rows).unwrap();
        }
        let (bytes, summary) = writer.finish().unwrap();
        assert_eq!((summary.series, summary.first_bucket), (7, Some(60_000)));
        assert_eq!((summary.first_metric.as_str(), summary.last_metric.as_str()), ("cpu", "mem"));

        let mut found: Vec<(Labels, RollupColumns)> = Vec::new();
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).unwrap();
        for batch in reader.build().unwrap() {
            let batch = batch.unwrap();
            for (labels, range) in series_runs(&batch, &columns).unwrap() {
                match found.last_mut() {
                    Some((last, rows)) if *last == labels => {
                        append_rows(&batch, range, RollupColumnSet::ALL, rows)
                    }
                    _ => {
                        let mut rows = RollupColumns::default();
                        append_rows(&batch, range, RollupColumnSet::ALL, &mut rows).unwrap();
                        found.push((labels, rows));
                        Ok(())
                    }
                }
                .unwrap();
            }
        }
        assert_eq!(found, wanted);
    }

    #[test]
    fn metrics_are_bounded_as_text_not_as_keys() {
        let series = |metric| Labels::from_pairs([(METRIC_NAME, metric)]).unwrap();
        let mut all = ["cpu", "cpu_idle", "cpu_idle_max"].map(series);
        all.sort();
        assert_eq!(all[2].metric_name(), "cpu", "keys are ordered otherwise than names");
        let samples = Samples { timestamps: vec![1], values: vec![1.0] };
        let mut rows = RollupColumns::default();
        roll_up_samples(&samples, 60_000, &mut rows);
        let columns = LabelColumns::new();
        let mut writer =
            RollupFileWriter::new(Vec::new(), &columns, 60_000, ROW_GROUP_ROWS).unwrap();
        for labels in &all {
            writer.push(labels, &rows).unwrap();
        }
        let (_, summary) = writer.finish().unwrap();
        let bounds = (summary.first_metric.as_str(), summary.last_metric.as_str());
        assert_eq!(bounds, ("cpu", "cpu_idle_max"));
    }
}
