//! The timestamp column of one chunk, in the shortest of three forms.
//!
//! ```text
//! payload := u8 mode | 0x80 if unit, zz first, [varint unit], then by mode
//! DOD   zz first delta, run of zigzag(delta − delta before)
//! RLE   zz first delta, { zz delta-of-delta, varint count } until all are there
//! GRID  varint step, zz least residual, run of (slots advanced − 1), run of (residual − least)
//! ```
//!
//! Deltas, steps and residuals count in `unit` (1 ms if not given). GRID is for scrapes with
//! jitter: `t = first + slot · step + residual`; delta-of-delta would spread the jitter over
//! 2.5 times its width. Any column of i64 has a DOD form; ascending ones may have the others.

use crate::columnar::codec::varint::{self, unzigzag, zigzag};
use crate::columnar::codec::{CHUNK_SAMPLES_MAX, CodecError, pfor};

const DOD: u8 = 0;
const RLE: u8 = 1;
const GRID: u8 = 2;
const UNIT: u8 = 0x80;

/// Encodes the timestamp columns of many chunks, one after the other.
#[derive(Debug, Default)]
pub struct TimestampEncoder {
    deltas: Vec<i64>,
    words: Vec<u64>,
    residuals: Vec<i64>,
    alternative: Vec<u8>,
}

/// Encodes one column; [`TimestampEncoder`] spares the allocations of many.
pub fn encode(timestamps: &[i64], out: &mut Vec<u8>) {
    TimestampEncoder::default().encode(timestamps, out);
}

impl TimestampEncoder {
    /// Appends the payload of `timestamps` to `out`.
    ///
    /// # Panics
    /// If there are more than [`CHUNK_SAMPLES_MAX`] timestamps.
    pub fn encode(&mut self, timestamps: &[i64], out: &mut Vec<u8>) {
        assert!(timestamps.len() <= CHUNK_SAMPLES_MAX, "chunk of {} samples", timestamps.len());
        let Some(first) = timestamps.first() else { return };
        self.deltas.clear();
        self.deltas.extend(timestamps.windows(2).map(|two| two[1].wrapping_sub(two[0])));
        let unit = self.divide_by_unit();
        let head = out.len();
        out.push(if unit > 1 { UNIT } else { 0 });
        varint::put_signed(*first, out);
        if unit > 1 {
            varint::put(unit.cast_unsigned(), out);
        }
        let body = out.len();
        self.encode_dod(out);
        self.alternative.clear();
        if self.encode_rle(out.len() - body) {
            out.truncate(body);
            out.extend_from_slice(&self.alternative);
            out[head] = out[head] & UNIT | RLE;
        }
        // Below this, delta-of-delta cannot be beaten by much.
        if out.len() - body > 4 + self.deltas.len() / 8 {
            self.alternative.clear();
            if self.encode_grid() && self.alternative.len() < out.len() - body {
                out.truncate(body);
                out.extend_from_slice(&self.alternative);
                out[head] = out[head] & UNIT | GRID;
            }
        }
    }

    /// Divides the deltas by the unit that all are multiples of.
    fn divide_by_unit(&mut self) -> i64 {
        let mut unit = 0i64;
        for delta in &self.deltas {
            if *delta < 0 {
                return 1;
            }
            let mut rest = *delta;
            while rest != 0 {
                (unit, rest) = (rest, if unit == 0 { 0 } else { unit % rest });
            }
            if unit == 1 {
                return 1;
            }
        }
        if unit > 1 {
            self.deltas.iter_mut().for_each(|delta| *delta /= unit);
        }
        unit.max(1)
    }

    fn dods(&self) -> impl Iterator<Item = i64> {
        self.deltas.windows(2).map(|two| two[1].wrapping_sub(two[0]))
    }

    fn encode_dod(&mut self, out: &mut Vec<u8>) {
        varint::put_signed(self.deltas.first().copied().unwrap_or_default(), out);
        let mut words = std::mem::take(&mut self.words);
        words.clear();
        words.extend(self.dods().map(zigzag));
        pfor::encode(&words, out);
        self.words = words;
    }

    /// Fills `alternative`; `false` once it is not shorter than `most`.
    fn encode_rle(&mut self, most: usize) -> bool {
        let mut out = std::mem::take(&mut self.alternative);
        varint::put_signed(self.deltas.first().copied().unwrap_or_default(), &mut out);
        let mut rest = &self.words[..];
        while let Some(word) = rest.first() {
            let run = rest.iter().take_while(|other| *other == word).count();
            varint::put(*word, &mut out);
            varint::put(run as u64, &mut out);
            rest = &rest[run..];
            if out.len() >= most {
                break;
            }
        }
        let shorter = out.len() < most;
        self.alternative = out;
        shorter
    }

