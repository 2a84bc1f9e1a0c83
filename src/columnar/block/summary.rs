//! What a chunk's samples come to, so that a query that takes whole chunks need not decode them.
//!
//! A pages hold this for the varying chunks of one directory page, as streams, one per field:
//!
//! ```text
//! flags    u8 per chunk: 1 decimal, 2 NaN among the values, 4 resets known
//! stale    varint per chunk
//! scale    u8 per decimal chunk, then for decimal chunks in integers of that scale, zz varints:
//! first, last − first, first − min, max − first, sum − count · first, and the correction of the
//!          sum's bits
//! resets   varint count and, if not 0, u64 bits of their sum, per decimal chunk that knows them
//! others   per other chunk: first, last, min, max, sum as u64 bits, and resets as above
//! ```
//!
//! Stale markers are no samples: they count in `stale` alone.

use crate::columnar::codec::CodecError;
use crate::columnar::codec::decimal::{Scale, correction};
use crate::columnar::codec::values::Form;
use crate::columnar::codec::varint;
use crate::model::is_stale;

/// With more resets than this in one chunk a series is no counter, and they are not kept.
const RESETS_MAX: u32 = 4;

const DECIMAL: u8 = 1;
const NAN: u8 = 2;
const RESETS_KNOWN: u8 = 4;

/// Aggregates of one chunk, without its stale markers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChunkSummary {
    /// Samples that are not stale markers.
    pub count: u32,
    /// Stale markers.
    pub stale: u32,
    /// The first and last of `count` samples; 0 if there are none.
    pub first: f64,
    pub last: f64,
    /// Least and greatest, NaNs left out; 0 if there are none.
    pub min: f64,
    pub max: f64,
    /// In time order with Neumaier's compensation, as Prometheus adds. Exact for whole numbers
    /// below 2^53.
    pub sum: f64,
    /// Whether a NaN that is no stale marker is among the samples; then decode for anything that
    /// orders or adds values.
    pub has_nan: bool,
    /// Whether `min` and `max` are so in their bits, in IEEE 754's total order: neither a NaN nor a
    /// zero of the other sign may be beyond them.
    pub is_ordered: bool,
    /// What a counter lost; `None` if the chunk has so many drops that it is no counter.
    pub resets: Option<Resets>,
}

/// The drops inside a chunk: `increase = last − first + sum`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Resets {
    pub count: u32,
    /// Of the values before each drop.
    pub sum: f64,
}

impl ChunkSummary {
    /// Of a chunk that holds one value `count` times.
    pub(crate) fn constant(value: f64, count: u32) -> Self {
        if is_stale(value) {
            return Self { count: 0, stale: count, ..Self::of(&[], Form::Other) };
        }
        Self {
            count,
            stale: 0,
            first: value,
            last: value,
            min: if value.is_nan() { 0.0 } else { value },
            max: if value.is_nan() { 0.0 } else { value },
            sum: value * f64::from(count),
            has_nan: value.is_nan(),
            is_ordered: !value.is_nan(),
            resets: Some(Resets::default()),
        }
    }

    /// `form` is what the encoder made of `values`.
    pub(crate) fn of(values: &[f64], form: Form<'_>) -> Self {
        match form {
            Form::Decimal(scale, integers) => Self::of_decimal(values, scale, integers),
            Form::Constant | Form::Other => Self::of_any(values),
        }
    }

    fn of_decimal(values: &[f64], scale: Scale, integers: &[i64]) -> Self {
        let decimal = Decimal::of(integers);
        let sum = if decimal.sums_exactly(scale, integers.len()) {
            scale.to_double(decimal.sum)
        } else {
            sum(values)
        };
        Self {
            count: u32::try_from(values.len()).expect("chunks are short"),
            stale: 0,
            first: scale.to_double(decimal.first),
            last: scale.to_double(decimal.last),
            min: scale.to_double(decimal.min),
            max: scale.to_double(decimal.max),
            sum,
            has_nan: false,
            is_ordered: true,
            resets: (decimal.resets <= RESETS_MAX).then(|| Resets {
                count: decimal.resets,
                sum: if decimal.resets == 0 { 0.0 } else { resets_sum(values) },
            }),
        }
    }

