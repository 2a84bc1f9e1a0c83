//! An open block: header, trailer and page table in memory, everything else on demand.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::columnar::block::cache::{BlockCache, Page};
use crate::columnar::block::cursor::{BlockCursor, BlockScan};
use crate::columnar::block::dictionary::Dictionary;
use crate::columnar::block::directory::{self, Entry, EntryValues};
use crate::columnar::block::format::{
    self, BlockSummary, HEADER_LEN, PAGE_ENTRY_LEN, PageEntry, PageKind, TRAILER_LEN,
};
use crate::columnar::block::index::Selection;
use crate::columnar::block::page::{BlockSource, PageSource};
use crate::columnar::block::series::{self, LabelName, SeriesPage};
use crate::columnar::block::summary::{self, ChunkSummary};
use crate::columnar::block::times::TimesReader;
use crate::columnar::codec::CodecError;
use crate::columnar::error::ColumnarError;
use crate::model::{Labels, Matcher, TimeRange};

/// Reads one block; shared between threads.
#[derive(Debug)]
pub struct BlockReader {
    source: PageSource,
    summary: BlockSummary,
    /// By kind, ascending by `first`.
    pages: [Vec<PageEntry>; 8],
    names: OnceLock<Vec<LabelName>>,
    cache: Arc<BlockCache>,
    /// The block's number in the cache.
    number: u64,
}

impl BlockReader {
    /// Reads and checks header, trailer and page table. Decoded pages are kept in `cache`.
    pub fn open(
        source: Arc<dyn BlockSource>,
        cache: Arc<BlockCache>,
    ) -> Result<Self, ColumnarError> {
        let source = PageSource::new(source);
        let len = source.len();
        if len < (HEADER_LEN + TRAILER_LEN) as u64 {
            return Err(ColumnarError::corrupt(0, format!("{len} bytes are too few for a block")));
        }
        let header = format::decode_header(&source.read_exact(0, HEADER_LEN)?)?;
        let trailer = source.read_exact(len - TRAILER_LEN as u64, TRAILER_LEN)?;
        let (summary, table) = format::decode_trailer(header, &trailer, len)?;
        // The trailer's lengths add up to the file's, so this is no more than the file.
        let table_bytes = source.read_exact(table.offset, table.pages as usize * PAGE_ENTRY_LEN)?;
        if crc32fast::hash(&table_bytes) != table.crc {
            return Err(ColumnarError::corrupt(
                table.offset,
                "checksum of the page table does not match",
            ));
        }
        let mut pages = [const { Vec::new() }; 8];
        for page in format::decode_table(&table, &table_bytes)? {
            let of_kind: &mut Vec<PageEntry> = &mut pages[page.kind as usize];
            if of_kind.last().is_some_and(|before| before.first > page.first) {
                return Err(ColumnarError::corrupt(table.offset, "pages are out of order"));
            }
            of_kind.push(page);
        }
        Ok(Self {
            source,
            summary,
            pages,
            names: OnceLock::new(),
            number: cache.new_block(),
            cache,
        })
    }

    pub fn summary(&self) -> &BlockSummary {
        &self.summary
    }

