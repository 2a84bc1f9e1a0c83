//! How each column of a rollup file is encoded: by what it is, and values by how they look.
//!
//! The Parquet crate takes one set of properties a file; here each column chunk has its own. A
//! factory of column writers is made from each set, and the chunks are put into one file.
//!
//! Invariant: every encoding is one that DuckDB, Polars, pyarrow and Spark read.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int32Type, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::{ParquetError, Result};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;

use crate::columnar::parquet::texts::text_chunk;

/// Rows of a page of texts, times and counts. They are small, and the larger the page, the oftener
/// zstd finds what it saw before: series of one target share their times.
const SMALL_PAGE_ROWS: usize = 32 * 1024;
/// Rows of a page of values: the least that is unpacked of them.
const VALUE_PAGE_ROWS: usize = 16 * 1024;
const TEXT_ZSTD_LEVEL: i32 = 1;
/// Of so many rows one is looked at.
const LOOK_EVERY_ROWS: usize = 8;
/// Values whose last three bytes are zero: whole numbers, halves, quarters.
const NARROW_ZERO_BITS: u32 = 24;

/// How a column of numbers is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// Small differences.
    Steps,
    /// Eight bytes a value. zstd finds those that come again.
    Wide,
    /// The first bytes of all values, then their second, and so on: bytes that are always zero
    /// cost nothing.
    Narrow,
}

impl Shape {
    const ALL: [Self; 3] = [Self::Steps, Self::Wide, Self::Narrow];

    fn of(column: &ArrayRef) -> Self {
        match column.as_primitive_opt::<Float64Type>() {
            Some(values) => of_values(values.values()),
            None => Self::Steps,
        }
    }

    fn suits(self, kind: &DataType) -> bool {
        match self {
            Self::Steps => matches!(kind, DataType::Timestamp(..) | DataType::Int64),
            Self::Wide | Self::Narrow => matches!(kind, DataType::Float64),
        }
    }

    /// How columns of this shape are written; others of the same schema are none of its business.
    fn properties(self, schema: &SchemaRef) -> Result<WriterProperties> {
        let (encoding, page_rows, zstd_level, statistics) = match self {
            Self::Steps => {
                (Encoding::DELTA_BINARY_PACKED, SMALL_PAGE_ROWS, 1, EnabledStatistics::Page)
            }
            Self::Wide => (Encoding::PLAIN, VALUE_PAGE_ROWS, 1, EnabledStatistics::Chunk),
            Self::Narrow => {
                (Encoding::BYTE_STREAM_SPLIT, VALUE_PAGE_ROWS, 3, EnabledStatistics::Chunk)
            }
        };
        let mut builder = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(zstd_level)?))
            .set_data_page_row_count_limit(page_rows)
            .set_statistics_enabled(statistics)
            .set_dictionary_enabled(false);
        for field in schema.fields().iter().filter(|field| self.suits(field.data_type())) {
            let column = ColumnPath::from(field.name().as_str());
            builder = builder.set_column_encoding(column, encoding);
        }
        Ok(builder.build())
    }
}

/// [`Shape::Narrow`] unless one in eight of the values that differ from the one before needs more
/// than five bytes. What comes again is as good as free either way.
fn of_values(values: &[f64]) -> Shape {
    let (mut changed, mut narrow) = (0usize, 0usize);
    for pair in values.windows(2).step_by(LOOK_EVERY_ROWS) {
        if pair[0].to_bits() != pair[1].to_bits() {
            changed += 1;
            narrow += usize::from(pair[1].to_bits().trailing_zeros() >= NARROW_ZERO_BITS);
        }
    }
    if narrow * 8 >= changed * 7 { Shape::Narrow } else { Shape::Wide }
}

/// Writes column chunks.
pub(crate) struct Encoders {
    schema: SchemaRef,
    text_level: ZstdLevel,
    /// In order of [`Shape::ALL`].
    factories: Vec<ArrowRowGroupWriterFactory>,
}

impl Encoders {
    pub(crate) fn new(schema: SchemaRef) -> Result<Self> {
        let factory = |shape: Shape| {
            let properties = shape.properties(&schema)?;
            let writer = ArrowWriter::try_new(io::sink(), Arc::clone(&schema), Some(properties))?;
            let (_, factory) = writer.into_serialized_writer()?;
            Ok(factory)
        };
        let factories = Shape::ALL.into_iter().map(factory).collect::<Result<_>>()?;
        Ok(Self { schema, text_level: ZstdLevel::try_new(TEXT_ZSTD_LEVEL)?, factories })
    }

    /// Writes all columns of a row group.
    pub(crate) fn write<W: Write + Send>(
        &self,
        batch: &RecordBatch,
        file: &mut SerializedFileWriter<W>,
    ) -> Result<()> {
        let descriptions = file.schema_descr().columns().to_vec();
        let number = file.flushed_row_groups().len();
        let mut writers = Vec::with_capacity(self.factories.len());
        for factory in &self.factories {
            writers.push(factory.create_column_writers(number)?.into_iter());
        }
        let mut group = file.next_row_group()?;
        let columns = self.schema.fields().iter().zip(batch.columns()).zip(&descriptions);
        for ((field, array), description) in columns {
            let of_column = writers.iter_mut().map(Iterator::next).collect::<Vec<_>>();
            if let Some(texts) = array.as_dictionary_opt::<Int32Type>() {
                let (bytes, close) =
                    text_chunk(texts, description, SMALL_PAGE_ROWS, self.text_level)?;
                group.append_column(&bytes, close)?;
                continue;
            }
            let shape = Shape::of(array);
            let of_shape = Shape::ALL.into_iter().zip(of_column).find(|(of, _)| *of == shape);
            let Some((_, Some(mut writer))) = of_shape else {
                return Err(ParquetError::General(format!("no writer for {}", field.name())));
            };
            for leaf in compute_leaves(field, array)? {
                writer.write(&leaf)?;
            }
            writer.close()?.append_to_row_group(&mut group)?;
        }
        group.close()?;
        Ok(())
    }
}
