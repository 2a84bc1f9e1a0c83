//! N, L and S pages: which series a block has, by label values.
//!
//! A series is a row of ordinals, one column per label name; the order of rows is label order. A
//! column of a sorted page repeats or ascends, so a series with ten labels takes a few bytes.

use std::io::Write;
use std::sync::OnceLock;

use bytes::Bytes;
use hashbrown::HashMap;

use crate::columnar::block::dictionary::DictionaryWriter;
use crate::columnar::block::format::{PAGE_ROWS_MAX, PageKind};
use crate::columnar::block::page::{Compress, PageWriter};
use crate::columnar::codec::integers::{self, IntegerEncoder};
use crate::columnar::codec::{CodecError, varint};
use crate::columnar::error::ColumnarError;
use crate::model::{Labels, METRIC_NAME};

/// Label names of one block, so that a damaged count cannot ask for much.
pub(crate) const NAMES_MAX: usize = 1 << 20;

/// Writes all N, L and S pages. `series` ascend.
pub(crate) fn write<W: Write>(
    series: &[&Labels],
    pages: &mut PageWriter<W>,
) -> Result<(), ColumnarError> {
    let table = LabelTable::new(series)?;
    let postings = table.write_series(pages)?;
    table.write_dictionaries(postings, pages)
}

/// One label name's values.
struct Label<'a> {
    name: &'a str,
    /// Distinct values by first occurrence, later by ordinal.
    values: Vec<&'a str>,
    numbers: HashMap<&'a str, u32>,
    /// Number of the value in the series before: neighbours share most of their labels.
    last: u32,
}

impl<'a> Label<'a> {
    fn new(name: &'a str) -> Self {
        Self { name, values: Vec::new(), numbers: HashMap::new(), last: 0 }
    }

    fn number(&mut self, value: &'a str) -> u32 {
        if self.values.get(self.last as usize).is_some_and(|last| *last == value) {
            return self.last;
        }
        let next = u32::try_from(self.values.len()).expect("fewer values than series");
        self.last = *self.numbers.entry(value).or_insert(next);
        if self.last == next {
            self.values.push(value);
        }
        self.last
    }

    /// Sorts the values; returns the ordinal of each old number.
    fn sort(&mut self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..).take(self.values.len()).collect();
        order.sort_unstable_by_key(|number| self.values[*number as usize]);
        let mut ordinals = vec![0; order.len()];
        for (ordinal, number) in (0..).zip(&order) {
            ordinals[*number as usize] = ordinal;
        }
        self.values = order.iter().map(|number| self.values[*number as usize]).collect();
        ordinals
    }
}

/// All series as rows of (label, ordinal).
struct LabelTable<'a> {
    /// `__name__` first, then by name.
    labels: Vec<Label<'a>>,
    cells: Vec<(u32, u32)>,
    /// Where each series' cells end.
    ends: Vec<usize>,
}

