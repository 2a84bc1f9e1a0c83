//! Rows as bytes, batch by batch.
//!
//! Times are RFC 3339 in UTC. JSON knows no NaN and no infinity: both are null there, and `NaN`,
//! `inf`, `-inf` in CSV. An absent value is null, in CSV an empty field.

use std::io::Write;
use std::mem;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json::writer::{JsonArray, LineDelimited, WriterBuilder};
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use parquet::basic::ZstdLevel;
use parquet::file::properties::WriterProperties;

use crate::http::json;
use crate::http::sql::format::RowFormat;

/// Rows of a row group, which is held in memory while it is written.
const PARQUET_ROWS: usize = 128 * 1024;
const PARQUET_ZSTD_LEVEL: i32 = 1;

/// Writes rows in one format. What was written so far is taken after each batch.
pub(super) struct RowEncoder {
    schema: SchemaRef,
    writer: Writer,
    /// Whether what is said of the rows stands around them.
    wrapped: bool,
}

enum Writer {
    Json(arrow::json::Writer<Sink, JsonArray>),
    JsonLines(arrow::json::Writer<Sink, LineDelimited>),
    /// Its writer keeps no state between batches.
    Csv(Sink),
    Arrow(StreamWriter<Sink>),
    Parquet(ArrowWriter<Sink>),
}

impl RowEncoder {
    pub(super) fn new(
        format: RowFormat,
        schema: &SchemaRef,
        gzip: bool,
        stats: bool,
    ) -> Result<Self, ArrowError> {
        let schema = sent_schema(format, schema);
        let mut sink = Sink::new(gzip);
        let wrapped = stats && format == RowFormat::Json;
        if wrapped {
            sink.write_all(br#"{"data":"#)?;
        }
        let json = || WriterBuilder::new().with_explicit_nulls(true);
        let writer = match format {
            RowFormat::Json => Writer::Json(json().build(sink)),
            RowFormat::JsonLines => Writer::JsonLines(json().build(sink)),
            RowFormat::Csv => {
                // The header is written here, for there may be no batch.
                let header = arrow::csv::WriterBuilder::new().with_header(true);
                header.build(&mut sink).write(&RecordBatch::new_empty(Arc::clone(&schema)))?;
                Writer::Csv(sink)
            }
            RowFormat::Arrow => Writer::Arrow(StreamWriter::try_new(sink, &schema)?),
            RowFormat::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(parquet::basic::Compression::ZSTD(ZstdLevel::try_new(
                        PARQUET_ZSTD_LEVEL,
                    )?))
                    .set_max_row_group_row_count(Some(PARQUET_ROWS))
                    .build();
                let schema = Arc::clone(&schema);
                Writer::Parquet(ArrowWriter::try_new(sink, schema, Some(properties))?)
            }
        };
        Ok(Self { schema, writer, wrapped })
    }

    /// Appends rows; gives the bytes that are ready.
    pub(super) fn push(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        let rows = &self.sent(rows)?;
        match &mut self.writer {
            Writer::Json(writer) => {
                writer.write(rows)?;
                Ok(writer.get_mut().take())
            }
            Writer::JsonLines(writer) => {
                writer.write(rows)?;
                Ok(writer.get_mut().take())
            }
            Writer::Csv(sink) => {
                let lines = arrow::csv::WriterBuilder::new().with_header(false);
                lines.build(&mut *sink).write(rows)?;
                Ok(sink.take())
            }
            Writer::Arrow(writer) => {
                writer.write(rows)?;
                Ok(writer.get_mut().take())
            }
            Writer::Parquet(writer) => {
                writer.write(rows)?;
                Ok(writer.inner_mut().take())
            }
        }
    }

