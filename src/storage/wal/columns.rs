//! Samples as columns of bytes: the payload of a SAMPLES record (picture in `record`).
//!
//! The work per sample is a few nanoseconds without a branch that depends on the data: numbers
//! take as many bytes as they need, and the lengths stand apart from the numbers.
//!
//! Invariant: every f64 comes back with the same bits. Decimals are used for a block only if
//! each of its values is equal, bit for bit, to what the decoder will compute.

use crate::model::{SampleBatch, SeriesRef};
use crate::storage::wal::cursor::{Cursor, Malformed, put_varint, unzigzag, zigzag};

/// Numbers that share one block header.
const BLOCK_LEN: usize = 128;

/// A column kind: runs of numbers that grow by the column's stride.
const RUNS: u8 = 0;
/// A column kind: differences.
const DELTAS: u8 = 1;

/// Runs are written if there are at least this many numbers per run.
const RUN_LEN_MIN: usize = 4;

/// Series ids of a scrape follow each other; its timestamps are equal.
const ID_STRIDE: i64 = 1;
const TIMESTAMP_STRIDE: i64 = 0;

/// A block kind below this is a decimal scale.
const SCALES: usize = 13;
/// A block kind: the values' own bits.
const RAW: u8 = 0xff;

const POWERS: [f64; SCALES] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12];

/// Adding this rounds a number below 2^51 to a whole one, which then stands in the low bits.
const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// Values that are tried against a scale before the next ones are looked at.
const TRIAL_LEN: usize = 8;

/// Most samples of one record: bounds what a decoder allocates.
pub(super) const SAMPLES_MAX: usize = 1 << 22;

/// Appends the payload for `batch`.
pub(super) fn encode(batch: &SampleBatch, out: &mut Vec<u8>) {
    assert!(
        batch.series.len() == batch.timestamps.len() && batch.series.len() == batch.values.len(),
        "the columns of a batch are of equal length"
    );
    put_varint(out, batch.len() as u64);
    put_column(&batch.series, |series| i64::from(series.0), ID_STRIDE, out);
    put_column(&batch.timestamps, |timestamp| timestamp, TIMESTAMP_STRIDE, out);
    put_values(&batch.values, out);
}

/// Fills `batch` from a payload. On error, what it holds means nothing.
pub(super) fn decode(payload: &[u8], batch: &mut SampleBatch) -> Result<(), Malformed> {
    batch.clear();
    let mut cursor = Cursor::new(payload);
    // Each sample has at least half a byte of value length.
    let count = cursor.bounded(SAMPLES_MAX.min(payload.len().saturating_mul(2)))?;
    // The largest id seen and whether any was negative, in one look at the end.
    let mut all_bits = 0u64;
    batch.series.reserve(count);
    take_column(&mut cursor, count, ID_STRIDE, |id| {
        let id = id.cast_unsigned();
        all_bits |= id;
        let bytes = id.to_le_bytes();
        batch.series.push(SeriesRef(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])));
    })?;
    if all_bits > u64::from(u32::MAX) {
        return Err("a series id has more than 32 bits");
    }
    batch.timestamps.reserve(count);
    take_column(&mut cursor, count, TIMESTAMP_STRIDE, |timestamp| {
        batch.timestamps.push(timestamp);
    })?;
    batch.values.reserve(count);
    take_values(&mut cursor, count, &mut batch.values)?;
    if cursor.is_empty() { Ok(()) } else { Err("bytes after the last value") }
}

