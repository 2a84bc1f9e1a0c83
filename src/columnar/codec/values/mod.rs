//! The value column of one chunk: scaled integers with exact corrections.
//!
//! ```text
//! payload := u8 kind << 4 | corrected << 3 | divided << 2 | transform, then by kind
//! CONST    u64 bits (the one value of all samples)
//! DEC      u8 scale [varint divisor, zz first] column of integers [run of zz corrections]
//! BITS     u8 trailing zero bits, column of order-preserving integers of the bits
//! RAW      n × u64
//! ```
//!
//! A DEC value is its integer scaled to a double, plus the correction on the double's bits. NaN,
//! infinities, −0.0 and values without a short decimal form are large corrections on a repeated
//! integer, so there are no special cases and every value keeps its bits.
//!
//! The chooser: one value → CONST; a decimal form by sample → DEC; if that is none, or wide, BITS
//! too, and the shorter stays; RAW if nothing is shorter.

use crate::columnar::codec::decimal::{self, Scale, correction};
use crate::columnar::codec::integers::{self, IntegerEncoder, Transform};
use crate::columnar::codec::varint::{self, unzigzag, zigzag};
use crate::columnar::codec::{CHUNK_SAMPLES_MAX, CodecError, pfor};

const CONST: u8 = 0;
const DEC: u8 = 1;
const BITS: u8 = 2;
const RAW: u8 = 3;
const CORRECTED: u8 = 8;
const DIVIDED: u8 = 4;

/// Wider than this, the decimal form is compared with the bits.
const WIDE_BYTES_PER_VALUE: usize = 3;

/// Encodes the value columns of many chunks, one after the other.
#[derive(Debug, Default)]
pub struct ValueEncoder {
    integers: Vec<i64>,
    quotients: Vec<i64>,
    corrections: Vec<u64>,
    columns: IntegerEncoder,
    alternative: Vec<u8>,
}

/// What the encoder found out about a column, of use for aggregates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form<'a> {
    /// All values have the same bits.
    Constant,
    /// Every value is exactly its integer, scaled.
    Decimal(Scale, &'a [i64]),
    Other,
}

/// Encodes one column; [`ValueEncoder`] spares the allocations of many.
pub fn encode(values: &[f64], out: &mut Vec<u8>) {
    ValueEncoder::default().encode(values, out);
}

impl ValueEncoder {
    /// Appends the payload of `values` to `out`.
    ///
    /// # Panics
    /// If there are more than [`CHUNK_SAMPLES_MAX`] values.
    pub fn encode(&mut self, values: &[f64], out: &mut Vec<u8>) {
        assert!(values.len() <= CHUNK_SAMPLES_MAX, "chunk of {} samples", values.len());
        if let (Some(first), Form::Constant) = (values.first(), self.encode_varying(values, out)) {
            out.push(CONST << 4);
            out.extend_from_slice(&first.to_bits().to_le_bytes());
        }
    }

    /// Appends the payload of `values`, but nothing if they are constant.
    pub(crate) fn encode_varying(&mut self, values: &[f64], out: &mut Vec<u8>) -> Form<'_> {
        if is_constant(values) {
            return Form::Constant;
        }
        let start = out.len();
        let decimal =
            decimal::choose(values).map(|scale| (scale, self.encode_decimal(values, scale, out)));
        let decimal_len = out.len() - start;
        if decimal.is_some() && decimal_len <= WIDE_BYTES_PER_VALUE * values.len() {
            return match decimal {
                Some((scale, 0)) => Form::Decimal(scale, &self.integers),
                _ => Form::Other,
            };
        }
        self.encode_bits(values);
        let raw_len = 1 + 8 * values.len();
        if decimal.is_some() && decimal_len <= raw_len.min(self.alternative.len()) {
            return Form::Other;
        }
        out.truncate(start);
        if self.alternative.len() < raw_len {
            out.extend_from_slice(&self.alternative);
        } else {
            out.push(RAW << 4);
            out.extend(values.iter().flat_map(|value| value.to_bits().to_le_bytes()));
        }
        Form::Other
    }

    /// Returns how many values needed a correction.
    fn encode_decimal(&mut self, values: &[f64], scale: Scale, out: &mut Vec<u8>) -> usize {
        let misses = scale.scale_all(values, &mut self.integers);
        if misses > 0 {
            self.correct(values, scale);
        }
        let head = out.len();
        out.extend([DEC << 4 | if misses > 0 { CORRECTED } else { 0 }, scale.to_byte()]);
        let divisor = common_divisor(&self.integers);
        let column = if divisor > 1 {
            let first = self.integers[0];
            out[head] |= DIVIDED;
            varint::put(divisor.cast_unsigned(), out);
            varint::put_signed(first, out);
            self.quotients.clear();
            self.quotients.extend(self.integers.iter().map(|x| (x - first) / divisor));
            &self.quotients
        } else {
            &self.integers
        };
        let plan = self.columns.plan(column);
        out[head] |= plan.transform as u8;
        self.columns.write(plan, column, out);
        if misses > 0 {
            pfor::encode(&self.corrections, out);
        }
        misses
    }

    /// Makes `corrections`, and gives values out of range the integer before.
    fn correct(&mut self, values: &[f64], scale: Scale) {
        self.corrections.clear();
        let mut before = 0;
        for (value, integer) in values.iter().zip(&mut self.integers) {
            *integer = scale.to_integer(*value).unwrap_or(before);
            before = *integer;
            self.corrections.push(zigzag(correction(scale.to_double(before), *value)));
        }
    }

    /// Fills `alternative`.
    fn encode_bits(&mut self, values: &[f64]) {
        self.quotients.clear();
        self.quotients.extend(values.iter().map(|value| ordered(value.to_bits()).cast_signed()));
        let any = self.quotients.iter().fold(0, |any, integer| any | integer);
        let shift = any.trailing_zeros() % i64::BITS;
        self.quotients.iter_mut().for_each(|integer| *integer >>= shift);
        self.alternative.clear();
        let plan = self.columns.plan(&self.quotients);
        let shift_byte = varint::low_byte(u64::from(shift));
        self.alternative.extend([BITS << 4 | plan.transform as u8, shift_byte]);
        self.columns.write(plan, &self.quotients, &mut self.alternative);
    }
}