    fn of_any(values: &[f64]) -> Self {
        let mut kept = values.iter().copied().filter(|value| !is_stale(*value)).peekable();
        let mut summary = Self {
            count: 0,
            stale: 0,
            first: kept.peek().copied().unwrap_or(0.0),
            last: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            sum: 0.0,
            has_nan: false,
            is_ordered: false,
            resets: None,
        };
        let mut resets = Resets::default();
        let (mut ordered, mut compensation) = (false, 0.0);
        let mut before = f64::NAN;
        for value in kept {
            summary.count += 1;
            summary.last = value;
            summary.has_nan |= value.is_nan();
            ordered |= !value.is_nan();
            // Minus zero is not below zero: the first of the two stays, as in Prometheus.
            if value < summary.min {
                summary.min = value;
            }
            if value > summary.max {
                summary.max = value;
            }
            if value < before {
                resets.count += 1;
                resets.sum += before;
            }
            before = value;
            add(value, &mut summary.sum, &mut compensation);
        }
        summary.sum = finish(summary.sum, compensation);
        if !ordered {
            (summary.min, summary.max) = (0.0, 0.0);
        }
        summary.stale = u32::try_from(values.len()).expect("chunks are short") - summary.count;
        summary.resets = (resets.count <= RESETS_MAX).then_some(resets);
        summary.is_ordered = summary.orders_others();
        summary
    }

    /// [`ChunkSummary::is_ordered`] of a chunk whose values are of any kind: only a zero has an
    /// equal with other bits.
    fn orders_others(&self) -> bool {
        !self.has_nan && self.min != 0.0 && self.max != 0.0
    }
}

/// Aggregates of a decimal column, in its integers.
struct Decimal {
    first: i64,
    last: i64,
    min: i64,
    max: i64,
    sum: i64,
    resets: u32,
}

impl Decimal {
    fn of(integers: &[i64]) -> Self {
        let (first, last) = (integers[0], integers[integers.len() - 1]);
        let (mut min, mut max, mut sum) = (first, first, 0i64);
        for integer in integers {
            min = min.min(*integer);
            max = max.max(*integer);
            sum = sum.wrapping_add(*integer);
        }
        let resets = integers.windows(2).map(|two| u32::from(two[1] < two[0])).sum();
        Self { first, last, min, max, sum, resets }
    }

    /// Whether adding the doubles in any order gives `sum` without rounding.
    fn sums_exactly(&self, scale: Scale, count: usize) -> bool {
        let largest = self.min.unsigned_abs().max(self.max.unsigned_abs());
        scale == Scale::WHOLE && u128::from(largest) * count as u128 <= 1 << 51
    }
}

fn sum(values: &[f64]) -> f64 {
    let (mut sum, mut compensation) = (0.0, 0.0);
    values.iter().for_each(|value| add(*value, &mut sum, &mut compensation));
    finish(sum, compensation)
}

/// One step of Neumaier's sum.
/// Source: prometheus/util/kahansum, `Inc`.
#[inline(always)]
fn add(value: f64, sum: &mut f64, compensation: &mut f64) {
    let total = *sum + value;
    if total.is_infinite() {
        *compensation = 0.0;
    } else if sum.abs() >= value.abs() {
        *compensation += (*sum - total) + value;
    } else {
        *compensation += (value - total) + *sum;
    }
    *sum = total;
}

fn finish(sum: f64, compensation: f64) -> f64 {
    if sum.is_infinite() { sum } else { sum + compensation }
}

fn resets_sum(values: &[f64]) -> f64 {
    values.windows(2).filter(|two| two[1] < two[0]).map(|two| two[0]).sum()
}

/// Collects the summaries of one page.
#[derive(Debug, Default)]
pub(crate) struct SummaryWriter {
    flags: Vec<u8>,
    stale: Vec<u8>,
    scales: Vec<u8>,
    /// first, last, min, max, sum, correction of the sum.
    fields: [Vec<u8>; 6],
    resets: Vec<u8>,
    others: Vec<u8>,
}

