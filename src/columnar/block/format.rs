//! The bytes of a block file.
//!
//! ```text
//! header   64 B   magic "AETHBLCK", u32 version, u8 level, 3 × 0, i64 window start, i64 window
//!                 end, u64 first lsn, u64 last lsn, 12 × 0, u32 crc of the 60 bytes before
//! pages           in any order, without gaps; what they hold is told by the table
//! table    40 B   per page: u64 offset, u32 stored length, u32 raw length, u32 crc of the stored
//!                 bytes, u8 kind, u8 compression (0 none, 1 zstd), 2 × 0, u64 first, u32 count,
//!                 4 × 0
//! trailer  72 B   u64 table offset, u32 pages, u32 crc of the table, u64 series, u64 chunks,
//!                 u64 samples, i64 least timestamp, i64 greatest timestamp, u32 crc of the header,
//!                 u32 crc of the 60 bytes before, magic "KCLBHTEA"
//! ```
//!
//! Little-endian throughout; CRC-32 as in zlib. The pages, by kind, and their `first` / `count`:
//!
//! ```text
//! 1 T  distinct timestamp columns     number of the first column / columns
//!      column of counts, column of lengths, then the payloads (codec::timestamps)
//! 2 V  values                         offset of the page in the space of all raw V bytes / 0
//!      concatenated payloads of varying chunks (codec::values); none crosses a page
//! 3 D  directory of ≤ 1024 chunks     local number of the first chunk's series / chunks
//!      columns: series − series before, samples, T column (−1: the one timestamp stands here),
//!      start in the T column, jump of the V offset from the end of the payload before, length of
//!      the V payload (0: constant); then a stream of constants (varint of zz integer << 1, or 1
//!      and u64 bits) and a stream of single timestamps (zz varint differences)
//! 4 A  summaries of the varying chunks of the D page before
//!      see `summary`
//! 5 N  label names                    0 / names, "__name__" first, then ascending
//!      per name: varint length, bytes, varint count of its values
//! 6 L  values of one label, ascending number of the label << 32 | ordinal / values
//!      columns: bytes shared with the value before, length of the rest, series pages that hold
//!      the value; the column of those pages (differences); then the rests
//! 7 S  series of ≤ 1024 series        local number of the first / series
//!      varint labels; per label varint number, varint length; then per label a column of the
//!      series' ordinals + 1, 0 where the series has no such label
//! ```
//!
//! A "column" is one of `codec::integers`, its count known from context. The table's pages of one
//! kind ascend by `first`.
//!
//! A crash while a block is written leaves a file that no manifest names; it has no trailer either.

use crate::columnar::error::ColumnarError;
use crate::model::TimeRange;

/// The version this program writes.
pub(crate) const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"AETHBLCK";
const END_MAGIC: [u8; 8] = *b"KCLBHTEA";

pub(crate) const HEADER_LEN: usize = 64;
const HEADER_CRC_AT: usize = HEADER_LEN - 4;
pub(crate) const PAGE_ENTRY_LEN: usize = 40;
pub(crate) const TRAILER_LEN: usize = 72;
const TRAILER_CRC_AT: usize = TRAILER_LEN - 12;

const _: () = assert!(HEADER_CRC_AT == 8 + 4 + 4 + 4 * 8 + 12);
const _: () = assert!(TRAILER_CRC_AT == 8 + 4 + 4 + 5 * 8 + 4);
const _: () = assert!(PAGE_ENTRY_LEN == 8 + 3 * 4 + 2 + 2 + 8 + 4 + 4);

/// Most bytes of a page before compression, so that a page can always be held in memory.
pub(crate) const PAGE_RAW_BYTES_MAX: usize = 16 << 20;
/// Chunks in one directory page and series in one series page.
pub(crate) const PAGE_ROWS_MAX: usize = 1_024;