impl<'a> LabelTable<'a> {
    fn new(series: &[&'a Labels]) -> Result<Self, ColumnarError> {
        let mut labels = vec![Label::new(METRIC_NAME)];
        let mut by_name: HashMap<&str, u32> = HashMap::from_iter([(METRIC_NAME, 0)]);
        let mut cells: Vec<(u32, u32)> = Vec::with_capacity(series.len() * 4);
        let mut ends = Vec::with_capacity(series.len());
        let mut before = 0..0;
        for one in series {
            let start = cells.len();
            for (index, (name, value)) in one.iter().enumerate() {
                // The series before most likely has the same names.
                let guess = cells[before.clone()].get(index).map(|cell| cell.0);
                let label = match guess.filter(|label| labels[*label as usize].name == name) {
                    Some(label) => label,
                    None => *by_name.entry(name).or_insert_with(|| {
                        labels.push(Label::new(name));
                        u32::try_from(labels.len() - 1).unwrap_or(u32::MAX)
                    }),
                };
                cells.push((label, labels[label as usize].number(value)));
            }
            before = start..cells.len();
            ends.push(cells.len());
        }
        if labels.len() > NAMES_MAX {
            return Err(ColumnarError::InvalidBatch(format!("{} label names", labels.len())));
        }
        let mut table = Self { labels, cells, ends };
        table.sort();
        Ok(table)
    }

    /// Turns numbers in order of occurrence into ordinals.
    fn sort(&mut self) {
        let mut order: Vec<u32> = (0..).take(self.labels.len()).collect();
        order[1..].sort_unstable_by_key(|label| self.labels[*label as usize].name);
        let mut places = vec![0; order.len()];
        for (place, label) in (0..).zip(&order) {
            places[*label as usize] = place;
        }
        let ordinals: Vec<Vec<u32>> = self.labels.iter_mut().map(Label::sort).collect();
        for (label, value) in &mut self.cells {
            *value = ordinals[*label as usize][*value as usize];
            *label = places[*label as usize];
        }
        let mut labels: Vec<Option<Label<'a>>> = self.labels.drain(..).map(Some).collect();
        self.labels = order.iter().filter_map(|label| labels[*label as usize].take()).collect();
    }

    /// Writes the S pages; returns (ordinal, page) pairs of every label, pages ascending.
    fn write_series<W: Write>(
        &self,
        pages: &mut PageWriter<W>,
    ) -> Result<Vec<Vec<(u32, u32)>>, ColumnarError> {
        let mut postings = vec![Vec::new(); self.labels.len()];
        let mut columns: HashMap<u32, Vec<i64>> = HashMap::new();
        let mut integers = IntegerEncoder::default();
        let (mut bytes, mut body, mut distinct) = (Vec::new(), Vec::new(), Vec::new());
        let mut start = 0;
        for (page, ends) in (0u32..).zip(self.ends.chunks(PAGE_ROWS_MAX)) {
            for (row, end) in ends.iter().enumerate() {
                for (label, ordinal) in &self.cells[start..*end] {
                    let column = columns.entry(*label).or_default();
                    column.resize(row, 0);
                    column.push(i64::from(*ordinal) + 1);
                }
                start = *end;
            }
            let mut used: Vec<(&u32, &mut Vec<i64>)> =
                columns.iter_mut().filter(|(_, column)| !column.is_empty()).collect();
            used.sort_unstable_by_key(|(label, _)| **label);
            bytes.clear();
            body.clear();
            varint::put(used.len() as u64, &mut bytes);
            for (label, column) in used {
                column.resize(ends.len(), 0);
                let at = body.len();
                integers.encode(column, &mut body);
                varint::put(u64::from(*label), &mut bytes);
                varint::put((body.len() - at) as u64, &mut bytes);
                distinct.clear();
                distinct.extend_from_slice(column);
                distinct.dedup();
                distinct.sort_unstable();
                distinct.dedup();
                postings[*label as usize].extend(
                    distinct
                        .iter()
                        .filter_map(|cell| u32::try_from(cell - 1).ok())
                        .map(|o| (o, page)),
                );
                column.clear();
            }
            bytes.append(&mut body);
            let first = u64::from(page) * PAGE_ROWS_MAX as u64;
            pages.write(PageKind::Series, &bytes, (first, ends.len()), Compress::Try)?;
        }
        Ok(postings)
    }

    fn write_dictionaries<W: Write>(
        &self,
        postings: Vec<Vec<(u32, u32)>>,
        pages: &mut PageWriter<W>,
    ) -> Result<(), ColumnarError> {
        let mut writer = DictionaryWriter::default();
        let mut names = Vec::new();
        let mut bytes = Vec::new();
        for ((number, label), mut postings) in (0u64..).zip(&self.labels).zip(postings) {
            varint::put(label.name.len() as u64, &mut names);
            names.extend_from_slice(label.name.as_bytes());
            varint::put(label.values.len() as u64, &mut names);
            // Stable, so that pages keep ascending.
            postings.sort_by_key(|(ordinal, _)| *ordinal);
            let mut postings = postings.into_iter().peekable();
            let mut first = number << 32;
            for (ordinal, value) in (0u32..).zip(&label.values) {
                let of_value =
                    std::iter::from_fn(|| postings.next_if(|posting| posting.0 == ordinal));
                writer.push(value, of_value.map(|(_, page)| page));
                let last = ordinal as usize + 1 == label.values.len();
                if last || writer.is_full() {
                    bytes.clear();
                    let count = writer.finish(&mut bytes);
                    pages.write(PageKind::Dictionary, &bytes, (first, count), Compress::Try)?;
                    first = number << 32 | (u64::from(ordinal) + 1);
                }
            }
        }
        pages.write(PageKind::Names, &names, (0, self.labels.len()), Compress::Try)
    }
}

/// A name and how many values it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LabelName {
    pub(crate) name: String,
    pub(crate) values: u32,
}

