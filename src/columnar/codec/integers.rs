//! A column of integers as narrow words: one of four transforms, then PFOR.
//!
//! ```text
//! For       u = x − min                       base = min
//! DeltaMin  u = (x − previous) − least delta  base = least delta,  first
//! Dod       u = zigzag(delta − delta before)  base = first delta,  first
//! DeltaMid  u = zigzag(delta − middle delta)  base = middle delta, first
//! column := zz base [zz first unless For] run(u)
//! ```
//!
//! All arithmetic wraps, so every column of i64 has a representation. The transform is chosen on
//! a sample of the column: a wrong guess costs bytes, never correctness.

use crate::columnar::codec::CodecError;
use crate::columnar::codec::pfor;
use crate::columnar::codec::varint::{self, unzigzag, zigzag};

/// Rows that the choice of the transform looks at.
const SAMPLE_ROWS: usize = 96;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Transform {
    For = 0,
    DeltaMin = 1,
    Dod = 2,
    DeltaMid = 3,
}

impl Transform {
    pub(crate) fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Transform::For,
            1 => Transform::DeltaMin,
            2 => Transform::Dod,
            _ => Transform::DeltaMid,
        }
    }
}

/// How a column will be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) transform: Transform,
    base: i64,
    /// Of the packed words, estimated.
    pub(crate) cost_bits: usize,
}

/// Memory that encoding reuses.
#[derive(Debug, Default)]
pub(crate) struct IntegerEncoder {
    deltas: Vec<i64>,
    words: Vec<u64>,
}

impl IntegerEncoder {
    /// Chooses the transform for `column`; [`IntegerEncoder::write`] must follow with the same.
    pub(crate) fn plan(&mut self, column: &[i64]) -> Plan {
        self.deltas.clear();
        self.deltas.extend(column.windows(2).map(|two| two[1].wrapping_sub(two[0])));
        let (min, max) = min_max(column);
        let span = max.wrapping_sub(min).cast_unsigned();
        let plain = Plan {
            transform: Transform::For,
            base: min,
            cost_bits: column.len() * (64 - span.leading_zeros()) as usize,
        };
        if span == 0 || column.len() < 3 {
            return plain;
        }
        self.plan_by_sample(column, plain)
    }

    fn plan_by_sample(&mut self, column: &[i64], plain: Plan) -> Plan {
        // An even stride would see only every other phase of alternating data.
        let deltas = &self.deltas[..];
        let stride = (deltas.len() / SAMPLE_ROWS).max(1) | 1;
        let rows = || (1..deltas.len()).step_by(stride);
        let (least, most) = min_max(deltas);
        if least == most {
            return Plan { transform: Transform::DeltaMin, base: least, cost_bits: 8 };
        }
        let mut sample = [0; SAMPLE_ROWS + 1];
        let mut taken = 0;
        for (slot, row) in sample.iter_mut().zip(rows()) {
            *slot = deltas[row];
            taken += 1;
        }
        let middle = *sample[..taken].select_nth_unstable(taken / 2).1;
        let scale = |bits: usize| bits * deltas.len() / rows().len().max(1);
        let mut best = plain;
        let mut offer = |transform: Transform, base: i64, cost_bits: usize| {
            if cost_bits < best.cost_bits {
                best = Plan { transform, base, cost_bits };
            }
        };
        let cost =
            pfor::cost_bits(rows().map(|row| column[row].wrapping_sub(plain.base).cast_unsigned()));
        offer(Transform::For, plain.base, scale(cost));
        let cost =
            pfor::cost_bits(rows().map(|row| deltas[row].wrapping_sub(least).cast_unsigned()));
        offer(Transform::DeltaMin, least, scale(cost));
        let cost = pfor::cost_bits(rows().map(|row| zigzag(deltas[row].wrapping_sub(middle))));
        offer(Transform::DeltaMid, middle, scale(cost));
        let cost =
            pfor::cost_bits(rows().map(|row| zigzag(deltas[row].wrapping_sub(deltas[row - 1]))));
        offer(Transform::Dod, deltas[0], scale(cost));
        best
    }

    pub(crate) fn write(&mut self, plan: Plan, column: &[i64], out: &mut Vec<u8>) {
        let Plan { transform, base, .. } = plan;
        varint::put_signed(base, out);
        if transform != Transform::For {
            varint::put_signed(column.first().copied().unwrap_or_default(), out);
        }
        let deltas = &self.deltas[..];
        let words = &mut self.words;
        words.clear();
        match transform {
            Transform::For => {
                words.extend(column.iter().map(|x| x.wrapping_sub(base).cast_unsigned()));
            }
            Transform::DeltaMin => {
                words.extend(deltas.iter().map(|delta| delta.wrapping_sub(base).cast_unsigned()));
            }
            Transform::DeltaMid => {
                words.extend(deltas.iter().map(|delta| zigzag(delta.wrapping_sub(base))));
            }
            Transform::Dod => {
                words.extend(deltas.windows(2).map(|two| zigzag(two[1].wrapping_sub(two[0]))));
            }
        }
        pfor::encode(words, out);
    }

