//! Which series satisfy matchers: values → ordinals → series pages → rows.
//!
//! A matcher that needs its label names the pages where an accepted value occurs; only pages that
//! all such matchers name are read, and of those only the columns of the matchers' labels. Labels
//! are put together for the rows that are left.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::columnar::block::dictionary::Dictionary;
use crate::columnar::block::format::{PageEntry, PageKind};
use crate::columnar::block::reader::BlockReader;
use crate::columnar::block::series::SeriesPage;
use crate::columnar::codec::CodecError;
use crate::columnar::error::ColumnarError;
use crate::model::labels::{BETWEEN, END};
use crate::model::{Labels, MatchOp, Matcher};

/// Matchers, prepared for one block.
pub(crate) struct Selection<'r> {
    reader: &'r BlockReader,
    filters: Vec<Filter>,
    /// Whether a series page may hold a match.
    candidates: Vec<bool>,
    labels: Vec<Label<'r>>,
}

/// What one matcher asks of its label's ordinal.
struct Filter {
    label: u32,
    /// Ordinals that the positive form accepts.
    accepted: Ordinals,
    negative: bool,
    /// Whether a series without the label passes.
    absent: bool,
}

impl Filter {
    #[inline]
    fn passes(&self, cell: u32) -> bool {
        match cell.checked_sub(1) {
            Some(ordinal) => self.accepted.contains(u64::from(ordinal)) != self.negative,
            None => self.absent,
        }
    }
}

impl<'r> Selection<'r> {
    /// `None` if nothing can match.
    pub(crate) fn new(
        reader: &'r BlockReader,
        matchers: &[Matcher],
    ) -> Result<Option<Self>, ColumnarError> {
        let names = reader.names()?;
        let labels = (0..).take(names.len()).map(|number| Label::new(reader, number)).collect();
        let candidates = vec![true; reader.pages(PageKind::Series).len()];
        let mut selection = Self { reader, filters: Vec::new(), candidates, labels };
        for matcher in matchers {
            let Some(label) = names.iter().position(|label| label.name == matcher.name()) else {
                if matcher.matches_empty() {
                    continue;
                }
                return Ok(None);
            };
            if !selection.add(label, matcher)? {
                return Ok(None);
            }
        }
        Ok(Some(selection))
    }

    /// Takes a matcher in; `false` if it accepts nothing.
    fn add(&mut self, number: usize, matcher: &Matcher) -> Result<bool, ColumnarError> {
        let negative = matcher.op().is_negative();
        let absent = matcher.matches_empty();
        let prunes = !negative && !absent;
        let mut named = vec![false; if prunes { self.candidates.len() } else { 0 }];
        let mut accepted = Ordinals::default();
        let label = &mut self.labels[number];
        let mut accept = |ordinal: u64, pages: &[u32]| {
            accepted.insert(ordinal);
            for page in pages {
                if let Some(named) = named.get_mut(*page as usize) {
                    *named = true;
                }
            }
        };
        match (matcher.op(), matcher.accepted_set()) {
            (MatchOp::Equal | MatchOp::NotEqual, _) | (_, Some(_)) => {
                for value in matcher.accepted_set().unwrap_or_default() {
                    label.each_from(value, |ordinal, dictionary, row| {
                        if dictionary.value(row) == value {
                            accept(ordinal, dictionary.pages(row));
                        }
                        false
                    })?;
                }
            }
            _ => {
                let prefix = matcher.accepted_prefix();
                label.each_from(prefix, |ordinal, dictionary, row| {
                    let value = dictionary.value(row);
                    if matcher.accepts(value) {
                        accept(ordinal, dictionary.pages(row));
                    }
                    value.starts_with(prefix)
                })?;
            }
        }
        if accepted.is_empty() && prunes {
            return Ok(false);
        }
        if prunes {
            for (candidate, named) in self.candidates.iter_mut().zip(named) {
                *candidate &= named;
            }
        }
        if !(accepted.is_empty() && negative && absent) {
            let label = u32::try_from(number).expect("names are few");
            self.filters.push(Filter { label, accepted, negative, absent });
        }
        Ok(true)
    }

