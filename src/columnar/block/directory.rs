//! D pages: where each chunk's columns are, by columns.

use crate::columnar::block::format::PAGE_ROWS_MAX;
use crate::columnar::block::times::TimesRef;
use crate::columnar::codec::integers::{self, IntegerEncoder};
use crate::columnar::codec::varint::{self, unzigzag, zigzag};
use crate::columnar::codec::{CHUNK_SAMPLES_MAX, CodecError};

/// Integers up to this stand in the stream of constants as integers.
const WHOLE_LIMIT: f64 = (1u64 << 51) as f64;

/// One chunk.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Entry {
    /// Local number.
    pub(crate) series: u32,
    pub(crate) samples: u32,
    pub(crate) times: EntryTimes,
    pub(crate) values: EntryValues,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum EntryTimes {
    /// The one timestamp of a chunk with one sample.
    Single(i64),
    Column(TimesRef),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum EntryValues {
    /// All samples have this value.
    Constant(f64),
    /// Offset in the space of raw V bytes, and length.
    Payload { offset: u64, len: u32 },
}

/// Collects the entries of one page.
#[derive(Debug, Default)]
pub(crate) struct DirectoryWriter {
    integers: IntegerEncoder,
    entries: Vec<Entry>,
    column: Vec<i64>,
}

impl DirectoryWriter {
    pub(crate) fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= PAGE_ROWS_MAX
    }

    /// Appends the page's bytes to `out` and starts anew; the first series and the count.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> Option<(u64, usize)> {
        let first = u64::from(self.entries.first()?.series);
        let mut before = self.entries[0].series;
        self.write_column(out, |entry| {
            i64::from(entry.series - std::mem::replace(&mut before, entry.series))
        });
        self.write_column(out, |entry| i64::from(entry.samples));
        self.write_column(out, |entry| match entry.times {
            EntryTimes::Single(_) => -1,
            EntryTimes::Column(times) => i64::from(times.column),
        });
        self.write_column(out, |entry| match entry.times {
            EntryTimes::Single(_) => 0,
            EntryTimes::Column(times) => i64::from(times.start),
        });
        let mut expected = 0u64;
        self.write_column(out, |entry| match entry.values {
            EntryValues::Constant(_) => 0,
            EntryValues::Payload { offset, len } => {
                let jump = offset.wrapping_sub(expected).cast_signed();
                expected = offset + u64::from(len);
                jump
            }
        });
        self.write_column(out, |entry| match entry.values {
            EntryValues::Constant(_) => 0,
            EntryValues::Payload { len, .. } => i64::from(len),
        });
        for entry in &self.entries {
            if let EntryValues::Constant(value) = entry.values {
                put_constant(value, out);
            }
        }
        let mut before = 0;
        for entry in &self.entries {
            if let EntryTimes::Single(at) = entry.times {
                varint::put_signed(at.wrapping_sub(std::mem::replace(&mut before, at)), out);
            }
        }
        let count = self.entries.len();
        self.entries.clear();
        Some((first, count))
    }

    fn write_column(&mut self, out: &mut Vec<u8>, field: impl FnMut(&Entry) -> i64) {
        self.column.clear();
        self.column.extend(self.entries.iter().map(field));
        self.integers.encode(&self.column, out);
    }
}