/// What is known of a block before its samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockHeader {
    /// How often it was compacted; 0 is fresh from memory.
    pub level: u8,
    /// The aligned window that all samples lie in.
    pub window: TimeRange,
    /// Log sequence numbers of the writes that it holds.
    pub lsn_first: u64,
    pub lsn_last: u64,
}

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSummary {
    pub header: BlockHeader,
    /// First and last sample; `None` if there are none.
    pub time_range: Option<TimeRange>,
    pub series: u64,
    pub chunks: u64,
    pub samples: u64,
    /// Length of the file.
    pub bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum PageKind {
    Times = 1,
    Values = 2,
    Directory = 3,
    Summaries = 4,
    Names = 5,
    Dictionary = 6,
    Series = 7,
}

impl PageKind {
    fn from_byte(byte: u8) -> Option<Self> {
        use PageKind::{Dictionary, Directory, Names, Series, Summaries, Times, Values};
        [Times, Values, Directory, Summaries, Names, Dictionary, Series]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// One page, as the table tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageEntry {
    pub(crate) offset: u64,
    pub(crate) stored_len: u32,
    pub(crate) raw_len: u32,
    pub(crate) crc: u32,
    pub(crate) kind: PageKind,
    pub(crate) compressed: bool,
    pub(crate) first: u64,
    pub(crate) count: u32,
}

/// The trailer beside what [`BlockSummary`] has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) offset: u64,
    pub(crate) pages: u32,
    pub(crate) crc: u32,
}

pub(crate) fn encode_header(header: &BlockHeader) -> [u8; HEADER_LEN] {
    let mut bytes = Vec::with_capacity(HEADER_LEN);
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend([header.level, 0, 0, 0]);
    bytes.extend(header.window.start().to_le_bytes());
    bytes.extend(header.window.end().to_le_bytes());
    bytes.extend(header.lsn_first.to_le_bytes());
    bytes.extend(header.lsn_last.to_le_bytes());
    bytes.resize(HEADER_CRC_AT, 0);
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes.try_into().expect("the fields add up to the header's length")
}

pub(crate) fn decode_header(bytes: &[u8]) -> Result<BlockHeader, ColumnarError> {
    let corrupt = |reason: &str| ColumnarError::corrupt(0, format!("block header: {reason}"));
    if bytes.len() != HEADER_LEN || bytes[..8] != MAGIC {
        return Err(corrupt("not a block file"));
    }
    let mut fields = Fields(&bytes[8..]);
    let found = fields.u32();
    let level = fields.u32();
    let (start, end) = (fields.i64(), fields.i64());
    let (lsn_first, lsn_last) = (fields.u64(), fields.u64());
    if crc32fast::hash(&bytes[..HEADER_CRC_AT]) != Fields(&bytes[HEADER_CRC_AT..]).u32() {
        return Err(corrupt("checksum does not match"));
    }
    if found != VERSION {
        return Err(ColumnarError::UnknownVersion { found, known: VERSION });
    }
    let level = u8::try_from(level).map_err(|_| corrupt("unknown flags"))?;
    let window =
        TimeRange::new(start, end).ok_or_else(|| corrupt("window ends before it starts"))?;
    Ok(BlockHeader { level, window, lsn_first, lsn_last })
}

pub(crate) fn encode_table(pages: &[PageEntry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(pages.len() * PAGE_ENTRY_LEN);
    for page in pages {
        bytes.extend(page.offset.to_le_bytes());
        bytes.extend(page.stored_len.to_le_bytes());
        bytes.extend(page.raw_len.to_le_bytes());
        bytes.extend(page.crc.to_le_bytes());
        bytes.extend([page.kind as u8, u8::from(page.compressed), 0, 0]);
        bytes.extend(page.first.to_le_bytes());
        bytes.extend(page.count.to_le_bytes());
        bytes.extend([0; 4]);
    }
    bytes
}

/// `bytes` must have passed its checksum; what it says is still checked.
pub(crate) fn decode_table(table: &Table, bytes: &[u8]) -> Result<Vec<PageEntry>, ColumnarError> {
    let corrupt = |index: usize, reason: &str| {
        let offset = table.offset + (index * PAGE_ENTRY_LEN) as u64;
        ColumnarError::corrupt(offset, format!("page table: {reason}"))
    };
    let mut pages = Vec::with_capacity(bytes.len() / PAGE_ENTRY_LEN);
    let mut end = HEADER_LEN as u64;
    for (index, entry) in bytes.chunks_exact(PAGE_ENTRY_LEN).enumerate() {
        let mut fields = Fields(entry);
        let offset = fields.u64();
        let (stored_len, raw_len, crc) = (fields.u32(), fields.u32(), fields.u32());
        let [kind, compression, zero_a, zero_b] = fields.u32().to_le_bytes();
        let (first, count, zeros) = (fields.u64(), fields.u32(), fields.u32());
        let kind = PageKind::from_byte(kind).ok_or_else(|| corrupt(index, "unknown kind"))?;
        if compression > 1 || (zero_a, zero_b, zeros) != (0, 0, 0) {
            return Err(corrupt(index, "unknown flags"));
        }
        let compressed = compression == 1;
        if raw_len as usize > PAGE_RAW_BYTES_MAX || (!compressed && stored_len != raw_len) {
            return Err(corrupt(index, "impossible length"));
        }
        if offset != end {
            return Err(corrupt(index, "pages do not follow each other"));
        }
        end += u64::from(stored_len);
        pages.push(PageEntry { offset, stored_len, raw_len, crc, kind, compressed, first, count });
    }
    if end != table.offset {
        return Err(corrupt(0, "pages do not reach the table"));
    }
    Ok(pages)
}

pub(crate) fn encode_trailer(summary: &BlockSummary, table: &Table) -> [u8; TRAILER_LEN] {
    let header = encode_header(&summary.header);
    let (least, greatest) =
        summary.time_range.map_or((i64::MAX, i64::MIN), |range| (range.start(), range.end()));
    let mut bytes = Vec::with_capacity(TRAILER_LEN);
    bytes.extend(table.offset.to_le_bytes());
    bytes.extend(table.pages.to_le_bytes());
    bytes.extend(table.crc.to_le_bytes());
    bytes.extend(summary.series.to_le_bytes());
    bytes.extend(summary.chunks.to_le_bytes());
    bytes.extend(summary.samples.to_le_bytes());
    bytes.extend(least.to_le_bytes());
    bytes.extend(greatest.to_le_bytes());
    bytes.extend(&header[HEADER_CRC_AT..]);
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes.extend(END_MAGIC);
    bytes.try_into().expect("the fields add up to the trailer's length")
}

/// `bytes` are the file's last, `len` its length.
pub(crate) fn decode_trailer(
    header: BlockHeader,
    bytes: &[u8],
    len: u64,
) -> Result<(BlockSummary, Table), ColumnarError> {
    let at = len - TRAILER_LEN as u64;
    let corrupt = |reason: &str| ColumnarError::corrupt(at, format!("block trailer: {reason}"));
    if bytes.len() != TRAILER_LEN || bytes[TRAILER_CRC_AT + 4..] != END_MAGIC {
        return Err(corrupt("not there; the file is cut off or no block"));
    }
    if crc32fast::hash(&bytes[..TRAILER_CRC_AT]) != Fields(&bytes[TRAILER_CRC_AT..]).u32() {
        return Err(corrupt("checksum does not match"));
    }
    let mut fields = Fields(bytes);
    let table = Table { offset: fields.u64(), pages: fields.u32(), crc: fields.u32() };
    let (series, chunks, samples) = (fields.u64(), fields.u64(), fields.u64());
    let time_range = TimeRange::new(fields.i64(), fields.i64());
    if encode_header(&header)[HEADER_CRC_AT..] != bytes[TRAILER_CRC_AT - 4..TRAILER_CRC_AT] {
        return Err(corrupt("belongs to another header"));
    }
    let table_len = u64::from(table.pages) * PAGE_ENTRY_LEN as u64;
    if table.offset < HEADER_LEN as u64 || table.offset.checked_add(table_len) != Some(at) {
        return Err(corrupt("page table is misplaced"));
    }
    if series > u64::from(u32::MAX) || time_range.is_none() != (samples == 0) {
        return Err(corrupt("impossible counts"));
    }
    Ok((BlockSummary { header, time_range, series, chunks, samples, bytes: len }, table))
}

/// Reads fixed-width fields; the caller has checked that they are there.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (now, later) = self.0.split_first_chunk::<N>().expect("lengths are checked before");
        self.0 = later;
        *now
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn i64(&mut self) -> i64 {
        i64::from_le_bytes(self.take())
    }
}
