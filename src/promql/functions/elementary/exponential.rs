//! Exponentials and logarithms, and powers by both.

use std::f64::consts::{LOG2_E, LOG10_E, SQRT_2};

use crate::promql::functions::elementary::{horner, power_of_two, scale, split};

/// ln 2 in two parts, the first of which has room for an exponent's bits.
pub(super) const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
pub(super) const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// Coefficients of `(ln((1 + s) / (1 - s)) - 2 s) / s` in powers of `s²`, lowest first.
pub(super) const LOG: [f64; 7] = [
    6.666_666_666_666_735e-1,
    3.999_999_999_940_942e-1,
    2.857_142_874_366_239e-1,
    2.222_219_843_214_978_4e-1,
    1.818_357_216_161_805e-1,
    1.531_383_769_920_937_3e-1,
    1.479_819_860_511_658_6e-1,
];

/// The natural logarithm.
pub(crate) fn ln(x: f64) -> f64 {
    if x.is_nan() || x == f64::INFINITY {
        return x;
    }
    if x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    let (mut fraction, mut exponent) = split(x);
    if fraction < SQRT_2 / 2.0 {
        fraction *= 2.0;
        exponent -= 1;
    }
    let f = fraction - 1.0;
    let k = f64::from(exponent);
    let s = f / (2.0 + f);
    let s2 = s * s;
    let s4 = s2 * s2;
    let odd = s2 * (LOG[0] + s4 * (LOG[2] + s4 * (LOG[4] + s4 * LOG[6])));
    let even = s4 * (LOG[1] + s4 * (LOG[3] + s4 * LOG[5]));
    let rest = odd + even;
    let half = 0.5 * f * f;
    k * LN2_HIGH - ((half - (s * (half + rest) + k * LN2_LOW)) - f)
}

/// The logarithm to base 2, exact for powers of two.
pub(crate) fn log2(x: f64) -> f64 {
    if x.is_nan() || x <= 0.0 || x == f64::INFINITY {
        return ln(x);
    }
    let (fraction, exponent) = split(x);
    if fraction == 0.5 {
        return f64::from(exponent - 1);
    }
    ln(fraction) * LOG2_E + f64::from(exponent)
}

/// The logarithm to base 10.
pub(crate) fn log10(x: f64) -> f64 {
    ln(x) * LOG10_E
}

/// ln 2 in two parts for [`exp`].
const EXP_LN2_HIGH: f64 = 0.693_147_180_559_663;
const EXP_LN2_LOW: f64 = 2.823_529_056_303_157_7e-13;
/// From here on the result is infinite.
const EXP_MAX: f64 = 7.097_827_128_933_84e2;

/// Taylor coefficients of `(e^x - 1) / x`, highest first.
const EXP: [f64; 8] =
    [1.0 / 40_320.0, 1.0 / 5_040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0];

/// `e^x`: a Taylor series for a sixteenth of what is left after the powers of two, then squared
/// four times. With fused multiplications, as processors of today have them.
#[expect(clippy::cast_possible_truncation, reason = "bounded just before")]
pub(crate) fn exp(x: f64) -> f64 {
    if x.is_nan() || x == f64::INFINITY {
        return x;
    }
    if x >= EXP_MAX {
        return f64::INFINITY;
    }
    if x < -1_000.0 {
        return 0.0;
    }
    let whole = (x * LOG2_E).round_ties_even();
    let rest = (-EXP_LN2_LOW).mul_add(whole, (-EXP_LN2_HIGH).mul_add(whole, x)) * 0.0625;
    let series = EXP.iter().copied().reduce(|sum, next| sum.mul_add(rest, next));
    // `grown` is e^rest - 1; (1 + g)² - 1 = g (g + 2).
    let mut grown = rest * series.unwrap_or_default();
    for _ in 0..3 {
        grown *= grown + 2.0;
    }
    scale(grown.mul_add(grown + 2.0, 1.0), whole as i32)
}

/// `x^y`: the whole part of the exponent by repeated squaring, the rest by [`exp`] and [`ln`].
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below 2^63")]
pub(crate) fn pow(x: f64, y: f64) -> f64 {
    if let Some(special) = special_power(x, y) {
        return special;
    }
    let (mut whole, mut rest) = (y.abs().trunc(), y.abs().fract());
    if rest != 0.0 && x < 0.0 {
        return f64::NAN;
    }
    if whole >= power_of_two(63) {
        // A large even number.
        return match (x == -1.0, (x.abs() < 1.0) == (y > 0.0)) {
            (true, _) => 1.0,
            (false, true) => 0.0,
            (false, false) => f64::INFINITY,
        };
    }
    let (mut result, mut result_exponent) = (1.0, 0_i32);
    if rest != 0.0 {
        if rest > 0.5 {
            rest -= 1.0;
            whole += 1.0;
        }
        result = exp(rest * ln(x));
    }
    let (mut square, mut exponent) = split(x);
    let mut left = whole as u64;
    while left != 0 {
        if !(-4_096..=4_096).contains(&exponent) {
            // Whatever is left, it overflows, or vanishes.
            result_exponent += exponent;
            break;
        }
        if left & 1 == 1 {
            result *= square;
            result_exponent += exponent;
        }
        square *= square;
        exponent *= 2;
        if square < 0.5 {
            square += square;
            exponent -= 1;
        }
        left >>= 1;
    }
    if y < 0.0 {
        (result, result_exponent) = (1.0 / result, -result_exponent);
    }
    scale(result, result_exponent)
}