impl SummaryWriter {
    pub(crate) fn push(&mut self, values: &[f64], form: Form<'_>) {
        let summary = ChunkSummary::of(values, form);
        let decimal = matches!(form, Form::Decimal(..));
        let flags =
            [(decimal, DECIMAL), (summary.has_nan, NAN), (summary.resets.is_some(), RESETS_KNOWN)];
        self.flags.push(flags.iter().filter(|(on, _)| *on).map(|(_, flag)| flag).sum());
        varint::put(u64::from(summary.stale), &mut self.stale);
        if let Form::Decimal(scale, integers) = form {
            self.push_decimal(&summary, scale, &Decimal::of(integers));
            return;
        }
        for value in [summary.first, summary.last, summary.min, summary.max, summary.sum] {
            self.others.extend(value.to_bits().to_le_bytes());
        }
        if let Some(resets) = summary.resets {
            put_resets(&mut self.others, resets);
        }
    }

    fn push_decimal(&mut self, summary: &ChunkSummary, scale: Scale, decimal: &Decimal) {
        self.scales.push(scale.to_byte());
        let Decimal { first, last, min, max, sum, .. } = *decimal;
        let about = sum.wrapping_sub(first.wrapping_mul(i64::from(summary.count)));
        let sum_correction = correction(scale.to_double(sum), summary.sum);
        let fields = [first, last - first, first - min, max - first, about, sum_correction];
        for (stream, field) in self.fields.iter_mut().zip(fields) {
            varint::put_signed(field, stream);
        }
        if let Some(resets) = summary.resets {
            put_resets(&mut self.resets, resets);
        }
    }

    /// Appends the page's bytes to `out` and starts anew.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        let Self { flags, stale, scales, fields, resets, others } = self;
        for stream in [flags, stale, scales].into_iter().chain(fields).chain([resets, others]) {
            out.append(stream);
        }
    }
}

/// Decodes a page of `counts.len()` chunks of so many samples.
pub(crate) fn decode(mut input: &[u8], counts: &[u32]) -> Result<Vec<ChunkSummary>, CodecError> {
    let input = &mut input;
    let flags = varint::take_bytes(input, counts.len())?;
    let mut summaries = Vec::with_capacity(counts.len());
    for (flags, count) in flags.iter().zip(counts) {
        let stale = u32::try_from(varint::take_count(input, *count as usize)?).unwrap_or(*count);
        summaries.push(ChunkSummary {
            count: count - stale,
            stale,
            has_nan: flags & NAN != 0,
            // Minus zero has no decimal form.
            is_ordered: flags & DECIMAL != 0,
            ..ChunkSummary::constant(0.0, 0)
        });
    }
    let decimal: Vec<usize> = (0..flags.len()).filter(|at| flags[*at] & DECIMAL != 0).collect();
    let scales = varint::take_bytes(input, decimal.len())?;
    let mut fields = [const { Vec::<i64>::new() }; 6];
    for field in &mut fields {
        for _ in &decimal {
            field.push(varint::take_signed(input)?);
        }
    }
    for (row, at) in decimal.iter().enumerate() {
        let scale = Scale::from_byte(scales[row]).ok_or(CodecError("unknown scale"))?;
        let [first, last, min, max, about, sum_correction] =
            [0, 1, 2, 3, 4, 5].map(|f| fields[f][row]);
        let summary = &mut summaries[*at];
        let sum = about.wrapping_add(first.wrapping_mul(i64::from(summary.count)));
        let bits = scale.to_double(sum).to_bits().wrapping_add(sum_correction.cast_unsigned());
        summary.first = scale.to_double(first);
        summary.last = scale.to_double(first.wrapping_add(last));
        summary.min = scale.to_double(first.wrapping_sub(min));
        summary.max = scale.to_double(first.wrapping_add(max));
        summary.sum = f64::from_bits(bits);
        summary.resets = take_resets(input, flags[*at], counts[*at])?;
    }
    for (at, summary) in summaries.iter_mut().enumerate() {
        if flags[at] & DECIMAL == 0 {
            for field in [
                &mut summary.first,
                &mut summary.last,
                &mut summary.min,
                &mut summary.max,
                &mut summary.sum,
            ] {
                *field = f64::from_bits(varint::take_u64(input)?);
            }
            summary.resets = take_resets(input, flags[at], counts[at])?;
            summary.is_ordered = summary.orders_others();
        }
    }
    if input.is_empty() { Ok(summaries) } else { Err(CodecError("bytes behind the summaries")) }
}

