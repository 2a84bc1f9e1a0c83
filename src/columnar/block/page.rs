//! Pages between memory and file: compressed if that pays, checksummed, listed in the table.

use std::cell::RefCell;
use std::fmt::Debug;
use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;

use crate::columnar::block::format::{PAGE_RAW_BYTES_MAX, PageEntry, PageKind};
use crate::columnar::error::ColumnarError;

const ZSTD_LEVEL: i32 = 3;
/// A compressed page stays only if it is this much smaller; else decoding would pay for nothing.
const SAVING_MIN_PERCENT: usize = 3;
/// Shorter pages are not worth the attempt.
const COMPRESS_BYTES_MIN: usize = 64;

/// Where a block's bytes are read from: a file, or memory.
pub trait BlockSource: Send + Sync + Debug {
    fn len(&self) -> u64;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Exactly `len` bytes at `offset`, or an error.
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes>;
}

/// A whole block in memory.
impl BlockSource for Bytes {
    fn len(&self) -> u64 {
        Bytes::len(self) as u64
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let start = usize::try_from(offset).ok();
        let end = start
            .and_then(|start| start.checked_add(len))
            .filter(|end| *end <= self.as_ref().len());
        match (start, end) {
            (Some(start), Some(end)) => Ok(self.slice(start..end)),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Whether a page's bytes are worth a compressor's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compress {
    Try,
    Never,
}

/// Writes pages one behind the other.
pub(crate) struct PageWriter<W> {
    out: W,
    offset: u64,
    pages: Vec<PageEntry>,
    compressor: zstd::bulk::Compressor<'static>,
    compressed: Vec<u8>,
}

impl<W: Write> PageWriter<W> {
    pub(crate) fn new(out: W) -> Result<Self, ColumnarError> {
        let compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(ColumnarError::Write)?;
        Ok(Self { out, offset: 0, pages: Vec::new(), compressor, compressed: Vec::new() })
    }

    /// Bytes that are no page: header, table, trailer.
    pub(crate) fn write_plain(&mut self, bytes: &[u8]) -> Result<(), ColumnarError> {
        self.offset += bytes.len() as u64;
        self.out.write_all(bytes).map_err(ColumnarError::Write)
    }

    pub(crate) fn write(
        &mut self,
        kind: PageKind,
        raw: &[u8],
        (first, count): (u64, usize),
        compress: Compress,
    ) -> Result<(), ColumnarError> {
        let raw_len = u32::try_from(raw.len())
            .ok()
            .filter(|_| raw.len() <= PAGE_RAW_BYTES_MAX)
            .ok_or_else(|| ColumnarError::InvalidBatch(format!("page of {} bytes", raw.len())))?;
        let compressed = compress == Compress::Try && self.compress(raw)?;
        let stored = if compressed { &self.compressed[..] } else { raw };
        self.pages.push(PageEntry {
            offset: self.offset,
            stored_len: u32::try_from(stored.len()).expect("compressed pages are shorter"),
            raw_len,
            crc: crc32fast::hash(stored),
            kind,
            compressed,
            first,
            count: u32::try_from(count).expect("pages hold few rows"),
        });
        self.offset += stored.len() as u64;
        self.out.write_all(stored).map_err(ColumnarError::Write)
    }

    /// Fills `compressed`; whether it is worth keeping.
    fn compress(&mut self, raw: &[u8]) -> Result<bool, ColumnarError> {
        if raw.len() < COMPRESS_BYTES_MIN {
            return Ok(false);
        }
        self.compressed.clear();
        self.compressed.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        let len = self
            .compressor
            .compress_to_buffer(raw, &mut self.compressed)
            .map_err(ColumnarError::Write)?;
        Ok(len * 100 <= raw.len() * (100 - SAVING_MIN_PERCENT))
    }

    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn pages(&self) -> &[PageEntry] {
        &self.pages
    }

    pub(crate) fn into_inner(self) -> W {
        self.out
    }
}

/// Reads and checks pages.
#[derive(Debug, Clone)]
pub(crate) struct PageSource(Arc<dyn BlockSource>);

impl PageSource {
    pub(crate) fn new(source: Arc<dyn BlockSource>) -> Self {
        Self(source)
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.len()
    }

    pub(crate) fn read_exact(&self, offset: u64, len: usize) -> Result<Bytes, ColumnarError> {
        let read = |source: io::Error| ColumnarError::Read { offset, len: len as u64, source };
        let bytes = self.0.read_at(offset, len).map_err(read)?;
        if bytes.len() != len {
            return Err(read(io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(bytes)
    }

    /// The page's raw bytes, after its checksum was compared.
    pub(crate) fn read(&self, page: &PageEntry) -> Result<Bytes, ColumnarError> {
        let stored = self.read_exact(page.offset, page.stored_len as usize)?;
        if crc32fast::hash(&stored) != page.crc {
            return Err(ColumnarError::corrupt(page.offset, "checksum of a page does not match"));
        }
        if !page.compressed {
            return Ok(stored);
        }
        let raw_len = page.raw_len as usize;
        let raw = decompress(&stored, raw_len)
            .map_err(|error| ColumnarError::corrupt(page.offset, error.to_string()))?;
        if raw.len() != raw_len {
            return Err(ColumnarError::corrupt(page.offset, "page of another length"));
        }
        Ok(raw.into())
    }
}

thread_local! {
    /// Making a context costs as much as unpacking a small page with it.
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> =
        const { RefCell::new(None) };
}

/// Unpacks a page of at most `raw_len` bytes.
fn decompress(stored: &[u8], raw_len: usize) -> io::Result<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let context = match kept {
            Some(context) => context,
            none => none.insert(zstd::bulk::Decompressor::new()?),
        };
        context.decompress(stored, raw_len)
    })
}