fn put_column<T: Copy>(
    column: &[T],
    number: impl Fn(T) -> i64 + Copy,
    stride: i64,
    out: &mut Vec<u8>,
) {
    let breaks = column
        .windows(2)
        .filter(|pair| number(pair[1]) != number(pair[0]).wrapping_add(stride))
        .count();
    if (breaks + 1).saturating_mul(RUN_LEN_MIN) <= column.len() {
        out.push(RUNS);
        let mut expected = 0;
        for run in column.chunk_by(|a, b| number(*b) == number(*a).wrapping_add(stride)) {
            let start = number(run[0]);
            put_varint(out, zigzag(start.wrapping_sub(expected)));
            put_varint(out, run.len() as u64);
            expected = number(run[run.len() - 1]).wrapping_add(stride);
        }
    } else {
        out.push(DELTAS);
        let mut previous = 0;
        let mut deltas = [0; BLOCK_LEN];
        for block in column.chunks(BLOCK_LEN) {
            for (delta, item) in deltas.iter_mut().zip(block) {
                let item = number(*item);
                *delta = zigzag(item.wrapping_sub(previous));
                previous = item;
            }
            put_block(&deltas[..block.len()], out);
        }
    }
}

fn take_column(
    cursor: &mut Cursor<'_>,
    count: usize,
    stride: i64,
    mut push: impl FnMut(i64),
) -> Result<(), Malformed> {
    let mut left = count;
    match cursor.byte()? {
        RUNS => {
            let mut next = 0i64;
            while left > 0 {
                next = next.wrapping_add(unzigzag(cursor.varint()?));
                let len = cursor.bounded(left)?;
                if len == 0 {
                    return Err("a run is empty");
                }
                for _ in 0..len {
                    push(next);
                    next = next.wrapping_add(stride);
                }
                left -= len;
            }
        }
        DELTAS => {
            let mut previous = 0i64;
            let mut deltas = [0; BLOCK_LEN];
            while left > 0 {
                let len = left.min(BLOCK_LEN);
                take_block(cursor, &mut deltas[..len])?;
                for delta in &deltas[..len] {
                    previous = previous.wrapping_add(unzigzag(*delta));
                    push(previous);
                }
                left -= len;
            }
        }
        _ => return Err("an unknown kind of column"),
    }
    Ok(())
}

fn put_values(values: &[f64], out: &mut Vec<u8>) {
    let mut mantissas = [0; BLOCK_LEN];
    for block in values.chunks(BLOCK_LEN) {
        match to_decimals(block, &mut mantissas[..block.len()]) {
            Some(scale) => {
                out.push(scale);
                put_block(&mantissas[..block.len()], out);
            }
            None => {
                out.push(RAW);
                let mut bytes = [[0; 8]; BLOCK_LEN];
                for (bytes, value) in bytes.iter_mut().zip(block) {
                    *bytes = value.to_bits().to_le_bytes();
                }
                out.extend_from_slice(bytes[..block.len()].as_flattened());
            }
        }
    }
}

fn take_values(
    cursor: &mut Cursor<'_>,
    count: usize,
    values: &mut Vec<f64>,
) -> Result<(), Malformed> {
    let mut left = count;
    let mut mantissas = [0; BLOCK_LEN];
    while left > 0 {
        let len = left.min(BLOCK_LEN);
        match cursor.byte()? {
            RAW => {
                let (bytes, _) = cursor.take(8 * len)?.as_chunks::<8>();
                values.extend(bytes.iter().map(|bits| f64::from_bits(u64::from_le_bytes(*bits))));
            }
            scale => {
                let power = *POWERS.get(usize::from(scale)).ok_or("an unknown kind of values")?;
                take_block(cursor, &mut mantissas[..len])?;
                values.extend(mantissas[..len].iter().map(|mantissa| {
                    #[expect(clippy::cast_precision_loss, reason = "mantissas are below 2^51")]
                    let whole = unzigzag(*mantissa) as f64;
                    whole / power
                }));
            }
        }
        left -= len;
    }
    Ok(())
}