fn put_resets(out: &mut Vec<u8>, resets: Resets) {
    varint::put(u64::from(resets.count), out);
    if resets.count > 0 {
        out.extend(resets.sum.to_bits().to_le_bytes());
    }
}

fn take_resets(input: &mut &[u8], flags: u8, count: u32) -> Result<Option<Resets>, CodecError> {
    if flags & RESETS_KNOWN == 0 {
        return Ok(None);
    }
    let count = u32::try_from(varint::take_count(input, count as usize)?).unwrap_or(count);
    let sum = if count == 0 { 0.0 } else { f64::from_bits(varint::take_u64(input)?) };
    Ok(Some(Resets { count, sum }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columnar::codec::values::ValueEncoder;
    use crate::model::stale_nan;

    #[track_caller]
    fn check(columns: &[Vec<f64>]) -> Vec<ChunkSummary> {
        let mut writer = SummaryWriter::default();
        let mut encoder = ValueEncoder::default();
        for column in columns {
            let form = encoder.encode_varying(column, &mut Vec::new());
            writer.push(column, form);
        }
        let mut bytes = Vec::new();
        writer.finish(&mut bytes);
        let counts: Vec<u32> =
            columns.iter().map(|column| u32::try_from(column.len()).unwrap()).collect();
        let summaries = decode(&bytes, &counts).unwrap();
        for (summary, column) in summaries.iter().zip(columns) {
            // Whichever way it was encoded, it says what the plain walk finds, which does not
            // know of a decimal form that it has no minus zero.
            let plain = ChunkSummary::of_any(column);
            assert!(summary.is_ordered || !plain.is_ordered);
            let plain = ChunkSummary { is_ordered: summary.is_ordered, ..plain };
            assert_eq!(format!("{summary:?}"), format!("{plain:?}"));
        }
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut], &counts).is_err());
        }
        summaries
    }

    #[test]
    fn summaries_say_what_the_samples_come_to() {
        let summaries = check(&[
            (0..480).map(|i| f64::from(i % 200)).collect(),
            (0..480).map(|i| f64::from((i * 37) % 100) / 10.0 - 3.0).collect(),
            vec![1.0, f64::NAN, 3.0, stale_nan()],
            vec![f64::INFINITY, f64::INFINITY, 1.0],
            vec![f64::NAN, stale_nan()],
            vec![0.1, 0.2, -0.3],
            vec![1e300, 1e300, f64::MAX, -1.0],
        ]);
        assert_eq!(summaries[0].resets, Some(Resets { count: 2, sum: 398.0 }));
        assert_eq!(summaries[0].sum, (0..480).map(|i| f64::from(i % 200)).sum::<f64>());
        assert_eq!(summaries[1].resets, None);
        assert_eq!((summaries[2].count, summaries[2].stale, summaries[2].has_nan), (3, 1, true));
        assert_eq!((summaries[2].min, summaries[2].max), (1.0, 3.0));
        assert!(summaries[0].is_ordered && !summaries[2].is_ordered && summaries[3].is_ordered);
        let zeros = check(&[vec![0.0, -0.0, 1e300], vec![-0.0, 1.0], vec![-1.0, -0.0, 1.0]]);
        assert_eq!(
            zeros.iter().map(|zero| zero.is_ordered).collect::<Vec<_>>(),
            [false, false, true]
        );
        assert_eq!(ChunkSummary::constant(stale_nan(), 9).stale, 9);
        assert_eq!(ChunkSummary::constant(2.0, 3).sum, 6.0);
    }
}