fn special_power(x: f64, y: f64) -> Option<f64> {
    let inverts_sign = || x.is_sign_negative() && is_odd(y);
    Some(if y == 0.0 || x == 1.0 {
        1.0
    } else if y == 1.0 {
        x
    } else if x.is_nan() || y.is_nan() {
        f64::NAN
    } else if x == 0.0 {
        match (y < 0.0, inverts_sign()) {
            (true, true) => f64::NEG_INFINITY,
            (true, false) => f64::INFINITY,
            (false, true) => x,
            (false, false) => 0.0,
        }
    } else if y.is_infinite() {
        match (x == -1.0, (x.abs() < 1.0) == (y > 0.0)) {
            (true, _) => 1.0,
            (false, true) => 0.0,
            (false, false) => f64::INFINITY,
        }
    } else if x.is_infinite() {
        match (y < 0.0, inverts_sign()) {
            (true, true) => -0.0,
            (true, false) => 0.0,
            (false, true) => f64::NEG_INFINITY,
            (false, false) => f64::INFINITY,
        }
    } else if y == 0.5 {
        x.sqrt()
    } else if y == -0.5 {
        1.0 / x.sqrt()
    } else {
        return None;
    })
}

fn is_odd(y: f64) -> bool {
    // Numbers of 2^53 and more are even.
    y.abs() < power_of_two(53) && y % 2.0 != 0.0 && y.fract() == 0.0
}

/// `ln(1 + x)`, for small `x` too.
pub(super) fn ln_1p(x: f64) -> f64 {
    const SQRT2_LESS_1: f64 = SQRT_2 - 1.0;
    const HALF_SQRT2_LESS_1: f64 = -2.928_932_188_134_525e-1;
    const MANTISSA: u64 = (1 << 52) - 1;
    const ONE: u64 = 0x3ff << 52;
    const HALF: u64 = 0x3fe << 52;
    /// The mantissa of √2.
    const SQRT2_MANTISSA: u64 = 0x0006_a09e_667f_3bcd;
    if x < -1.0 || x.is_nan() {
        return f64::NAN;
    }
    if x == -1.0 {
        return f64::NEG_INFINITY;
    }
    if x == f64::INFINITY {
        return x;
    }
    let size = x.abs();
    if size < power_of_two(-54) {
        return x;
    }
    if size < power_of_two(-29) {
        return x - x * x * 0.5;
    }
    // 1 + x = 2^k (1 + f), and what rounding took from it.
    let (mut k, mut f, mut lost, mut mantissa) = (0_i64, x, 0.0, 1);
    if size >= SQRT2_LESS_1 || x <= HALF_SQRT2_LESS_1 {
        let mut sum = x;
        if size < power_of_two(53) {
            sum = 1.0 + x;
        }
        let bits = sum.to_bits();
        k = (bits >> 52) as i64 - 1_023;
        if size < power_of_two(53) {
            lost = if k > 0 { 1.0 - (sum - x) } else { x - (sum - 1.0) };
            lost /= sum;
        }
        mantissa = bits & MANTISSA;
        if mantissa < SQRT2_MANTISSA {
            sum = f64::from_bits(mantissa | ONE);
        } else {
            k += 1;
            sum = f64::from_bits(mantissa | HALF);
            mantissa = ((1 << 52) - mantissa) >> 2;
        }
        f = sum - 1.0;
    }
    let power = k as f64;
    let half = 0.5 * f * f;
    if mantissa == 0 {
        if f == 0.0 {
            return if k == 0 { 0.0 } else { power * LN2_HIGH + (lost + power * LN2_LOW) };
        }
        let rest = half * (1.0 - 2.0 / 3.0 * f);
        return match k {
            0 => f - rest,
            _ => power * LN2_HIGH - ((rest - (power * LN2_LOW + lost)) - f),
        };
    }
    let s = f / (2.0 + f);
    let z = s * s;
    let [one, two, three, four, five, six, seven] = LOG;
    let rest = z * horner(z, &[seven, six, five, four, three, two, one]);
    match k {
        0 => f - (half - s * (half + rest)),
        _ => power * LN2_HIGH - ((half - (s * (half + rest) + (power * LN2_LOW + lost))) - f),
    }
}