/// Decodes the N page.
pub(crate) fn decode_names(mut input: &[u8], count: usize) -> Result<Vec<LabelName>, CodecError> {
    if count > NAMES_MAX {
        return Err(CodecError("too many label names"));
    }
    let input = &mut input;
    let mut names = Vec::new();
    for _ in 0..count {
        let len = varint::take_count(input, input.len())?;
        let name = std::str::from_utf8(varint::take_bytes(input, len)?)
            .map_err(|_| CodecError("label name is not UTF-8"))?;
        let values = u32::try_from(varint::take(input)?)
            .map_err(|_| CodecError("impossible count of label values"))?;
        names.push(LabelName { name: name.to_owned(), values });
    }
    let sorted = names.get(1..).is_none_or(|rest| rest.is_sorted_by(|a, b| a.name < b.name));
    let first = names.first().is_some_and(|first| first.name == METRIC_NAME);
    if !input.is_empty() || !sorted || !first {
        return Err(CodecError("label names are out of order"));
    }
    Ok(names)
}

/// An S page whose columns are decoded when they are first asked for.
#[derive(Debug)]
pub(crate) struct SeriesPage {
    bytes: Bytes,
    rows: usize,
    /// Ascending by label.
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    label: u32,
    /// Where it lies in the page's bytes.
    range: std::ops::Range<usize>,
    decoded: OnceLock<Box<[u32]>>,
}

impl SeriesPage {
    pub(crate) fn new(bytes: Bytes, rows: usize) -> Result<Self, CodecError> {
        if rows > PAGE_ROWS_MAX {
            return Err(CodecError("series page with too many series"));
        }
        let mut input = &bytes[..];
        let count = varint::take_count(&mut input, bytes.len())?;
        let mut columns = Vec::new();
        let mut end = 0usize;
        for _ in 0..count {
            let label = u32::try_from(varint::take(&mut input)?)
                .map_err(|_| CodecError("impossible label number"))?;
            let len = varint::take_count(&mut input, bytes.len())?;
            columns.push(Column { label, range: end..end + len, decoded: OnceLock::new() });
            end += len;
        }
        let base = bytes.len() - input.len();
        if end != input.len() || !columns.is_sorted_by(|a, b| a.label < b.label) {
            return Err(CodecError("columns of a series page do not fit it"));
        }
        for Column { range, .. } in &mut columns {
            *range = range.start + base..range.end + base;
        }
        Ok(Self { bytes, rows, columns })
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Numbers of the labels that occur here.
    pub(crate) fn labels(&self) -> impl Iterator<Item = u32> {
        self.columns.iter().map(|column| column.label)
    }

    /// Ordinal + 1 of every row, 0 where there is none; `None` if the label does not occur.
    pub(crate) fn column(&self, label: u32) -> Result<Option<&[u32]>, CodecError> {
        let Ok(at) = self.columns.binary_search_by_key(&label, |column| column.label) else {
            return Ok(None);
        };
        let column = &self.columns[at];
        if let Some(decoded) = column.decoded.get() {
            return Ok(Some(decoded));
        }
        let mut input = &self.bytes[column.range.clone()];
        let mut cells = Vec::with_capacity(self.rows);
        integers::decode(&mut input, self.rows, &mut cells)?;
        if !input.is_empty() {
            return Err(CodecError("bytes behind a label's column"));
        }
        let cells: Result<Box<[u32]>, _> = cells.into_iter().map(u32::try_from).collect();
        let cells = cells.map_err(|_| CodecError("impossible number of a label's value"))?;
        Ok(Some(column.decoded.get_or_init(|| cells)))
    }

    /// With all columns decoded.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len() + self.columns.len() * (size_of::<Column>() + self.rows * 4)
    }
}
