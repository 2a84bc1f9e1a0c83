//! Doubles as scaled integers: which power of ten makes a column whole, and the exact way back.
//!
//! A double written as a decimal of up to 15 digits is `i / 10^e` in true division; one that a
//! program computed as `x * 0.001` is `i * 10^-e`. Both are tried. Values that miss get a
//! correction in units in the last place, so the form is always exact.

use crate::columnar::codec::simd;

/// Largest power of ten: 10^17 and all below are exact doubles.
pub(crate) const EXPONENT_MAX: u8 = 17;
/// Scaled integers stay below this, where conversion is one addition.
pub(crate) const INTEGER_LIMIT: f64 = (1u64 << 51) as f64;
/// 1.5 · 2^52: adding it rounds a double to an integer that stands in the low bits.
const MAGIC: f64 = 6_755_399_441_055_744.0;

/// Values that the choice of the scale looks at.
const SAMPLE_VALUES: usize = 32;
/// Estimated bits for the position of a correction.
const CORRECTION_BITS: u32 = 5;

const POWERS: [f64; 18] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17,
];
const INVERSES: [f64; 18] = [
    1e0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14,
    1e-15, 1e-16, 1e-17,
];

/// How an integer becomes a double.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scale {
    exponent: u8,
    /// `i * 10^-e` instead of `i / 10^e`.
    multiply: bool,
}

const MULTIPLY_FLAG: u8 = 32;

impl Scale {
    pub(crate) const WHOLE: Scale = Scale { exponent: 0, multiply: false };

    pub(crate) fn to_byte(self) -> u8 {
        self.exponent | if self.multiply { MULTIPLY_FLAG } else { 0 }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        let exponent = byte & !MULTIPLY_FLAG;
        let known = exponent <= EXPONENT_MAX;
        known.then_some(Self { exponent, multiply: byte & MULTIPLY_FLAG != 0 })
    }

    fn power(self) -> f64 {
        POWERS[usize::from(self.exponent)]
    }

    fn inverse(self) -> f64 {
        INVERSES[usize::from(self.exponent)]
    }

    /// The double that stands for `integer`.
    #[inline]
    pub(crate) fn to_double(self, integer: i64) -> f64 {
        let double = to_double(integer.cast_unsigned());
        if self.multiply { double * self.inverse() } else { double / self.power() }
    }

    /// The nearest integer, if it is in the range of the form.
    #[inline]
    pub(crate) fn to_integer(self, value: f64) -> Option<i64> {
        let scaled = value * self.power();
        (scaled.abs() < INTEGER_LIMIT).then(|| to_integer(scaled))
    }

    /// The integer that stands for `value` exactly.
    #[inline]
    pub(crate) fn exact(self, value: f64) -> Option<i64> {
        self.to_integer(value)
            .filter(|integer| self.to_double(*integer).to_bits() == value.to_bits())
    }

    /// Writes the nearest integer of every value and returns how many are not exact. Those beyond
    /// the range get an integer of no meaning.
    pub(crate) fn scale_all(self, values: &[f64], integers: &mut Vec<i64>) -> usize {
        let power = self.power();
        if self.multiply {
            let inverse = self.inverse();
            scale_all(values, power, integers, |rounded| rounded * inverse)
        } else if self.exponent == 0 {
            scale_all(values, power, integers, |rounded| rounded)
        } else {
            scale_all(values, power, integers, |rounded| rounded / power)
        }
    }

    /// Appends integers, given as words, as doubles.
    pub(crate) fn to_doubles(self, integers: &[u64], out: &mut Vec<f64>) {
        if self.exponent == 0 {
            simd::widest(|| convert(integers, out, |double| double));
        } else if self.multiply {
            let inverse = self.inverse();
            simd::widest(|| convert(integers, out, |double| double * inverse));
        } else {
            // Wide divisions were measured slower than narrow ones.
            let power = self.power();
            convert(integers, out, |double| double / power);
        }
    }
}

#[inline(always)]
fn convert(integers: &[u64], out: &mut Vec<f64>, scale: impl Fn(f64) -> f64) {
    out.extend(integers.iter().map(|integer| scale(to_double(*integer))));
}

#[inline(always)]
fn scale_all(
    values: &[f64],
    power: f64,
    integers: &mut Vec<i64>,
    back: impl Fn(f64) -> f64,
) -> usize {
    integers.clear();
    let mut misses = 0u64;
    integers.extend(values.iter().map(|value| {
        let scaled = value * power;
        let magic = scaled + MAGIC;
        let exact =
            (back(magic - MAGIC).to_bits() == value.to_bits()) & (scaled.abs() < INTEGER_LIMIT);
        misses += u64::from(!exact);
        magic.to_bits().wrapping_sub(MAGIC.to_bits()).cast_signed()
    }));
    usize::try_from(misses).unwrap_or(usize::MAX)
}

/// Exact for integers in ±2^51; others give some double.
#[inline(always)]
pub(crate) fn to_double(integer: u64) -> f64 {
    f64::from_bits(integer.wrapping_add(MAGIC.to_bits())) - MAGIC
}

/// Rounds to the nearest integer; the value must be below [`INTEGER_LIMIT`].
#[inline(always)]
fn to_integer(value: f64) -> i64 {
    (value + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits()).cast_signed()
}