    /// The rest; `stats` is JSON.
    pub(super) fn finish(self, stats: &[u8]) -> Result<Vec<u8>, ArrowError> {
        let mut sink = match self.writer {
            Writer::Json(mut writer) => {
                writer.finish()?;
                writer.into_inner()
            }
            Writer::JsonLines(mut writer) => {
                writer.finish()?;
                writer.into_inner()
            }
            Writer::Csv(sink) => sink,
            Writer::Arrow(mut writer) => {
                writer.finish()?;
                writer.into_inner()?
            }
            Writer::Parquet(writer) => writer.into_inner()?,
        };
        if self.wrapped {
            sink.write_all(br#","stats":"#)?;
            sink.write_all(stats)?;
            sink.write_all(b"}")?;
        }
        Ok(sink.finish()?)
    }

    /// The rows with the types that are sent.
    fn sent(&self, rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        if rows.schema_ref() == &self.schema {
            return Ok(rows.clone());
        }
        let columns = rows.columns().iter().zip(self.schema.fields());
        let columns = columns
            .map(|(column, field)| match (column.data_type(), field.data_type()) {
                (from, to) if from == to => Ok(Arc::clone(column)),
                (DataType::Map(..), _) => Ok(maps_as_text(column)),
                (_, to) => cast(column, to),
            })
            .collect::<Result<_, _>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns)
    }
}

/// Views of text are new to many readers of Arrow, and CSV has no maps.
fn sent_schema(format: RowFormat, schema: &SchemaRef) -> SchemaRef {
    let sent = |field: &Arc<Field>| match (format, field.data_type()) {
        (RowFormat::Arrow, DataType::Utf8View) | (RowFormat::Csv, DataType::Map(..)) => {
            Arc::new(field.as_ref().clone().with_data_type(DataType::Utf8))
        }
        _ => Arc::clone(field),
    };
    let fields: Vec<_> = schema.fields().iter().map(sent).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// Maps of text as JSON objects.
fn maps_as_text(column: &ArrayRef) -> ArrayRef {
    let maps = column.as_map();
    let keys = cast(maps.keys(), &DataType::Utf8).ok();
    let values = cast(maps.values(), &DataType::Utf8).ok();
    let mut out = StringBuilder::new();
    let mut object = Vec::new();
    for row in 0..maps.len() {
        let (Some(keys), Some(values), true) = (&keys, &values, maps.is_valid(row)) else {
            out.append_null();
            continue;
        };
        let (keys, values) = (keys.as_string::<i32>(), values.as_string::<i32>());
        let offsets = maps.value_offsets();
        let entry = |at: &i32| usize::try_from(*at).expect("offsets are not negative");
        object.clear();
        object.push(b'{');
        for at in entry(&offsets[row])..entry(&offsets[row + 1]) {
            if object.len() > 1 {
                object.push(b',');
            }
            json::push_string(&mut object, keys.value(at));
            object.push(b':');
            json::push_string(&mut object, values.value(at));
        }
        object.push(b'}');
        out.append_value(std::str::from_utf8(&object).expect("JSON of text is text"));
    }
    Arc::new(out.finish())
}

/// Memory that the writers write to, compressed on the way if the client takes that.
enum Sink {
    Plain(Vec<u8>),
    Gzip(Box<GzEncoder<Vec<u8>>>),
}

impl Sink {
    fn new(gzip: bool) -> Self {
        if gzip {
            Self::Gzip(Box::new(GzEncoder::new(Vec::new(), Compression::fast())))
        } else {
            Self::Plain(Vec::new())
        }
    }

    fn take(&mut self) -> Vec<u8> {
        match self {
            Sink::Plain(bytes) => mem::take(bytes),
            Sink::Gzip(encoder) => mem::take(encoder.get_mut()),
        }
    }

    fn finish(self) -> std::io::Result<Vec<u8>> {
        match self {
            Sink::Plain(bytes) => Ok(bytes),
            Sink::Gzip(encoder) => encoder.finish(),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Sink::Plain(out) => out.write(bytes),
            Sink::Gzip(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
