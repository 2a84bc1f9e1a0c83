//! Writes a column of texts as a Parquet column chunk, run by run.
//!
//! A series has one text for all its rows. The Parquet crate's own writer takes texts row by row:
//! it hashes, looks up and compares each, which was a third of the cost of a rollup file. Here the
//! dictionary is known before, and a run costs the same however long it is.
//!
//! The chunk is what that writer makes: a dictionary page, then data pages of version 1, with
//! statistics and both indexes.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{AsArray, DictionaryArray};
use arrow::datatypes::Int32Type;
use bytes::Bytes;
use parquet::basic::{BoundaryOrder, Compression, Encoding, Type, ZstdLevel};
use parquet::column::page::{CompressedPage, Page, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::ByteArray;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder};
use parquet::file::statistics::{Statistics, ValueStatistics};
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

/// Rows with one text: its key, or `None` where the series has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    key: Option<u32>,
    rows: usize,
}

/// A finished column chunk, and what the file's footer says of it.
pub(crate) fn text_chunk(
    column: &DictionaryArray<Int32Type>,
    description: &ColumnDescPtr,
    page_rows: usize,
    zstd: ZstdLevel,
) -> Result<(Bytes, ColumnCloseResult)> {
    let texts: Vec<&str> = column.values().as_string::<i32>().iter().flatten().collect();
    let mut chunk = Chunk {
        sink: TrackedWrite::new(Vec::new()),
        zstd: zstd::bulk::Compressor::new(zstd.compression_level())?,
        uncompressed: 0,
    };
    chunk.dictionary(&texts)?;
    let data_page_offset = chunk.sink.bytes_written();

    let mut runs = runs(column);
    let (mut index, mut offsets) =
        (ColumnIndexBuilder::new(Type::BYTE_ARRAY), OffsetIndexBuilder::new());
    let (mut bounds, mut last) = (Bounds::default(), None);
    let mut order = Order::default();
    while let Some(page) = take_rows(&mut runs, page_rows) {
        let of_page = Bounds::of(&page, &texts);
        let offset = chunk.sink.bytes_written();
        let rows = chunk.data(&page, texts.len(), description.max_def_level() > 0)?;
        let bytes = chunk.sink.bytes_written() - offset;
        offsets.append_row_count(i64::try_from(rows).unwrap_or(i64::MAX));
        offsets.append_offset_and_size(length(offset)?, i32::try_from(bytes).map_err(too_long)?);
        let (min, max) = of_page.texts.unwrap_or_default();
        index.append(of_page.texts.is_none(), min.into(), max.into(), length(of_page.nulls)?);
        if of_page.texts.is_some() {
            order.add(last.replace((min, max)), (min, max));
        }
        bounds.add(of_page);
    }
    index.set_boundary_order(order.get());

    let bytes = Bytes::from(chunk.sink.into_inner()?);
    let text = |text: &str| ByteArray::from(text);
    let (min, max) = bounds.texts.unzip();
    let nulls = Some(bounds.nulls as u64);
    let statistics = ValueStatistics::new(min.map(text), max.map(text), None, nulls, false);
    let metadata = ColumnChunkMetaData::builder(Arc::clone(description))
        .set_compression(Compression::ZSTD(zstd))
        .set_encodings(vec![Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY])
        .set_num_values(length(column.len())?)
        .set_total_compressed_size(length(bytes.len())?)
        .set_total_uncompressed_size(length(chunk.uncompressed)?)
        .set_dictionary_page_offset(Some(0))
        .set_data_page_offset(length(data_page_offset)?)
        .set_statistics(Statistics::ByteArray(statistics))
        .build()?;
    let close = ColumnCloseResult {
        bytes_written: bytes.len() as u64,
        rows_written: column.len() as u64,
        metadata,
        bloom_filter: None,
        column_index: Some(index.build()?),
        offset_index: Some(offsets.build()),
    };
    Ok((bytes, close))
}

/// The column's runs, last one first.
fn runs(column: &DictionaryArray<Int32Type>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for row in 0..column.len() {
        let key = column.key(row).and_then(|key| u32::try_from(key).ok());
        match runs.last_mut() {
            Some(run) if run.key == key => run.rows += 1,
            _ => runs.push(Run { key, rows: 1 }),
        }
    }
    runs.reverse();
    runs
}

