//! Rows of rollups as bytes of each format.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::ops::Range;

use arrow::ipc::writer::StreamWriter;

use crate::columnar::aggregate::RollupColumns;
use crate::columnar::parquet::columns::{BUCKET_END, BUCKET_START};
use crate::columnar::parquet::{LabelColumns, ROW_GROUP_ROWS, RollupFileWriter, RollupRows};
use crate::http::export::csv::LabelCells;
use crate::http::export::stream::ChunkSender;
use crate::http::export::value;
use crate::http::json;
use crate::model::Labels;

/// Rows of one batch in an Arrow stream.
const BATCH_ROWS: usize = 64 << 10;

/// Turns rows into the bytes of one format.
pub(super) trait RowEncoder {
    /// Adds rows of one series.
    fn push(
        &mut self,
        labels: &Labels,
        rows: &RollupColumns,
        range: Range<usize>,
    ) -> io::Result<()>;

    fn sink(&self) -> &ChunkSender;

    /// Writes what is left.
    fn finish(self: Box<Self>) -> io::Result<ChunkSender>;
}

/// One cell.
enum Cell {
    Whole(i64),
    Number(f64),
}

/// A column's name and its cell of a row, `None` where that has no value.
type Column = (&'static str, fn(&RollupColumns, usize) -> Option<Cell>);

/// The columns behind the buckets' ends, in order of the files.
const COLUMNS: [Column; 12] = [
    ("count", |rows, row| whole(rows.count[row])),
    ("sum", |rows, row| sampled(rows, row).map(|()| Cell::Number(rows.sum[row]))),
    ("min", |rows, row| sampled(rows, row).map(|()| Cell::Number(rows.min[row]))),
    ("max", |rows, row| sampled(rows, row).map(|()| Cell::Number(rows.max[row]))),
    ("first", |rows, row| sampled(rows, row).map(|()| Cell::Number(rows.first[row]))),
    ("last", |rows, row| sampled(rows, row).map(|()| Cell::Number(rows.last[row]))),
    ("first_ts", |rows, row| sampled(rows, row).map(|()| Cell::Whole(rows.first_ts[row]))),
    ("last_ts", |rows, row| sampled(rows, row).map(|()| Cell::Whole(rows.last_ts[row]))),
    ("reset_sum", |rows, row| Some(Cell::Number(rows.reset_sum[row]))),
    ("resets", |rows, row| whole(rows.resets[row])),
    ("changes", |rows, row| whole(rows.changes[row])),
    ("stale", |rows, row| rows.stale_ts[row].map(Cell::Whole)),
];

fn whole(count: u64) -> Option<Cell> {
    Some(Cell::Whole(i64::try_from(count).unwrap_or(i64::MAX)))
}

/// Nothing where the bucket holds only a stale marker.
fn sampled(rows: &RollupColumns, row: usize) -> Option<()> {
    (rows.count[row] > 0).then_some(())
}

pub(super) struct JsonLines {
    sink: ChunkSender,
    rows_per_line_max: usize,
    bucket_ms: i64,
    line: Vec<u8>,
}

impl JsonLines {
    pub(super) fn new(sink: ChunkSender, rows_per_line_max: usize, bucket_ms: i64) -> Self {
        Self { sink, rows_per_line_max, bucket_ms, line: Vec::new() }
    }
}

impl RowEncoder for JsonLines {
    fn push(
        &mut self,
        labels: &Labels,
        rows: &RollupColumns,
        range: Range<usize>,
    ) -> io::Result<()> {
        for start in range.clone().step_by(self.rows_per_line_max) {
            let end = range.end.min(start + self.rows_per_line_max);
            let ends = &rows.bucket_end[start..end];
            let line = &mut self.line;
            line.clear();
            line.extend_from_slice(br#"{"metric":"#);
            json::push_labels(line, labels);
            for (name, back_ms) in [(BUCKET_START, self.bucket_ms), (BUCKET_END, 0)] {
                push_name(line, name);
                json::push_array(line, ends, |out, end| value::push_signed(out, end - back_ms));
            }
            for (name, cell) in COLUMNS {
                push_name(line, name);
                json::push_array(line, start..end, |out, row| match cell(rows, row) {
                    None => out.extend_from_slice(b"null"),
                    Some(Cell::Whole(number)) => value::push_signed(out, number),
                    Some(Cell::Number(number)) => value::push_json(out, number),
                });
            }
            line.extend_from_slice(b"}\n");
            self.sink.write_all(line)?;
        }
        Ok(())
    }

    fn sink(&self) -> &ChunkSender {
        &self.sink
    }

    fn finish(self: Box<Self>) -> io::Result<ChunkSender> {
        Ok(self.sink)
    }
}

fn push_name(line: &mut Vec<u8>, name: &str) {
    line.push(b',');
    json::push_string(line, name);
    line.push(b':');
}

pub(super) struct Csv {
    sink: ChunkSender,
    labels: LabelCells,
    bucket_ms: i64,
    row: Vec<u8>,
}

impl Csv {
    pub(super) fn new(
        mut sink: ChunkSender,
        labels: &BTreeSet<String>,
        bucket_ms: i64,
    ) -> io::Result<Self> {
        let labels = LabelCells::new(labels);
        let names = COLUMNS.iter().map(|(name, _)| *name);
        sink.write_all(&labels.header([BUCKET_START, BUCKET_END].into_iter().chain(names)))?;
        Ok(Self { sink, labels, bucket_ms, row: Vec::new() })
    }
}

impl RowEncoder for Csv {
    fn push(
        &mut self,
        labels: &Labels,
        rows: &RollupColumns,
        range: Range<usize>,
    ) -> io::Result<()> {
        let series = self.labels.of(labels);
        for row in range {
            let out = &mut self.row;
            out.clear();
            out.extend_from_slice(series);
            for back_ms in [self.bucket_ms, 0] {
                out.push(b',');
                value::push_signed(out, rows.bucket_end[row] - back_ms);
            }
            for (_, cell) in COLUMNS {
                out.push(b',');
                match cell(rows, row) {
                    None => {}
                    Some(Cell::Whole(number)) => value::push_signed(out, number),
                    Some(Cell::Number(number)) => value::push_text(out, number),
                }
            }
            out.extend_from_slice(b"\r\n");
            self.sink.write_all(out)?;
        }
        Ok(())
    }

    fn sink(&self) -> &ChunkSender {
        &self.sink
    }

    fn finish(self: Box<Self>) -> io::Result<ChunkSender> {
        Ok(self.sink)
    }
}

/// The writer of the rollup directory's own files.
pub(super) struct Parquet {
    writer: RollupFileWriter<ChunkSender>,
    last: Option<Labels>,
    series: RollupColumns,
}

impl Parquet {
    pub(super) fn new(
        sink: ChunkSender,
        columns: &LabelColumns,
        bucket_ms: i64,
    ) -> io::Result<Self> {
        let writer = RollupFileWriter::new(sink, columns, bucket_ms, ROW_GROUP_ROWS)?;
        Ok(Self { writer, last: None, series: RollupColumns::default() })
    }
}

impl RowEncoder for Parquet {
    fn push(
        &mut self,
        labels: &Labels,
        rows: &RollupColumns,
        range: Range<usize>,
    ) -> io::Result<()> {
        // The next file begins with small labels again.
        if self.last.as_ref().is_some_and(|last| labels < last) {
            self.writer.cut()?;
        }
        self.last = Some(labels.clone());
        self.series.clear();
        self.series.extend_range(rows, range);
        Ok(self.writer.push(labels, &self.series)?)
    }

    fn sink(&self) -> &ChunkSender {
        self.writer.sink()
    }

    fn finish(self: Box<Self>) -> io::Result<ChunkSender> {
        let (sink, _) = self.writer.finish()?;
        Ok(sink)
    }
}

pub(super) struct Arrow {
    writer: StreamWriter<ChunkSender>,
    rows: RollupRows,
    series: RollupColumns,
}

impl Arrow {
    pub(super) fn new(
        sink: ChunkSender,
        columns: &LabelColumns,
        bucket_ms: i64,
    ) -> io::Result<Self> {
        let rows = RollupRows::new(columns, bucket_ms);
        let writer = StreamWriter::try_new(sink, &rows.schema()).map_err(io::Error::other)?;
        Ok(Self { writer, rows, series: RollupColumns::default() })
    }

    fn write(&mut self) -> io::Result<()> {
        if !self.rows.is_empty() {
            let batch = self.rows.take().map_err(io::Error::other)?;
            self.writer.write(&batch).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

impl RowEncoder for Arrow {
    fn push(
        &mut self,
        labels: &Labels,
        rows: &RollupColumns,
        range: Range<usize>,
    ) -> io::Result<()> {
        self.series.clear();
        self.series.extend_range(rows, range);
        self.rows.push(labels, &self.series);
        if self.rows.len() >= BATCH_ROWS { self.write() } else { Ok(()) }
    }

    fn sink(&self) -> &ChunkSender {
        self.writer.get_ref()
    }

    fn finish(mut self: Box<Self>) -> io::Result<ChunkSender> {
        self.write()?;
        self.writer.into_inner().map_err(io::Error::other)
    }
}