    /// Calls `each` with every page that has matches: its first local number, and the rows.
    fn each_page(
        &mut self,
        mut each: impl FnMut(&mut Self, &SeriesPage, &PageEntry, &[usize]) -> Result<(), ColumnarError>,
    ) -> Result<(), ColumnarError> {
        let reader = self.reader;
        let mut rows = Vec::new();
        for (index, entry) in reader.pages(PageKind::Series).iter().enumerate() {
            if !self.candidates[index] {
                continue;
            }
            let page = reader.series_page(entry)?;
            rows.clear();
            rows.extend(0..page.rows());
            for filter in &self.filters {
                match page.column(filter.label).map_err(ColumnarError::codec(entry.offset))? {
                    Some(column) => rows.retain(|row| filter.passes(column[*row])),
                    None if filter.absent => {}
                    None => rows.clear(),
                }
                if rows.is_empty() {
                    break;
                }
            }
            if !rows.is_empty() {
                each(self, &page, entry, &rows)?;
            }
        }
        Ok(())
    }

    pub(crate) fn series(mut self) -> Result<Vec<(Labels, u32)>, ColumnarError> {
        let names = self.reader.names()?;
        let mut out = Vec::new();
        let mut key = Vec::new();
        self.each_page(|selection, page, entry, rows| {
            let corrupt = ColumnarError::codec(entry.offset);
            let mut columns: Vec<(u32, &[u32])> = Vec::new();
            for label in page.labels() {
                if label as usize >= names.len() {
                    return Err(corrupt(CodecError("series with an unknown label")));
                }
                columns.extend(page.column(label).map_err(&corrupt)?.map(|column| (label, column)));
            }
            out.reserve(rows.len());
            for row in rows {
                key.clear();
                let mut columns = columns.iter().peekable();
                if let Some((_, column)) = columns.next_if(|(label, _)| *label == 0)
                    && column[*row] > 0
                {
                    let metric = selection.labels[0].value(column[*row] - 1)?;
                    key.extend_from_slice(metric.as_bytes());
                }
                key.push(END);
                for (label, column) in columns.filter(|(_, column)| column[*row] > 0) {
                    let label = *label as usize;
                    key.extend_from_slice(names[label].name.as_bytes());
                    key.push(BETWEEN);
                    let value = selection.labels[label].value(column[*row] - 1)?;
                    key.extend_from_slice(value.as_bytes());
                    key.push(END);
                }
                let labels = Labels::from_bytes(&key)
                    .map_err(|error| ColumnarError::corrupt(entry.offset, error.to_string()))?;
                let local = u32::try_from(entry.first + *row as u64)
                    .map_err(|_| corrupt(CodecError("series number over 32 bits")))?;
                out.push((labels, local));
            }
            Ok(())
        })?;
        Ok(out)
    }

    pub(crate) fn names(mut self, names: &mut BTreeSet<String>) -> Result<(), ColumnarError> {
        let all = self.reader.names()?;
        let mut found = vec![false; all.len()];
        if self.filters.is_empty() {
            found.iter_mut().zip(all).for_each(|(found, label)| *found = label.values > 0);
        } else {
            self.each_page(|_, page, entry, rows| {
                for label in page.labels() {
                    if let Some(found) = found.get_mut(label as usize).filter(|found| !**found) {
                        let column =
                            page.column(label).map_err(ColumnarError::codec(entry.offset))?;
                        *found =
                            column.is_some_and(|column| rows.iter().any(|row| column[*row] > 0));
                    }
                }
                Ok(())
            })?;
        }
        let found = all.iter().zip(found).filter(|(_, found)| *found);
        names.extend(found.map(|(label, _)| label.name.clone()));
        Ok(())
    }