/// Takes the runs of the next `limit` rows; `None` at the end.
fn take_rows(runs: &mut Vec<Run>, limit: usize) -> Option<Vec<Run>> {
    let (mut page, mut room) = (Vec::new(), limit);
    while room > 0
        && let Some(run) = runs.last_mut()
    {
        let rows = run.rows.min(room);
        page.push(Run { rows, ..*run });
        room -= rows;
        run.rows -= rows;
        if run.rows == 0 {
            runs.pop();
        }
    }
    (!page.is_empty()).then_some(page)
}

/// The pages of a chunk.
struct Chunk {
    sink: TrackedWrite<Vec<u8>>,
    zstd: zstd::bulk::Compressor<'static>,
    uncompressed: usize,
}

impl Chunk {
    fn dictionary(&mut self, texts: &[&str]) -> Result<()> {
        let mut plain = Vec::new();
        for text in texts {
            plain.extend_from_slice(&u32::try_from(text.len()).map_err(too_long)?.to_le_bytes());
            plain.extend_from_slice(text.as_bytes());
        }
        let num_values = u32::try_from(texts.len()).map_err(too_long)?;
        let page = |buf| Page::DictionaryPage {
            buf,
            num_values,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        };
        self.write(&plain, page)
    }

    /// Returns the page's rows.
    fn data(&mut self, page: &[Run], texts: usize, nullable: bool) -> Result<usize> {
        let rows: usize = page.iter().map(|run| run.rows).sum();
        let mut plain = Vec::new();
        if nullable {
            let mut levels = Hybrid::new(1);
            page.iter().for_each(|run| levels.push(u32::from(run.key.is_some()), run.rows));
            let levels = levels.finish();
            plain.extend_from_slice(&u32::try_from(levels.len()).map_err(too_long)?.to_le_bytes());
            plain.extend_from_slice(&levels);
        }
        let bits = texts.saturating_sub(1).checked_ilog2().map_or(1, |bits| bits + 1);
        let mut keys = Hybrid::new(bits);
        page.iter().for_each(|run| run.key.into_iter().for_each(|key| keys.push(key, run.rows)));
        plain.push(u8::try_from(bits).map_err(too_long)?);
        plain.extend_from_slice(&keys.finish());
        let num_values = u32::try_from(rows).map_err(too_long)?;
        let page = |buf| Page::DataPage {
            buf,
            num_values,
            encoding: Encoding::RLE_DICTIONARY,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        self.write(&plain, page)?;
        Ok(rows)
    }

    fn write(&mut self, plain: &[u8], page: impl FnOnce(Bytes) -> Page) -> Result<()> {
        let packed = Bytes::from(self.zstd.compress(plain)?);
        let page = CompressedPage::new(page(packed), plain.len());
        let written = SerializedPageWriter::new(&mut self.sink).write_page(page)?;
        self.uncompressed += written.uncompressed_size;
        Ok(())
    }
}

/// Parquet's hybrid of run length and bit packing: groups of eight that are not one run are
/// packed.
struct Hybrid {
    bits: u32,
    out: Vec<u8>,
    /// Values that wait to be packed.
    mixed: Vec<u32>,
}

/// Values of a packed group.
const GROUP: usize = 8;

impl Hybrid {
    fn new(bits: u32) -> Self {
        Self { bits, out: Vec::new(), mixed: Vec::new() }
    }

    fn push(&mut self, value: u32, mut count: usize) {
        // Packed values come in whole groups.
        let fill = (GROUP - self.mixed.len() % GROUP) % GROUP;
        let fill = fill.min(count);
        self.mixed.extend(std::iter::repeat_n(value, fill));
        count -= fill;
        if count >= GROUP {
            self.pack();
            self.varint(count << 1);
            let bytes = value.to_le_bytes();
            self.out.extend_from_slice(&bytes[..self.bits.div_ceil(8) as usize]);
        } else {
            self.mixed.extend(std::iter::repeat_n(value, count));
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.pack();
        self.out
    }

    fn pack(&mut self) {
        if self.mixed.is_empty() {
            return;
        }
        self.mixed.resize(self.mixed.len().next_multiple_of(GROUP), 0);
        self.varint((self.mixed.len() / GROUP) << 1 | 1);
        let (mut word, mut held) = (0u64, 0);
        for value in self.mixed.drain(..) {
            word |= u64::from(value) << held;
            held += self.bits;
            while held >= 8 {
                self.out.push(word.to_le_bytes()[0]);
                word >>= 8;
                held -= 8;
            }
        }
    }

    fn varint(&mut self, value: usize) {
        let mut value = value as u64;
        while value >= 0x80 {
            self.out.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.out.push(value.to_le_bytes()[0]);
    }
}

/// Least and greatest text of some rows, and how many have none.
#[derive(Debug, Default, Clone, Copy)]
struct Bounds<'a> {
    texts: Option<(&'a str, &'a str)>,
    nulls: usize,
}

impl<'a> Bounds<'a> {
    fn of(page: &[Run], texts: &[&'a str]) -> Self {
        let mut bounds = Self::default();
        for run in page {
            match run.key.and_then(|key| texts.get(key as usize)) {
                Some(text) => bounds.add(Self { texts: Some((text, text)), nulls: 0 }),
                None => bounds.nulls += run.rows,
            }
        }
        bounds
    }

    fn add(&mut self, other: Self) {
        self.nulls += other.nulls;
        self.texts = match (self.texts, other.texts) {
            (Some(known), Some(new)) => Some((known.0.min(new.0), known.1.max(new.1))),
            (known, new) => known.or(new),
        };
    }
}

/// Whether the bounds of pages ascend or descend.
#[derive(Debug, Default)]
struct Order {
    rises: bool,
    falls: bool,
}

impl Order {
    fn add(&mut self, last: Option<(&str, &str)>, next: (&str, &str)) {
        let Some(last) = last else { return };
        for step in [next.0.cmp(last.0), next.1.cmp(last.1)] {
            self.rises |= step == Ordering::Greater;
            self.falls |= step == Ordering::Less;
        }
    }