/// The scale that makes the column cheapest, judged by a sample; `None` if no decimal form is
/// worth a try.
pub(crate) fn choose(values: &[f64]) -> Option<Scale> {
    let stride = (values.len() / SAMPLE_VALUES).max(1) | 1;
    let mut sample = [0.0; SAMPLE_VALUES];
    let mut count = 0;
    let finite = values.iter().step_by(stride).filter(|value| value.is_finite());
    for (slot, value) in sample.iter_mut().zip(finite) {
        *slot = *value;
        count += 1;
    }
    let sample = &sample[..count];
    if count > 0 && sample.iter().all(|value| Scale::WHOLE.exact(*value).is_some()) {
        return Some(Scale::WHOLE);
    }
    let mut candidates = Candidates::default();
    for value in sample {
        candidates.offer(*value);
        // Doubles of full precision are recognised early.
        if candidates.missed == 8 && candidates.scales.is_empty() {
            return None;
        }
    }
    candidates
        .scales
        .iter()
        .map(|scale| (cost_bits(*scale, sample), *scale))
        .min_by_key(|(cost, _)| *cost)
        .map(|(_, scale)| scale)
}

#[derive(Default)]
struct Candidates {
    scales: smallvec::SmallVec<[Scale; 40]>,
    missed: usize,
}

impl Candidates {
    fn offer(&mut self, value: f64) {
        match shortest(value).or_else(|| near(value)) {
            Some(scale) if !self.scales.contains(&scale) => self.scales.push(scale),
            Some(_) => {}
            None => self.missed += 1,
        }
    }
}

/// The smallest exponent in the dividing form.
fn shortest(value: f64) -> Option<Scale> {
    // A decimal of few digits is exact at every exponent that leaves the integer in range, so
    // one look at the largest such exponent decides.
    let largest = (1..=EXPONENT_MAX)
        .rev()
        .map(|exponent| Scale { exponent, multiply: false })
        .find(|scale| (value * scale.power()).abs() < INTEGER_LIMIT)
        .unwrap_or(Scale::WHOLE);
    let mut integer = largest.exact(value)?;
    let mut exponent = largest.exponent;
    while exponent > 0 && integer % 10 == 0 {
        integer /= 10;
        exponent -= 1;
    }
    Some(Scale { exponent, multiply: false })
}

/// The smallest exponent at which the multiplying form is exact, or either is off by a few units
/// in the last place.
fn near(value: f64) -> Option<Scale> {
    const EXPONENT_NEAR_MAX: u8 = 9;
    const ULPS_NEAR: i64 = 32;
    for exponent in 0..=EXPONENT_NEAR_MAX {
        for multiply in [true, false] {
            let scale = Scale { exponent, multiply };
            let integer = scale.to_integer(value)?;
            let ulps = correction(scale.to_double(integer), value);
            if integer != 0 && (ulps == 0 || (!multiply && ulps.abs() < ULPS_NEAR)) {
                return Some(scale);
            }
        }
    }
    None
}

/// What must be added to the bits of `from` to get those of `to`.
#[inline(always)]
pub(crate) fn correction(from: f64, to: f64) -> i64 {
    to.to_bits().wrapping_sub(from.to_bits()).cast_signed()
}

fn cost_bits(scale: Scale, sample: &[f64]) -> u32 {
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    let mut corrections = 0;
    for value in sample {
        let Some(integer) = scale.to_integer(*value) else {
            corrections += 64 + CORRECTION_BITS;
            continue;
        };
        let double = scale.to_double(integer);
        let ulps = correction(double, *value);
        if ulps != 0 {
            corrections += CORRECTION_BITS + 65 - ulps.unsigned_abs().leading_zeros();
        }
        (least, most) = (least.min(double), most.max(double));
    }
    let span = ((most - least) * scale.power() + 1.0).log2().clamp(0.0, 64.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped above")]
    let bits = (span * sample.len() as f64) as u32;
    bits + corrections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_exponent_is_found() {
        let scale = |values: &[f64]| choose(values).map(Scale::to_byte);
        assert_eq!(scale(&[1.0, 2.0, -3.0]), Some(0));
        assert_eq!(scale(&[0.5, 2.25, -3.0]), Some(2));
        assert_eq!(scale(&[45.2, 45.3, 46.0, f64::NAN]), Some(1));
        assert_eq!(scale(&[70832.0 * 0.001, 70833.0 * 0.001, 70834.0 * 0.001]), Some(3 | 32));
        assert_eq!(scale(&[std::f64::consts::PI, std::f64::consts::E, 2f64.sqrt()]), None);
        assert_eq!(scale(&[f64::NAN, f64::INFINITY]), None);
        assert_eq!(scale(&[f64::MAX, 1.0]), Some(0));
    }

    #[test]
    fn integers_convert_both_ways() {
        for integer in [0, 1, -1, 4503, (1 << 51) - 1, -(1 << 51) + 1] {
            assert_eq!(to_integer(to_double(i64::cast_unsigned(integer))), integer);
        }
        assert_eq!(Scale::WHOLE.exact(-0.0), None);
        assert_eq!(Scale::WHOLE.exact(INTEGER_LIMIT), None);
        assert_eq!(Scale::from_byte(18), None);
    }
}
