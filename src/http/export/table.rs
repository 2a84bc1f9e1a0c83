//! Parquet files and Arrow streams of raw samples.
//!
//! Timestamps of scraped series are nearly regular, so their second differences are packed; values
//! are plain doubles under zstd, without a dictionary.

use std::io;

use arrow::ipc::writer::StreamWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use crate::columnar::parquet::LabelColumns;
use crate::columnar::parquet::columns::{TIMESTAMP, VALUE};
use crate::columnar::table::{LABELS_KEY, SampleTable, labels_json};
use crate::http::export::raw::Encoder;
use crate::http::export::stream::ChunkSender;
use crate::model::{Labels, Samples};

/// Rows of a Parquet row group: the unit of memory here, and of pruning for readers.
const ROW_GROUP_ROWS: usize = 512 << 10;
/// Rows of one batch in an Arrow stream.
const BATCH_ROWS: usize = 64 << 10;
const ZSTD_LEVEL: i32 = 3;

pub(super) struct Parquet {
    writer: ArrowWriter<ChunkSender>,
    table: SampleTable,
}

impl Parquet {
    pub(super) fn new(sink: ChunkSender, columns: &LabelColumns) -> io::Result<Self> {
        let table = SampleTable::new(columns);
        let properties = properties(columns)?;
        let writer = ArrowWriter::try_new(sink, table.schema(), Some(properties))?;
        Ok(Self { writer, table })
    }

    fn write(&mut self) -> io::Result<()> {
        if !self.table.is_empty() {
            let batch = self.table.take().map_err(io::Error::other)?;
            self.writer.write(&batch)?;
            self.writer.flush()?;
        }
        Ok(())
    }
}

impl Encoder for Parquet {
    fn push(&mut self, labels: &Labels, samples: &Samples) -> io::Result<()> {
        self.table.push(labels, samples);
        if self.table.len() >= ROW_GROUP_ROWS { self.write() } else { Ok(()) }
    }

    fn sink(&self) -> &ChunkSender {
        self.writer.inner()
    }

    fn finish(mut self: Box<Self>) -> io::Result<ChunkSender> {
        self.write()?;
        Ok(self.writer.into_inner()?)
    }
}

fn properties(columns: &LabelColumns) -> io::Result<WriterProperties> {
    let labels = KeyValue::new(LABELS_KEY.to_owned(), labels_json(columns));
    let (timestamp, value) = (ColumnPath::from(TIMESTAMP), ColumnPath::from(VALUE));
    Ok(WriterProperties::builder()
        .set_created_by(concat!("aetherdb ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS * 2))
        .set_key_value_metadata(Some(vec![labels]))
        .set_column_dictionary_enabled(timestamp.clone(), false)
        .set_column_encoding(timestamp, Encoding::DELTA_BINARY_PACKED)
        .set_column_dictionary_enabled(value.clone(), false)
        .set_column_encoding(value, Encoding::PLAIN)
        .build())
}

pub(super) struct Arrow {
    writer: StreamWriter<ChunkSender>,
    table: SampleTable,
}

impl Arrow {
    pub(super) fn new(sink: ChunkSender, columns: &LabelColumns) -> io::Result<Self> {
        let table = SampleTable::new(columns);
        let writer = StreamWriter::try_new(sink, &table.schema()).map_err(io::Error::other)?;
        Ok(Self { writer, table })
    }

    fn write(&mut self) -> io::Result<()> {
        if !self.table.is_empty() {
            let batch = self.table.take().map_err(io::Error::other)?;
            self.writer.write(&batch).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

impl Encoder for Arrow {
    fn push(&mut self, labels: &Labels, samples: &Samples) -> io::Result<()> {
        self.table.push(labels, samples);
        if self.table.len() >= BATCH_ROWS { self.write() } else { Ok(()) }
    }

    fn sink(&self) -> &ChunkSender {
        self.writer.get_ref()
    }

    fn finish(mut self: Box<Self>) -> io::Result<ChunkSender> {
        self.write()?;
        self.writer.into_inner().map_err(io::Error::other)
    }
}