    fn get(&self) -> BoundaryOrder {
        match (self.rises, self.falls) {
            (_, false) => BoundaryOrder::ASCENDING,
            (false, true) => BoundaryOrder::DESCENDING,
            (true, true) => BoundaryOrder::UNORDERED,
        }
    }
}

fn length(count: usize) -> Result<i64> {
    i64::try_from(count).map_err(too_long)
}

fn too_long(error: std::num::TryFromIntError) -> ParquetError {
    ParquetError::External(Box::new(error))
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use proptest::prelude::*;

    use super::*;

    /// The column in a file of its own, read back as plain texts.
    fn round_trip(rows: &[Option<u8>], page_rows: usize) -> (Vec<Option<String>>, usize) {
        let column: DictionaryArray<Int32Type> = rows
            .iter()
            .map(|row| row.map(|row| format!("text {row}")))
            .collect::<Vec<_>>()
            .iter()
            .map(|row| row.as_deref())
            .collect();
        let kind = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let schema = Arc::new(Schema::new(vec![Field::new("c", kind, true)]));
        let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(&schema), None).unwrap();
        let (mut file, _) = writer.into_serialized_writer().unwrap();
        let description = file.schema_descr().column(0);
        let zstd = ZstdLevel::try_new(1).unwrap();
        let (bytes, close) = text_chunk(&column, &description, page_rows, zstd).unwrap();
        let pages = close.offset_index.as_ref().map_or(0, |index| index.page_locations.len());
        let mut group = file.next_row_group().unwrap();
        group.append_column(&bytes, close).unwrap();
        group.close().unwrap();
        let bytes = Bytes::from(file.into_inner().unwrap());
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap();
        let mut found = Vec::new();
        for batch in reader.map(|batch: std::result::Result<RecordBatch, _>| batch.unwrap()) {
            let texts: ArrayRef = arrow::compute::cast(batch.column(0), &DataType::Utf8).unwrap();
            let texts: &StringArray = texts.as_string();
            found.extend(texts.iter().map(|text| text.map(str::to_owned)));
        }
        (found, pages)
    }

    #[test]
    fn pages_and_statistics_say_what_is_there() {
        let rows: Vec<Option<u8>> = (0..1000u32)
            .map(|row| (row >= 300).then(|| u8::try_from(row / 100).unwrap()))
            .collect();
        let (found, pages) = round_trip(&rows, 250);
        assert_eq!(found.len(), 1000);
        assert_eq!((found[299].clone(), found[300].clone()), (None, Some("text 3".to_owned())));
        assert_eq!(pages, 4);
    }

    proptest! {
        #[test]
        fn texts_come_back(
            runs in prop::collection::vec((prop::option::of(0u8..40), 1usize..30), 0..60),
            page_rows in 1usize..200,
        ) {
            let rows: Vec<Option<u8>> =
                runs.iter().flat_map(|(text, rows)| std::iter::repeat_n(*text, *rows)).collect();
            let wanted: Vec<Option<String>> =
                rows.iter().map(|row| row.map(|row| format!("text {row}"))).collect();
            prop_assert_eq!(round_trip(&rows, page_rows).0, wanted);
        }
    }
}