    /// The series that satisfy all matchers and may have samples in `range`, with their local
    /// numbers, ascending.
    pub fn select(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<(Labels, u32)>, ColumnarError> {
        if !self.overlaps(range) {
            return Ok(Vec::new());
        }
        Selection::new(self, matchers)?.map_or(Ok(Vec::new()), |selection| selection.series())
    }

    /// The labels of all series; the place is the local number.
    pub fn labels(&self) -> Result<Vec<Labels>, ColumnarError> {
        let all = self.select(&[], TimeRange::ALL)?;
        if all.len() as u64 != self.summary.series {
            return Err(ColumnarError::corrupt(0, "series pages do not hold all series"));
        }
        Ok(all.into_iter().map(|(labels, _)| labels).collect())
    }

    /// Adds the label names of the series that [`BlockReader::select`] would give.
    pub fn label_names(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        names: &mut BTreeSet<String>,
    ) -> Result<(), ColumnarError> {
        if !self.overlaps(range) {
            return Ok(());
        }
        Selection::new(self, matchers)?.map_or(Ok(()), |selection| selection.names(names))
    }

    /// Adds the values of label `name` of the series that [`BlockReader::select`] would give.
    pub fn label_values(
        &self,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
        values: &mut BTreeSet<String>,
    ) -> Result<(), ColumnarError> {
        if !self.overlaps(range) {
            return Ok(());
        }
        Selection::new(self, matchers)?.map_or(Ok(()), |selection| selection.values(name, values))
    }

    /// A cursor over samples, for one thread and one scan.
    pub fn cursor(self: &Arc<Self>) -> BlockCursor {
        BlockCursor::new(Arc::clone(self))
    }

    /// All samples as ordered batches; `series` are local numbers.
    pub fn scan(self: &Arc<Self>) -> BlockScan {
        BlockScan::new(self.cursor())
    }

    /// Reads everything: every checksum, every chunk, every label.
    pub fn verify(self: &Arc<Self>) -> Result<(), ColumnarError> {
        for page in self.pages.iter().flatten() {
            self.read(page)?;
        }
        let mut samples = 0;
        for batch in self.scan() {
            samples += batch?.num_rows() as u64;
        }
        if samples != self.summary.samples {
            let reason = format!("{samples} samples, expected {}", self.summary.samples);
            return Err(ColumnarError::corrupt(0, reason));
        }
        if !self.labels()?.is_sorted_by(|left, right| left < right) {
            return Err(ColumnarError::corrupt(0, "series are out of order"));
        }
        Ok(())
    }

    fn overlaps(&self, range: TimeRange) -> bool {
        self.summary.time_range.is_some_and(|of_block| of_block.overlaps(range))
    }

    pub(crate) fn pages(&self, kind: PageKind) -> &[PageEntry] {
        &self.pages[kind as usize]
    }

    /// The last page of `kind` that starts at or before `key`, and its place among its kind.
    pub(crate) fn page_of(&self, kind: PageKind, key: u64) -> Option<(usize, &PageEntry)> {
        let pages = self.pages(kind);
        let index = pages.partition_point(|page| page.first <= key).checked_sub(1)?;
        Some((index, &pages[index]))
    }

    pub(crate) fn read(&self, page: &PageEntry) -> Result<Bytes, ColumnarError> {
        self.source.read(page)
    }

    /// All label names, `__name__` first, then ascending.
    pub(crate) fn names(&self) -> Result<&[LabelName], ColumnarError> {
        if let Some(names) = self.names.get() {
            return Ok(names);
        }
        let names = match self.pages(PageKind::Names) {
            [page] => series::decode_names(&self.read(page)?, page.count as usize)
                .map_err(ColumnarError::codec(page.offset))?,
            _ => return Err(ColumnarError::corrupt(0, "no page of label names")),
        };
        Ok(self.names.get_or_init(|| names))
    }

    pub(crate) fn dictionary(&self, page: &PageEntry) -> Result<Arc<Dictionary>, ColumnarError> {
        if let Some(Page::Dictionary(known)) = self.known(page) {
            return Ok(known);
        }
        let decoded = Dictionary::decode(&self.read(page)?, page.count as usize)
            .map(Arc::new)
            .map_err(ColumnarError::codec(page.offset))?;
        self.keep(page, Page::Dictionary(Arc::clone(&decoded)));
        Ok(decoded)
    }

    pub(crate) fn series_page(&self, page: &PageEntry) -> Result<Arc<SeriesPage>, ColumnarError> {
        if let Some(Page::Series(known)) = self.known(page) {
            return Ok(known);
        }
        let decoded = SeriesPage::new(self.read(page)?, page.count as usize)
            .map(Arc::new)
            .map_err(ColumnarError::codec(page.offset))?;
        self.keep(page, Page::Series(Arc::clone(&decoded)));
        Ok(decoded)
    }

    pub(crate) fn directory(&self, page: &PageEntry) -> Result<Arc<[Entry]>, ColumnarError> {
        if let Some(Page::Directory(known)) = self.known(page) {
            return Ok(known);
        }
        let codec = ColumnarError::codec(page.offset);
        let first = u32::try_from(page.first)
            .map_err(|_| codec(CodecError("series number over 32 bits")))?;
        let entries = directory::decode(&self.read(page)?, first, page.count as usize);
        let decoded: Arc<[Entry]> = entries.map_err(codec)?.into();
        self.keep(page, Page::Directory(Arc::clone(&decoded)));
        Ok(decoded)
    }

    /// What the chunks of a directory page come to: `page` is the page of summaries beside it.
    pub(crate) fn summaries(
        &self,
        page: &PageEntry,
        entries: &[Entry],
    ) -> Result<Arc<[ChunkSummary]>, ColumnarError> {
        if let Some(Page::Summaries(known)) = self.known(page) {
            return Ok(known);
        }
        let varying =
            entries.iter().filter(|entry| matches!(entry.values, EntryValues::Payload { .. }));
        let counts: Vec<u32> = varying.map(|entry| entry.samples).collect();
        let decoded = summary::decode(&self.read(page)?, &counts)
            .map_err(ColumnarError::codec(page.offset))?;
        let mut decoded = decoded.into_iter();
        let summaries = entries.iter().map(|entry| match entry.values {
            EntryValues::Constant(value) => Some(ChunkSummary::constant(value, entry.samples)),
            EntryValues::Payload { .. } => decoded.next(),
        });
        let summaries: Option<Arc<[ChunkSummary]>> = summaries.collect();
        let summaries = summaries.expect("as many as chunks that vary");
        self.keep(page, Page::Summaries(Arc::clone(&summaries)));
        Ok(summaries)
    }

    pub(crate) fn times(&self, page: &PageEntry) -> Result<Arc<TimesReader>, ColumnarError> {
        if let Some(Page::Times(known)) = self.known(page) {
            return Ok(known);
        }
        let decoded = TimesReader::new(self.read(page)?, page.count as usize)
            .map(Arc::new)
            .map_err(ColumnarError::codec(page.offset))?;
        self.keep(page, Page::Times(Arc::clone(&decoded)));
        Ok(decoded)
    }

    pub(crate) fn values(&self, page: &PageEntry) -> Result<Bytes, ColumnarError> {
        if !page.compressed {
            return self.read(page);
        }
        if let Some(Page::Values(known)) = self.known(page) {
            return Ok(known);
        }
        let bytes = self.read(page)?;
        self.keep(page, Page::Values(bytes.clone()));
        Ok(bytes)
    }

    fn known(&self, page: &PageEntry) -> Option<Page> {
        self.cache.get(self.number, page.offset)
    }

    fn keep(&self, page: &PageEntry, decoded: Page) {
        self.cache.insert(self.number, page.offset, decoded);
    }
}