/// Appends the `count` values of a payload to `out`. The payload must hold nothing else.
pub fn decode(payload: &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), CodecError> {
    if count > CHUNK_SAMPLES_MAX {
        return Err(CodecError("chunk with too many samples"));
    }
    let start = out.len();
    out.reserve(count);
    let result = decode_onto(payload, count, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn decode_onto(mut input: &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), CodecError> {
    if count == 0 {
        return end_of(input);
    }
    let head = varint::take_byte(&mut input)?;
    let transform = Transform::from_bits(head);
    match head >> 4 {
        CONST if head == CONST << 4 => {
            let value = f64::from_bits(varint::take_u64(&mut input)?);
            out.extend(std::iter::repeat_n(value, count));
        }
        DEC => decode_decimal(head, transform, &mut input, count, out)?,
        BITS if head & (CORRECTED | DIVIDED) == 0 => {
            let shift = u32::from(varint::take_byte(&mut input)?);
            if shift > 63 {
                return Err(CodecError("shift of a bits column over 63"));
            }
            integers::decode_blocks(transform, &mut input, count, |words| {
                out.extend(words.iter().map(|word| f64::from_bits(ordered(*word << shift))));
            })?;
        }
        RAW if head == RAW << 4 => {
            let (bytes, rest) = varint::take_bytes(&mut input, count * 8)?.as_chunks::<8>();
            debug_assert!(rest.is_empty(), "a multiple of eight was taken");
            out.extend(bytes.iter().map(|bytes| f64::from_bits(u64::from_le_bytes(*bytes))));
        }
        _ => return Err(CodecError("unknown kind of value column")),
    }
    end_of(input)
}

fn decode_decimal(
    head: u8,
    transform: Transform,
    input: &mut &[u8],
    count: usize,
    out: &mut Vec<f64>,
) -> Result<(), CodecError> {
    let scale = Scale::from_byte(varint::take_byte(input)?).ok_or(CodecError("unknown scale"))?;
    let start = out.len();
    if head & DIVIDED == 0 {
        integers::decode_blocks(transform, input, count, |words| scale.to_doubles(words, out))?;
    } else {
        let divisor = varint::take(input)?;
        let first = varint::take_signed(input)?.cast_unsigned();
        integers::decode_blocks(transform, input, count, |words| {
            words.iter_mut().for_each(|word| {
                *word = word.wrapping_mul(divisor).wrapping_add(first);
            });
            scale.to_doubles(words, out);
        })?;
    }
    if head & CORRECTED != 0 {
        let mut values = out[start..].iter_mut();
        pfor::decode(input, count, |words| {
            for (word, value) in words.iter().zip(&mut values) {
                let bits = value.to_bits().wrapping_add(unzigzag(*word).cast_unsigned());
                *value = f64::from_bits(bits);
            }
        })?;
    }
    Ok(())
}

fn end_of(input: &[u8]) -> Result<(), CodecError> {
    if input.is_empty() { Ok(()) } else { Err(CodecError("bytes behind a value column")) }
}

fn is_constant(values: &[f64]) -> bool {
    let Some(first) = values.first() else { return true };
    // In blocks, so that it is quick for constants and stops early for others.
    values.chunks(32).all(|block| {
        block.iter().fold(0, |differs, value| differs | (value.to_bits() ^ first.to_bits())) == 0
    })
}

/// The integers order as the doubles do. Its own inverse.
#[inline(always)]
fn ordered(bits: u64) -> u64 {
    bits ^ ((bits.cast_signed() >> 63).cast_unsigned() >> 1)
}

/// The greatest divisor of all differences from the first, 1 if there is none.
fn common_divisor(integers: &[i64]) -> i64 {
    let Some((first, rest)) = integers.split_first() else { return 1 };
    let mut divisor = 0;
    for integer in rest {
        let difference = (integer - first).abs();
        // Most differences repeat or are multiples; the full algorithm is for the others.
        if divisor == 0 {
            divisor = difference;
        } else if difference % divisor != 0 {
            divisor = greatest_common(divisor, difference);
        }
        if divisor == 1 {
            return 1;
        }
    }
    divisor.max(1)
}

fn greatest_common(mut left: i64, mut right: i64) -> i64 {
    while right != 0 {
        (left, right) = (right, left % right);
    }
    left
}

#[cfg(test)]
mod tests;
