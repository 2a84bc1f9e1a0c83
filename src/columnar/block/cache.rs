//! Decoded pages that all open blocks share, bounded in bytes; and a small cache of one cursor.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache as SharedCache;

use crate::columnar::block::dictionary::Dictionary;
use crate::columnar::block::directory::Entry;
use crate::columnar::block::series::SeriesPage;
use crate::columnar::block::summary::ChunkSummary;
use crate::columnar::block::times::TimesReader;

/// For the first size of the cache's table: what a page weighs, more or less.
const PAGE_BYTES_TYPICAL: usize = 32 << 10;
/// Added to each page's weight for key and bookkeeping.
const ENTRY_BYTES: usize = 96;

/// Pages of blocks, decoded: what answers a second query without reading, checking and unpacking
/// again. One for all blocks, so that its bound holds however many are open; a scan that passes
/// once does not drive out what is asked for often.
#[derive(Debug)]
pub struct BlockCache {
    pages: SharedCache<(u64, u64), Page, PageWeight>,
    next_block: AtomicU64,
}

/// A page as its readers want it.
#[derive(Debug, Clone)]
pub(crate) enum Page {
    Dictionary(Arc<Dictionary>),
    Series(Arc<SeriesPage>),
    Directory(Arc<[Entry]>),
    /// One for each entry of the directory page.
    Summaries(Arc<[ChunkSummary]>),
    Times(Arc<TimesReader>),
    /// Values that were compressed; plain ones are as quickly read again.
    Values(Bytes),
}

impl Page {
    fn bytes(&self) -> usize {
        match self {
            Self::Dictionary(page) => page.bytes(),
            Self::Series(page) => page.bytes(),
            Self::Directory(entries) => size_of_val(&**entries),
            Self::Summaries(summaries) => size_of_val(&**summaries),
            Self::Times(page) => page.bytes(),
            Self::Values(bytes) => bytes.len(),
        }
    }
}

#[derive(Debug, Clone)]
struct PageWeight;

impl Weighter<(u64, u64), Page> for PageWeight {
    fn weight(&self, _: &(u64, u64), page: &Page) -> u64 {
        (page.bytes() + ENTRY_BYTES) as u64
    }
}

impl BlockCache {
    /// Keeps pages of at most `bytes_max` bytes together.
    pub fn new(bytes_max: u64) -> Self {
        let bytes = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        let pages = SharedCache::with_weighter(bytes / PAGE_BYTES_TYPICAL, bytes_max, PageWeight);
        Self { pages, next_block: AtomicU64::new(0) }
    }

    /// A number for one open block's pages, never given again.
    pub(crate) fn new_block(&self) -> u64 {
        self.next_block.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn get(&self, block: u64, offset: u64) -> Option<Page> {
        self.pages.get(&(block, offset))
    }

    pub(crate) fn insert(&self, block: u64, offset: u64, page: Page) {
        self.pages.insert((block, offset), page);
    }

    /// What is kept now.
    pub fn bytes(&self) -> u64 {
        self.pages.weight()
    }
}

/// Keeps values until their bytes exceed the bound, then starts anew: what is in use is soon
/// back, and there is no bookkeeping on a hit.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    entries: HashMap<K, V>,
    bytes: usize,
    bytes_max: usize,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { entries: HashMap::new(), bytes: 0, bytes_max }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.entries.get(key).cloned()
    }

    pub(crate) fn insert(&mut self, key: K, value: V, bytes: usize) {
        if self.bytes + bytes > self.bytes_max {
            self.entries.clear();
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.entries.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_over_all_blocks() {
        let cache = BlockCache::new(100_000);
        let (one, two) = (cache.new_block(), cache.new_block());
        assert_ne!(one, two);
        for offset in 0..1000 {
            let page = Page::Values(vec![7; 1000].into());
            cache.insert(if offset % 2 == 0 { one } else { two }, offset, page);
        }
        assert!(cache.bytes() <= 100_000, "{}", cache.bytes());
        cache.insert(one, 5000, Page::Values(Bytes::from_static(b"here")));
        let here = |page| matches!(page, Some(Page::Values(bytes)) if bytes == "here");
        assert!(here(cache.get(one, 5000)));
        assert!(cache.get(two, 5000).is_none());
    }
}