    /// Fills `alternative`; `false` if the timestamps stand on no grid.
    fn encode_grid(&mut self) -> bool {
        let count = self.deltas.len();
        self.residuals.clear();
        self.residuals.extend_from_slice(&self.deltas);
        let middle = *self.residuals.select_nth_unstable(count / 2).1;
        let span = self
            .deltas
            .iter()
            .try_fold(0i64, |sum, delta| (*delta >= 0).then(|| sum.checked_add(*delta)).flatten());
        let (Some(span), true) = (span.filter(|span| *span < 1 << 62), middle > 0) else {
            return false;
        };
        let slots: i64 =
            self.deltas.iter().map(|delta| ((delta + middle / 2) / middle).max(1)).sum();
        let step = (span + slots / 2) / slots;
        if step == 0 {
            return false;
        }
        self.words.clear();
        self.residuals.clear();
        let (mut at, mut slot) = (0i64, 0i64);
        for delta in &self.deltas {
            at += delta;
            let next = ((at + step / 2) / step).max(slot + 1);
            self.words.push((next - slot - 1).cast_unsigned());
            slot = next;
            let Some(residual) = slot.checked_mul(step).and_then(|grid| at.checked_sub(grid))
            else {
                return false;
            };
            self.residuals.push(residual);
        }
        let least = self.residuals.iter().copied().min().unwrap_or_default();
        let out = &mut self.alternative;
        varint::put(step.cast_unsigned(), out);
        varint::put_signed(least, out);
        pfor::encode(&self.words, out);
        self.words.clear();
        self.words.extend(self.residuals.iter().map(|x| x.wrapping_sub(least).cast_unsigned()));
        pfor::encode(&self.words, out);
        true
    }
}

