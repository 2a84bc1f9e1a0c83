//! V pages: payloads of varying chunks, concatenated; equal ones once.
//!
//! Payloads live in one space of raw bytes that the pages cut into pieces, so a directory refers
//! to them by offset, compressed or not.

use hashbrown::HashMap;
use xxhash_rust::xxh3::xxh3_64;

/// Payloads that the writer remembers, in bytes; when it is full it forgets all of them.
const REMEMBERED_BYTES_MAX: usize = 8 << 20;
/// Shorter payloads are cheaper to repeat than to refer to.
const SHARED_BYTES_MIN: usize = 16;

/// The pages' raw bytes so far, and where each payload went.
#[derive(Debug)]
pub(crate) struct ValuesWriter {
    page_bytes: usize,
    page: Vec<u8>,
    /// Where `page` starts in the space of all raw bytes.
    page_at: u64,
    remembered: Vec<u8>,
    /// Offset and place in `remembered`, by hash.
    known: HashMap<u64, (u64, usize)>,
}

/// A full page on its way out.
#[derive(Debug)]
pub(crate) struct ValuesPage {
    pub(crate) first: u64,
    pub(crate) bytes: Vec<u8>,
}

impl ValuesWriter {
    pub(crate) fn new(page_bytes: usize) -> Self {
        Self {
            page_bytes,
            page: Vec::new(),
            page_at: 0,
            remembered: Vec::new(),
            known: HashMap::new(),
        }
    }

    /// Where the payload is, and the page that had to make room for it.
    pub(crate) fn push(&mut self, payload: &[u8]) -> (u64, Option<ValuesPage>) {
        let hash = (payload.len() >= SHARED_BYTES_MIN).then(|| xxh3_64(payload));
        if let Some(hash) = hash
            && let Some((offset, at)) = self.known.get(&hash)
            && self.remembered[*at..].starts_with(payload)
        {
            return (*offset, None);
        }
        let full = !self.page.is_empty() && self.page.len() + payload.len() > self.page_bytes;
        let page = if full { self.take_page() } else { None };
        let offset = self.page_at + self.page.len() as u64;
        self.page.extend_from_slice(payload);
        if let Some(hash) = hash {
            if self.remembered.len() + payload.len() > REMEMBERED_BYTES_MAX {
                self.remembered.clear();
                self.known.clear();
            }
            self.known.insert(hash, (offset, self.remembered.len()));
            self.remembered.extend_from_slice(payload);
        }
        (offset, page)
    }

    pub(crate) fn take_page(&mut self) -> Option<ValuesPage> {
        if self.page.is_empty() {
            return None;
        }
        let room = Vec::with_capacity(self.page_bytes);
        let bytes = std::mem::replace(&mut self.page, room);
        let first = self.page_at;
        self.page_at += bytes.len() as u64;
        Some(ValuesPage { first, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_payloads_are_stored_once_and_none_crosses_a_page() {
        let mut writer = ValuesWriter::new(100);
        let payload = |byte: u8, len: usize| vec![byte; len];
        assert_eq!(writer.push(&payload(1, 60)).0, 0);
        assert_eq!(writer.push(&payload(1, 60)).0, 0);
        let (offset, page) = writer.push(&payload(2, 60));
        assert_eq!(offset, 60);
        assert_eq!(page.map(|page| (page.first, page.bytes)), Some((0, payload(1, 60))));
        // A prefix of what is known is not the same payload.
        assert_eq!(writer.push(&payload(2, 40)).0, 120);
        assert_eq!(writer.push(&payload(3, 500)).0, 160);
        let last = writer.take_page().map(|page| (page.first, page.bytes.len()));
        assert_eq!(last, Some((160, 500)));
        assert!(writer.take_page().is_none());
    }
}