    /// A whole column with the transform in front, for columns that stand alone.
    pub(crate) fn encode(&mut self, column: &[i64], out: &mut Vec<u8>) {
        let plan = self.plan(column);
        out.push(plan.transform as u8);
        self.write(plan, column, out);
    }
}

/// Decodes `count` integers off the front of `input`; `each` gets them block by block, as words
/// that it may overwrite.
pub(crate) fn decode_blocks(
    transform: Transform,
    input: &mut &[u8],
    count: usize,
    mut each: impl FnMut(&mut [u64]),
) -> Result<(), CodecError> {
    let base = varint::take_signed(input)?;
    if transform == Transform::For {
        return pfor::decode(input, count, |words| {
            let base = base.cast_unsigned();
            words.iter_mut().for_each(|word| *word = word.wrapping_add(base));
            each(words);
        });
    }
    let first = varint::take_signed(input)?;
    if count == 0 {
        return Ok(());
    }
    let mut last = first.cast_unsigned();
    each(&mut [last]);
    let base = base.cast_unsigned();
    match transform {
        Transform::For | Transform::DeltaMin => pfor::decode(input, count - 1, |words| {
            for word in words.iter_mut() {
                last = last.wrapping_add(base.wrapping_add(*word));
                *word = last;
            }
            each(words);
        }),
        Transform::DeltaMid => pfor::decode(input, count - 1, |words| {
            for word in words.iter_mut() {
                let delta = unzigzag(*word).cast_unsigned().wrapping_add(base);
                last = last.wrapping_add(delta);
                *word = last;
            }
            each(words);
        }),
        Transform::Dod => {
            if count == 1 {
                return Ok(());
            }
            let mut delta = base;
            last = last.wrapping_add(delta);
            each(&mut [last]);
            pfor::decode(input, count - 2, |words| {
                for word in words.iter_mut() {
                    delta = delta.wrapping_add(unzigzag(*word).cast_unsigned());
                    last = last.wrapping_add(delta);
                    *word = last;
                }
                each(words);
            })
        }
    }
}

/// Decodes what [`IntegerEncoder::encode`] wrote, appending to `out`; `count` must be bounded by
/// the caller.
pub(crate) fn decode(
    input: &mut &[u8],
    count: usize,
    out: &mut Vec<i64>,
) -> Result<(), CodecError> {
    let transform = varint::take_byte(input)?;
    if transform > 3 {
        return Err(CodecError("unknown transform"));
    }
    decode_blocks(Transform::from_bits(transform), input, count, |words| {
        out.extend(words.iter().map(|word| word.cast_signed()));
    })
}

fn min_max(column: &[i64]) -> (i64, i64) {
    let first = column.first().copied().unwrap_or_default();
    column.iter().fold((first, first), |(min, max), x| (min.min(*x), max.max(*x)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(column: &[i64]) -> usize {
        let mut encoder = IntegerEncoder::default();
        let mut bytes = Vec::new();
        encoder.encode(column, &mut bytes);
        let mut input = &bytes[..];
        let mut out = Vec::new();
        decode(&mut input, column.len(), &mut out).unwrap();
        assert_eq!(out, column);
        assert!(input.is_empty());
        // Each transform must hold for each column, whichever was chosen.
        for transform in [Transform::DeltaMin, Transform::Dod, Transform::DeltaMid] {
            let base = match transform {
                Transform::Dod => encoder.deltas.first().copied().unwrap_or_default(),
                _ => 17,
            };
            let mut bytes = Vec::new();
            encoder.write(Plan { transform, base, cost_bits: 0 }, column, &mut bytes);
            let mut out = Vec::new();
            decode_blocks(transform, &mut &bytes[..], column.len(), |words| {
                out.extend(words.iter().map(|word| word.cast_signed()));
            })
            .unwrap();
            assert_eq!(out, column, "{transform:?}");
        }
        bytes.len()
    }

    #[test]
    fn columns_of_all_shapes_come_back() {
        assert!(round_trip(&[]) <= 4);
        assert!(round_trip(&[i64::MIN]) <= 14);
        round_trip(&[i64::MIN, i64::MAX, 0, -1, i64::MIN]);
        assert!(round_trip(&(0..2000).map(|i| i * 15).collect::<Vec<_>>()) <= 10);
        assert!(round_trip(&(0..480).map(|i| i * i).collect::<Vec<_>>()) <= 190);
        assert!(round_trip(&(0..480).map(|i| 1000 + (i * 7) % 13).collect::<Vec<_>>()) < 250);
        assert!(round_trip(&(0..480).map(|i| i / 100).collect::<Vec<_>>()) < 40);
        round_trip(
            &(0..1030).map(|i| i64::wrapping_mul(i, 0x1234_5678_9ABC_DEF1) ^ i).collect::<Vec<_>>(),
        );
    }
}