    pub(crate) fn values(
        mut self,
        name: &str,
        values: &mut BTreeSet<String>,
    ) -> Result<(), ColumnarError> {
        let Some(number) = self.reader.names()?.iter().position(|label| label.name == name) else {
            return Ok(());
        };
        if self.filters.is_empty() {
            return self.labels[number].each_from("", |_, dictionary, row| {
                values.insert(dictionary.value(row).to_owned());
                true
            });
        }
        let label = u32::try_from(number).expect("names are few");
        let mut found = BTreeSet::new();
        self.each_page(|_, page, entry, rows| {
            let codec = ColumnarError::codec(entry.offset);
            if let Some(column) = page.column(label).map_err(codec)? {
                found.extend(rows.iter().map(|row| column[*row]).filter(|cell| *cell > 0));
            }
            Ok(())
        })?;
        for cell in found {
            values.insert(self.labels[number].value(cell - 1)?.to_owned());
        }
        Ok(())
    }
}

/// One label's dictionary pages, decoded as they are needed and held while the selection lasts.
struct Label<'r> {
    reader: &'r BlockReader,
    entries: &'r [PageEntry],
    pages: Vec<Option<Arc<Dictionary>>>,
    /// The page of the last value looked up.
    last: usize,
}

impl<'r> Label<'r> {
    fn new(reader: &'r BlockReader, number: u64) -> Self {
        let all = reader.pages(PageKind::Dictionary);
        let start = all.partition_point(|page| page.first >> 32 < number);
        let end = all.partition_point(|page| page.first >> 32 <= number);
        let entries = &all[start..end];
        Self { reader, entries, pages: vec![None; entries.len()], last: 0 }
    }

    fn page(&mut self, index: usize) -> Result<&Arc<Dictionary>, ColumnarError> {
        let slot = &mut self.pages[index];
        match slot {
            Some(page) => Ok(page),
            None => Ok(slot.insert(self.reader.dictionary(&self.entries[index])?)),
        }
    }

    fn value(&mut self, ordinal: u32) -> Result<&str, ColumnarError> {
        let ordinal = u64::from(ordinal);
        let first = |page: &PageEntry| page.first & u64::from(u32::MAX);
        let holds = |page: &PageEntry| {
            first(page) <= ordinal && ordinal - first(page) < u64::from(page.count)
        };
        if !self.entries.get(self.last).is_some_and(holds) {
            let after = self.entries.partition_point(|page| first(page) <= ordinal);
            self.last = after.saturating_sub(1);
        }
        let entry = self.entries.get(self.last).filter(|page| holds(page));
        let entry = *entry.ok_or_else(|| ColumnarError::corrupt(0, "unknown label value"))?;
        let row = usize::try_from(ordinal - first(&entry)).expect("a page holds few values");
        Ok(self.page(self.last)?.value(row))
    }

    /// Walks the values that are not less than `from` until `each`, given ordinal and place,
    /// says `false`.
    fn each_from(
        &mut self,
        from: &str,
        mut each: impl FnMut(u64, &Dictionary, usize) -> bool,
    ) -> Result<(), ColumnarError> {
        let (mut low, mut high) = (0, self.entries.len());
        // The last page whose first value is not greater.
        while low + 1 < high {
            let middle = low.midpoint(high);
            let page = self.page(middle)?;
            let before = page.len() > 0 && page.value(0) <= from;
            if before { low = middle } else { high = middle }
        }
        for index in low..self.entries.len() {
            let base = self.entries[index].first & u64::from(u32::MAX);
            let page = self.page(index)?;
            let start = if index == low { page.lower_bound(from) } else { 0 };
            for row in start..page.len() {
                if !each(base + row as u64, page, row) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// A set of ordinals as bits.
#[derive(Debug, Default)]
struct Ordinals {
    bits: Vec<u64>,
}

impl Ordinals {
    fn insert(&mut self, ordinal: u64) {
        let word = usize::try_from(ordinal / 64).expect("ordinals have 32 bits");
        if word >= self.bits.len() {
            self.bits.resize(word + 1, 0);
        }
        self.bits[word] |= 1 << (ordinal % 64);
    }

    #[inline]
    fn contains(&self, ordinal: u64) -> bool {
        let word = usize::try_from(ordinal / 64).ok().and_then(|word| self.bits.get(word));
        word.is_some_and(|word| word >> (ordinal % 64) & 1 == 1)
    }

    fn is_empty(&self) -> bool {
        self.bits.is_empty()
    }
}