/// The smallest scale at which all values are whole numbers, with those numbers in zigzag form.
fn to_decimals(values: &[f64], mantissas: &mut [u64]) -> Option<u8> {
    // Where the previous scale failed is where the next one is tried first.
    let mut doubtful = 0;
    'scales: for (scale, power) in (0u8..).zip(POWERS) {
        let trial = doubtful..values.len().min(doubtful + TRIAL_LEN);
        if !scale_exactly(&values[trial.clone()], power, &mut mantissas[trial]) {
            continue;
        }
        let chunks = values.chunks(TRIAL_LEN).zip(mantissas.chunks_mut(TRIAL_LEN));
        for (index, (values, mantissas)) in chunks.enumerate() {
            if !scale_exactly(values, power, mantissas) {
                doubtful = index * TRIAL_LEN;
                continue 'scales;
            }
        }
        return Some(scale);
    }
    None
}

/// Multiplies by `power`; whether dividing the whole results gives back the same bits.
#[inline]
fn scale_exactly(values: &[f64], power: f64, mantissas: &mut [u64]) -> bool {
    let mut wrong = 0;
    for (value, mantissa) in values.iter().zip(mantissas) {
        let rounded = value * power + ROUNDER;
        let back = (rounded - ROUNDER) / power;
        wrong |= back.to_bits() ^ value.to_bits();
        // Another exponent than the rounder's: out of range, infinite or not a number.
        wrong |= (rounded.to_bits() ^ ROUNDER.to_bits()) >> 52;
        *mantissa = zigzag(rounded.to_bits().wrapping_sub(ROUNDER.to_bits()).cast_signed());
    }
    wrong == 0
}

/// Appends up to [`BLOCK_LEN`] numbers: half a byte of length for each, then their bytes.
fn put_block(numbers: &[u64], out: &mut Vec<u8>) {
    let mut lens = [0u8; BLOCK_LEN / 2];
    let mut bytes = [0u8; BLOCK_LEN * 8];
    let mut at = 0;
    let mut put = |number: u64| -> u8 {
        let len = byte_len(number);
        if let Some(slot) = bytes[at..].first_chunk_mut() {
            *slot = number.to_le_bytes();
        }
        at += usize::from(len);
        len
    };
    let (pairs, odd) = numbers.as_chunks::<2>();
    for (lens, [low, high]) in lens.iter_mut().zip(pairs) {
        *lens = put(*low) | put(*high) << 4;
    }
    if let [last] = odd {
        lens[pairs.len()] = put(*last);
    }
    out.extend_from_slice(&lens[..numbers.len().div_ceil(2)]);
    out.extend_from_slice(&bytes[..at]);
}

/// Fills `numbers`, at most [`BLOCK_LEN`] of them, from what [`put_block`] wrote.
fn take_block(cursor: &mut Cursor<'_>, numbers: &mut [u64]) -> Result<(), Malformed> {
    let lens = cursor.take(numbers.len().div_ceil(2))?;
    let total: usize =
        lens.iter().map(|pair| usize::from(pair & 15) + usize::from(pair >> 4)).sum();
    if lens.iter().any(|pair| pair & 15 > 8 || pair >> 4 > 8) {
        return Err("a number has more than eight bytes");
    }
    // A copy with room behind it, so that every number is one load of eight bytes and a mask.
    let mut bytes = [0u8; BLOCK_LEN * 8 + 8];
    bytes[..total].copy_from_slice(cursor.take(total)?);
    let mut at = 0;
    for (index, number) in numbers.iter_mut().enumerate() {
        let len = lens[index / 2] >> (4 * (index % 2)) & 15;
        let loaded = bytes[at..].first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        *number = loaded & MASKS[usize::from(len)];
        at += usize::from(len);
    }
    Ok(())
}

/// The low `n` bytes.
const MASKS: [u64; 16] = {
    let mut masks = [u64::MAX; 16];
    let mut len = 0;
    while len < 8 {
        masks[len] = (1 << (8 * len)) - 1;
        len += 1;
    }
    masks
};

/// Bytes that `number` needs, 0 to 8.
#[inline]
fn byte_len(number: u64) -> u8 {
    ((71 - number.leading_zeros()) / 8).to_le_bytes()[0]
}