/// Appends the `count` timestamps of a payload to `out`. The payload must hold nothing else.
pub fn decode(payload: &[u8], count: usize, out: &mut Vec<i64>) -> Result<(), CodecError> {
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

fn decode_onto(mut input: &[u8], count: usize, out: &mut Vec<i64>) -> Result<(), CodecError> {
    let Some(deltas) = count.checked_sub(1) else { return end_of(input) };
    let head = varint::take_byte(&mut input)?;
    let first = varint::take_signed(&mut input)?;
    out.push(first);
    let unit = if head & UNIT == 0 { 1 } else { varint::take(&mut input)?.cast_signed() };
    match head & !UNIT {
        GRID => decode_grid(&mut input, unit, first, deltas, out)?,
        mode @ (DOD | RLE) => {
            let delta = varint::take_signed(&mut input)?.wrapping_mul(unit);
            let Some(dods) = deltas.checked_sub(1) else { return end_of(input) };
            let second = first.wrapping_add(delta);
            out.push(second);
            let from = (second, delta);
            match mode {
                DOD => decode_dod(&mut input, unit, from, dods, out)?,
                _ => decode_rle(&mut input, unit, from, dods, out)?,
            }
        }
        _ => return Err(CodecError("unknown mode of a timestamp column")),
    }
    end_of(input)
}

fn decode_dod(
    input: &mut &[u8],
    unit: i64,
    (mut last, mut delta): (i64, i64),
    dods: usize,
    out: &mut Vec<i64>,
) -> Result<(), CodecError> {
    pfor::decode(input, dods, |words| {
        out.extend(words.iter().map(|word| {
            delta = delta.wrapping_add(unzigzag(*word).wrapping_mul(unit));
            last = last.wrapping_add(delta);
            last
        }));
    })
}

fn decode_rle(
    input: &mut &[u8],
    unit: i64,
    (mut last, mut delta): (i64, i64),
    mut dods: usize,
    out: &mut Vec<i64>,
) -> Result<(), CodecError> {
    while dods > 0 {
        let dod = varint::take_signed(input)?.wrapping_mul(unit);
        let run = varint::take_count(input, dods)?;
        if run == 0 {
            return Err(CodecError("empty run of timestamps"));
        }
        out.extend((0..run).map(|_| {
            delta = delta.wrapping_add(dod);
            last = last.wrapping_add(delta);
            last
        }));
        dods -= run;
    }
    Ok(())
}

fn decode_grid(
    input: &mut &[u8],
    unit: i64,
    first: i64,
    deltas: usize,
    out: &mut Vec<i64>,
) -> Result<(), CodecError> {
    let step = varint::take(input)?.cast_signed().wrapping_mul(unit);
    let least = varint::take_signed(input)?.wrapping_mul(unit);
    let start = out.len();
    let mut at = first.wrapping_add(least);
    pfor::decode(input, deltas, |words| {
        out.extend(words.iter().map(|word| {
            at = at.wrapping_add(step.wrapping_mul(word.cast_signed().wrapping_add(1)));
            at
        }));
    })?;
    let mut slots = out[start..].iter_mut();
    pfor::decode(input, deltas, |words| {
        for (word, at) in words.iter().zip(&mut slots) {
            *at = at.wrapping_add(word.cast_signed().wrapping_mul(unit));
        }
    })
}

fn end_of(input: &[u8]) -> Result<(), CodecError> {
    if input.is_empty() { Ok(()) } else { Err(CodecError("bytes behind a timestamp column")) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn round_trip(timestamps: &[i64]) -> (u8, usize) {
        let mut bytes = Vec::new();
        encode(timestamps, &mut bytes);
        let mut out = vec![1];
        decode(&bytes, timestamps.len(), &mut out).unwrap();
        assert_eq!(&out[1..], timestamps);
        for cut in 0..bytes.len().min(50) {
            assert!(decode(&bytes[..cut], timestamps.len(), &mut out).is_err());
        }
        (bytes.first().map_or(0, |head| head & !UNIT), bytes.len())
    }

    #[test]
    fn each_kind_of_column_finds_its_form() {
        let start = 1_700_000_000_000;
        assert_eq!(round_trip(&[]).1, 0);
        assert!(round_trip(&[start]).1 <= 9);
        let regular: Vec<i64> = (0..480).map(|i| start + i * 15_000).collect();
        assert!(round_trip(&regular).1 <= 13);
        let jitter =
            |i: i64| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15u64.cast_signed()) >> 40) % 3 + 3;
        let scraped: Vec<i64> = (0..480).map(|i| start + i * 15_000 + jitter(i)).collect();
        assert_eq!(round_trip(&scraped).0, GRID);
        assert!(round_trip(&scraped).1 <= 480 * 3 / 8 + 20);
        let holes: Vec<i64> =
            (0..480).filter(|i| i % 50 > 3).map(|i| start + i * 15_000 + jitter(i)).collect();
        assert_eq!(round_trip(&holes).0, GRID);
        assert!(round_trip(&holes).1 <= 480 * 3 / 8 + 40);
        let twice: Vec<i64> =
            (0..480).map(|i| start + i * 1_000 + if i > 300 { 77 } else { 0 }).collect();
        assert!(round_trip(&twice).1 <= 24);
        let slowing: Vec<i64> = (0..480).map(|i| start + i * i * 40).collect();
        assert_eq!(round_trip(&slowing).0, RLE);
        let minutes: Vec<i64> =
            (0..480).map(|i| start + i * 300_000 + jitter(i) * 60_000).collect();
        assert!(round_trip(&minutes).1 <= 480 * 3 / 8 + 20);
        round_trip(&[i64::MIN, i64::MAX, 0, -1, i64::MIN, i64::MIN]);
        round_trip(&[i64::MIN, -5, i64::MAX]);
        round_trip(&[0; 700]);
    }

    proptest! {
        #![proptest_config(crate::columnar::codec::test_config())]

        #[test]
        fn any_column_comes_back(
            start in any::<i64>(),
            step in 0i64..100_000,
            jitter in proptest::collection::vec((0i64..9, 0u8..20), 0..700),
            anything in proptest::collection::vec(any::<i64>(), 0..5),
        ) {
            let mut at = start;
            let mut column: Vec<i64> = jitter.iter().map(|(jitter, hole)| {
                at = at.wrapping_add(if *hole == 0 { step * 7 } else { step });
                at.wrapping_add(*jitter)
            }).collect();
            round_trip(&column);
            column.extend(anything);
            round_trip(&column);
        }

        #[test]
        fn any_bytes_decode_without_panic(
            mode in 0u8..4,
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            count in 0usize..1500,
        ) {
            let mut out = Vec::new();
            let _ = decode(&bytes, count, &mut out);
            for mode in [mode, mode | UNIT] {
                let _ = decode(&[&[mode], &bytes[..]].concat(), count, &mut out);
            }
            prop_assert!(out.len() <= 3 * count);
        }
    }
}
