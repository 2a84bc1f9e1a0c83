//! L pages: a label's values in order, each with the series pages where it occurs.
//!
//! A value's place in the order is its ordinal, and series pages hold ordinals. Postings by page
//! instead of by series are an order of magnitude smaller, and a page's column of ordinals is
//! scanned in a microsecond.

use bytes::Bytes;

use crate::columnar::codec::CodecError;
use crate::columnar::codec::integers::{self, IntegerEncoder};

/// Values in one page.
pub(crate) const PAGE_VALUES_MAX: usize = 512;
/// A page is closed early when its values are long.
const PAGE_BYTES: usize = 64 << 10;
/// Bytes of a page's values written out in full.
const TEXT_BYTES_MAX: usize = 64 << 20;
/// Postings in one page: no value occurs on more series pages than a block can have.
const PAGE_POSTINGS_MAX: usize = 1 << 22;

/// Collects the values of one page.
#[derive(Debug, Default)]
pub(crate) struct DictionaryWriter {
    integers: IntegerEncoder,
    shared: Vec<i64>,
    rest: Vec<i64>,
    counts: Vec<i64>,
    steps: Vec<i64>,
    bytes: Vec<u8>,
    text_bytes: usize,
    before: String,
    before_page: i64,
}

impl DictionaryWriter {
    /// Values come in ascending order, with the ascending numbers of their pages.
    pub(crate) fn push(&mut self, value: &str, pages: impl Iterator<Item = u32>) {
        let common = value.bytes().zip(self.before.bytes()).take_while(|(a, b)| a == b).count();
        self.shared.push(common as i64);
        self.rest.push((value.len() - common) as i64);
        self.bytes.extend_from_slice(&value.as_bytes()[common..]);
        self.text_bytes += value.len();
        value.clone_into(&mut self.before);
        let start = self.steps.len();
        for page in pages {
            self.steps
                .push(i64::from(page) - std::mem::replace(&mut self.before_page, page.into()));
        }
        self.counts.push((self.steps.len() - start) as i64);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.counts.len() >= PAGE_VALUES_MAX
            || self.bytes.len() >= PAGE_BYTES
            || self.text_bytes >= TEXT_BYTES_MAX / 16
            || self.steps.len() >= PAGE_POSTINGS_MAX / 2
    }

    /// Appends the page's bytes to `out` and starts anew; the count of values.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> usize {
        for column in [&self.shared, &self.rest, &self.counts, &self.steps] {
            self.integers.encode(column, out);
        }
        out.append(&mut self.bytes);
        let count = self.counts.len();
        for column in [&mut self.shared, &mut self.rest, &mut self.counts, &mut self.steps] {
            column.clear();
        }
        self.before.clear();
        self.text_bytes = 0;
        self.before_page = 0;
        count
    }
}

/// A decoded page.
#[derive(Debug)]
pub(crate) struct Dictionary {
    text: String,
    /// Where each value ends in `text`, and its postings in `pages`.
    ends: Vec<(u32, u32)>,
    pages: Vec<u32>,
}

impl Dictionary {
    pub(crate) fn decode(page: &Bytes, count: usize) -> Result<Self, CodecError> {
        const BAD: CodecError = CodecError("impossible number in a dictionary page");
        let mut input = &page[..];
        let mut columns = [const { Vec::<i64>::new() }; 3];
        if count > PAGE_VALUES_MAX {
            return Err(BAD);
        }
        for column in &mut columns {
            integers::decode(&mut input, count, column)?;
        }
        let [shared, rest, counts] = columns;
        let postings = counts
            .iter()
            .try_fold(0usize, |sum, count| sum.checked_add(usize::try_from(*count).ok()?))
            .filter(|postings| *postings <= PAGE_POSTINGS_MAX)
            .ok_or(BAD)?;
        let mut steps = Vec::new();
        integers::decode(&mut input, postings, &mut steps)?;

        let (mut text, mut ends) = (Vec::new(), Vec::with_capacity(count));
        let (mut start, mut posting) = (0, 0);
        for row in 0..count {
            let before = text.len() - start;
            let shared = usize::try_from(shared[row]).ok().filter(|n| *n <= before).ok_or(BAD)?;
            let rest =
                usize::try_from(rest[row]).ok().and_then(|n| input.split_off(..n)).ok_or(BAD)?;
            let next = text.len();
            text.extend_from_within(start..start + shared);
            text.extend_from_slice(rest);
            start = next;
            posting += u32::try_from(counts[row]).map_err(|_| BAD)?;
            ends.push((u32::try_from(text.len()).map_err(|_| BAD)?, posting));
            if text.len() > TEXT_BYTES_MAX {
                return Err(BAD);
            }
        }
        if !input.is_empty() {
            return Err(CodecError("bytes behind a dictionary page"));
        }
        let mut at = 0i64;
        let pages = steps
            .into_iter()
            .map(|step| {
                at = at.wrapping_add(step);
                u32::try_from(at).map_err(|_| BAD)
            })
            .collect::<Result<_, _>>()?;
        let text = String::from_utf8(text).map_err(|_| CodecError("label value is not UTF-8"))?;
        let dictionary = Self { text, ends, pages };
        if (0..count).any(|row| !dictionary.text.is_char_boundary(dictionary.span(row).0)) {
            return Err(BAD);
        }
        Ok(dictionary)
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    fn span(&self, row: usize) -> (usize, usize) {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before].0);
        (start as usize, self.ends[row].0 as usize)
    }

    /// The page's value `row`, which must be less than the count.
    pub(crate) fn value(&self, row: usize) -> &str {
        let (start, end) = self.span(row);
        &self.text[start..end]
    }

    /// The series pages that hold value `row`, ascending.
    pub(crate) fn pages(&self, row: usize) -> &[u32] {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before].1);
        &self.pages[start as usize..self.ends[row].1 as usize]
    }

    /// Rows of the values that are not less than `value`.
    pub(crate) fn lower_bound(&self, value: &str) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.value(middle) < value { low = middle + 1 } else { high = middle }
        }
        low
    }

    pub(crate) fn bytes(&self) -> usize {
        self.text.len() + self.ends.len() * 8 + self.pages.len() * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_postings_come_back() {
        let mut writer = DictionaryWriter::default();
        let values: Vec<String> = (0..300).map(|i| format!("host-é{:03}", i)).collect();
        for (i, value) in (0u32..).zip(&values) {
            writer.push(value, (i % 5..i % 5 + i % 3).map(|page| page * 2));
        }
        let mut bytes = Vec::new();
        assert_eq!(writer.finish(&mut bytes), 300);
        assert!(bytes.len() < 300 * 4);
        let page = Dictionary::decode(&bytes.clone().into(), 300).unwrap();
        for (i, value) in (0u32..).zip(&values) {
            assert_eq!(page.value(i as usize), value);
            let pages: Vec<u32> = (i % 5..i % 5 + i % 3).map(|page| page * 2).collect();
            assert_eq!(page.pages(i as usize), pages);
            assert_eq!(page.lower_bound(value), i as usize);
        }
        assert_eq!((page.lower_bound(""), page.lower_bound("z")), (0, 300));
        for cut in 0..bytes.len() {
            assert!(Dictionary::decode(&Bytes::copy_from_slice(&bytes[..cut]), 300).is_err());
        }
    }
}