/// Decodes a page of `count` entries that starts with series `first`.
pub(crate) fn decode(mut input: &[u8], first: u32, count: usize) -> Result<Vec<Entry>, CodecError> {
    if count > PAGE_ROWS_MAX {
        return Err(CodecError("directory page with too many chunks"));
    }
    let input = &mut input;
    let mut columns = [const { Vec::<i64>::new() }; 6];
    for column in &mut columns {
        column.reserve(count);
        integers::decode(input, count, column)?;
    }
    let [series_steps, samples, times, starts, jumps, lens] = columns;
    let mut entries = Vec::with_capacity(count);
    let (mut series, mut expected) = (first, 0u64);
    for row in 0..count {
        series = u32::try_from(series_steps[row])
            .ok()
            .and_then(|step| series.checked_add(step))
            .ok_or(CodecError("series of a directory page do not ascend"))?;
        let samples = bounded(samples[row], CHUNK_SAMPLES_MAX as i64)?;
        let times = match times[row] {
            // The timestamps stand at the page's end.
            -1 if samples == 1 => EntryTimes::Single(0),
            column => EntryTimes::Column(TimesRef {
                column: bounded(column, i64::from(u32::MAX))?,
                start: bounded(starts[row], CHUNK_SAMPLES_MAX as i64)?,
            }),
        };
        let len = bounded(lens[row], i64::from(u32::MAX))?;
        let values = if len == 0 {
            EntryValues::Constant(0.0)
        } else {
            let offset = expected.wrapping_add(jumps[row].cast_unsigned());
            expected = offset.wrapping_add(u64::from(len));
            EntryValues::Payload { offset, len }
        };
        entries.push(Entry { series, samples, times, values });
    }
    for entry in &mut entries {
        if let EntryValues::Constant(value) = &mut entry.values {
            *value = take_constant(input)?;
        }
    }
    let mut before = 0i64;
    for entry in &mut entries {
        if let EntryTimes::Single(at) = &mut entry.times {
            before = before.wrapping_add(varint::take_signed(input)?);
            *at = before;
        }
    }
    if input.is_empty() { Ok(entries) } else { Err(CodecError("bytes behind a directory page")) }
}

fn bounded(value: i64, most: i64) -> Result<u32, CodecError> {
    u32::try_from(value)
        .ok()
        .filter(|_| value <= most)
        .ok_or(CodecError("impossible number in a directory page"))
}

fn put_constant(value: f64, out: &mut Vec<u8>) {
    let whole = value.abs() < WHOLE_LIMIT && value.trunc().to_bits() == value.to_bits();
    // Minus zero is whole too, but comes back as zero.
    if whole && value.to_bits() != (-0.0f64).to_bits() {
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^51")]
        varint::put(zigzag(value as i64) << 1, out);
    } else {
        out.push(1);
        out.extend(value.to_bits().to_le_bytes());
    }
}

fn take_constant(input: &mut &[u8]) -> Result<f64, CodecError> {
    match varint::take(input)? {
        1 => varint::take_u64(input).map(f64::from_bits),
        word if word & 1 == 0 => Ok(unzigzag(word >> 1) as f64),
        _ => Err(CodecError("unknown form of a constant")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::stale_nan;

    #[test]
    fn entries_come_back() {
        let mut writer = DirectoryWriter::default();
        let constants = [0.0, -0.0, 1.0, -7.0, 0.5, f64::NAN, stale_nan(), 1e300, 2e15, 4.5e15];
        let entries: Vec<Entry> = (0..1000u32)
            .map(|i| Entry {
                series: 5 + i / 3,
                samples: if i % 10 == 0 { 1 } else { 480 },
                times: if i % 10 == 0 {
                    EntryTimes::Single(i64::from(i) * 1_000_003 - 7)
                } else {
                    EntryTimes::Column(TimesRef { column: i % 4, start: i % 7 })
                },
                values: if i % 3 == 0 {
                    EntryValues::Constant(constants[i as usize % constants.len()])
                } else {
                    EntryValues::Payload { offset: u64::from(i / 5) * 100, len: 100 }
                },
            })
            .collect();
        entries.iter().for_each(|entry| writer.push(*entry));
        let mut bytes = Vec::new();
        assert_eq!(writer.finish(&mut bytes), Some((5, 1000)));
        let back = decode(&bytes, 5, 1000).unwrap();
        // NaN is not equal to itself; its bits must be.
        let bits = |entry: &Entry| match entry.values {
            EntryValues::Constant(value) => value.to_bits(),
            EntryValues::Payload { offset, .. } => offset,
        };
        assert!(back.iter().map(bits).eq(entries.iter().map(bits)));
        assert_eq!(format!("{back:?}"), format!("{entries:?}"));
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut], 5, 1000).is_err());
        }
        assert_eq!(writer.finish(&mut bytes), None);
    }
}
